// Command tally builds bit-identical enclave images, computes what the hardware will say about them,
// signs and logs that, and lets anybody else check it.
//
// Each command lives in one file of this package and is listed in commands.go. stdout is the answer,
// stderr is the talk; the exit code is the verdict (see exit.go).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"tally/mkimage/steps"
)

func main() {
	steps.Main(os.Args) // does not return in the init of a build step
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Main(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Command tally-keyless verifies certificates and signs without a key for tally, which starts it (protocol:
// tally/internal/keylesswire). It is of no use by hand.
package main

import (
	"context"
	"os"
	"os/signal"

	"tally/release/keyless/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := process.Main(ctx, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

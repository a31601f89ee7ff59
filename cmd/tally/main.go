// Command tally builds bit-identical enclave images, computes what the hardware will say about them,
// signs and logs that, and lets anybody else check it.
//
// Each command lives in one file of this package and is listed in commands.go. stdout is the answer,
// stderr is the talk; the exit code is the verdict (see exit.go).
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"tally/mkimage/steps"
)

func main() {
	steps.Main(os.Args) // does not return in the init of a build step
	log.SetOutput(libraryTalk{os.Stderr})
	os.Exit(runProcess(time.Second, 20*time.Second))
}

// libraryTalk is what the standard log gets, where net/http says what it cannot return. A server's bytes after its answer
// concern nobody, and are the server's to choose.
type libraryTalk struct{ w io.Writer }

func (t libraryTalk) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("Unsolicited response received on idle HTTP channel")) {
		return len(b), nil
	}
	return t.w.Write(b)
}

// guarded runs a command line. Go ends a program that panics with 2, which is a verdict of ours on the arguments.
func guarded(stderr io.Writer, command func() int) (code int) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(stderr, "tally: error: internal error, which is a defect of tally: %v\n%s", p, debug.Stack())
			code = exitFailed
		}
	}()
	return command()
}

// runProcess runs the command line. A signal has it stop in good order. A command may not be able to, while it waits for a
// pipe or a terminal: a second signal, settle after the first, ends it as if nobody listened (one that comes at once is the same, sent to
// process and group), and after patience it ends by itself. Either leaves what SIGKILL leaves.
func runProcess(settle, patience time.Duration) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	done := make(chan int, 1)
	go func() {
		done <- guarded(os.Stderr, func() int { return Main(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr) })
	}()
	select {
	case code := <-done:
		return code
	case <-ctx.Done():
	}
	again := time.AfterFunc(settle, stop)
	defer again.Stop()
	select {
	case code := <-done:
		return code
	case <-time.After(patience):
		fmt.Fprintf(os.Stderr, "tally: error: interrupted, and not stopped within %v: temporary files may be left\n", patience)
		return exitFailed
	}
}

//go:build linux

// Command enclave is PID 1 of an image's root file system and the service it exists for. cmd/init has
// verified the root before this runs; package internal/guest makes the machine fit to serve, and then
// runServer answers until it fails or the machine is told to stop. There is no shell, no login and
// no other process but the engine, if the configuration names one: this program starts itself again in
// fresh namespaces, gives up what it has, and becomes it. When the server ends, for whatever reason, the machine powers off.
//
// Lines on the console start with "tally-enclave: "; `tally-enclave: serving on :PORT` says that
// connections are accepted.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tally/enclave"
	"tally/enclave/infer"
	"tally/internal/guest"
)

func main() {
	if os.Args[0] == guest.EngineName {
		guest.ExecEngine(os.Args)
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "tally-enclave: this is PID 1 of an enclave image, not a command to run")
		os.Exit(2)
	}
	err := run()
	end := "stopped"
	if err != nil {
		end = "refused: " + oneLine(err.Error())
	}
	fmt.Println("tally-enclave: " + end)
	fmt.Println("tally-enclave: power off:", guest.PowerOff()) // only printed when it fails
	os.Exit(1)                                                 // the end of PID 1 is a kernel panic, which ends the machine
}

func run() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v", r)
		}
	}()
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: consoleAttr}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := guest.LoadConfig(guest.ConfigPath)
	if err != nil {
		return err
	}
	if err := guest.Setup(c, log); err != nil {
		return err
	}
	if err := guest.CtrlAltDelSignals(); err != nil {
		return err
	}
	reaper := new(guest.Reaper)
	go reaper.Run(ctx)
	ln, err := net.Listen("tcp", c.Listen.String())
	if err != nil {
		return err
	}
	defer ln.Close()
	printPCRs()
	printEventLog()
	fmt.Printf("tally-enclave: serving on :%d\n", c.Listen.Port())
	if c.Engine == nil {
		return runServer(ctx, ln, enclave.Echo{}, log)
	}
	return runInference(ctx, ln, c.Engine, reaper, log)
}

// runInference serves the engine. When it cannot be started at all, the machine ends.
func runInference(ctx context.Context, ln net.Listener, e *guest.Engine, r *guest.Reaper, log *slog.Logger) error {
	engine, err := infer.New(infer.Options{Socket: guest.EngineSocket, Patience: 30 * time.Second}, time.Now)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- guest.RunEngine(ctx, e, r, "/proc/self/exe", log, nil)
	}()
	err = runServer(ctx, ln, engine, log)
	cancel()
	return errors.Join(err, <-ended)
}

// consoleAttr leaves out the time: the guest's clock is the host's word.
func consoleAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s)
}

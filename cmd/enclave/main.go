//go:build linux

// Command enclave is PID 1 of an image's root file system and the service it exists for. cmd/init has
// verified the root before this runs; package internal/guest makes the machine fit to serve, and then
// runServer answers until it fails or the machine is told to stop. There is no shell, no login and
// no other process but the engine, if the configuration names one: this program starts itself again in
// fresh namespaces, gives up what it has, and becomes it. With a section gpu (guest.GPUs) there is also the helper that talks to the
// driver, one call at a time; then nothing is accepted before the GPUs are verified and the engine was seen on them, unless the
// engine waits for an operator's secrets: then sessions are, and requests are not. When the server ends, for whatever reason, the
// machine powers off.
//
// Lines on the console start with "tally-enclave: "; `tally-enclave: serving on :PORT` says that there is
// evidence to show and connections are accepted.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"tally/enclave/channel/vsock"
	"tally/enclave/channel/ws"
	"tally/enclave/operate"
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
	metrics := new(operate.Metrics)
	bootPhase(metrics, "root")
	log := slog.New(operate.Handler(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: consoleAttr})))
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
	go reaper.Run(context.WithoutCancel(ctx)) // RunEngine waits for the end of what it kills, which the reaper tells
	bootPhase(metrics, "system")
	a, err := thisMachine().attester(c.Attesters)
	if err != nil {
		return err
	}
	announce(a, log)
	ln, err := listenAt(c)
	if err != nil {
		return err
	}
	defer ln.Close()
	printPCRs()
	printEventLog()
	return serveAll(ctx, c, ln, a, reaper, metrics, log)
}

// listenAt opens the service's place, where c says.
func listenAt(c *guest.Config) (ln net.Listener, err error) {
	if c.Vsock != 0 {
		ln, err = vsock.Listen(vsock.Addr{CID: vsock.AnyCID, Port: c.Vsock})
	} else {
		ln, err = net.Listen("tcp", c.Listen.String())
	}
	if err != nil {
		return nil, err
	}
	if c.WebSocket != "" {
		ln = ws.Serve(ln, c.WebSocket)
	}
	return ln, nil
}

// place names it on the console.
func place(c *guest.Config) string {
	if c.Vsock != 0 {
		return fmt.Sprintf("vsock:%d", c.Vsock)
	}
	return fmt.Sprintf(":%d", c.Listen.Port())
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

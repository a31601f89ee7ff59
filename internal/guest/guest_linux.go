package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// linkWait is how long a network interface may take to appear.
const linkWait = 10 * time.Second

// Setup makes the machine ready to serve: mounts, host name, network and, last, the lock-down. It is
// for PID 1 of a verified root. Any error means that the guest must not serve.
func Setup(c *Config, log *slog.Logger) error {
	unix.Umask(0o077)
	if err := mountAll(); err != nil {
		return err
	}
	if err := checkRoot(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	if err := configureNetwork(c.Network, linkWait); err != nil {
		return err
	}
	absent, err := lockDown("", settings)
	if err != nil {
		return err
	}
	log.Info("system ready", "hostname", c.Hostname, "locked", len(settings)-len(absent), "not in this kernel", absent)
	return nil
}

// A Reaper collects the dead children of PID 1: those it has started itself, whose end it tells, and the
// orphans that were given to it. It collects every child of this process, so nothing else here may start
// one with os/exec while it runs.
type Reaper struct {
	mu    sync.Mutex // held while a child is started, so that its end is not met before its name
	known map[int]chan unix.WaitStatus
}

// Run collects until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	defer signal.Stop(died)
	for {
		for r.collect() {
		}
		select {
		case <-ctx.Done():
			return
		case <-died:
		}
	}
}

// collect takes one dead child and reports whether there may be more.
func (r *Reaper) collect() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if errors.Is(err, unix.EINTR) {
		return true
	}
	if err != nil || pid == 0 {
		return false
	}
	if c, ok := r.known[pid]; ok {
		delete(r.known, pid)
		c <- status
	}
	return true
}

// fork calls start, which makes a child, and returns a channel that gets the child's end.
func (r *Reaper) fork(start func() (pid int, err error)) (int, <-chan unix.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := start()
	if err != nil {
		return 0, nil, err
	}
	if r.known == nil {
		r.known = map[int]chan unix.WaitStatus{}
	}
	c := make(chan unix.WaitStatus, 1)
	r.known[pid] = c
	return pid, c, nil
}

// PowerOff ends the machine. It returns only when the kernel refuses, with its error.
func PowerOff() error {
	unix.Sync()
	time.Sleep(100 * time.Millisecond) // the last line on a slow serial console
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// CtrlAltDelSignals makes the console's ctrl-alt-del send SIGINT to PID 1 instead of restarting at once.
func CtrlAltDelSignals() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }

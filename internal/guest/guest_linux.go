package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
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

// Reap collects the orphans that become children of PID 1, until ctx ends. It collects every child of
// this process, so nothing else here may start one with os/exec while it runs.
func Reap(ctx context.Context) {
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	defer signal.Stop(died)
	for {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || pid == 0 {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-died:
		}
	}
}

// PowerOff ends the machine. It returns only when the kernel refuses, with its error.
func PowerOff() error {
	unix.Sync()
	time.Sleep(100 * time.Millisecond) // the last line on a slow serial console
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// CtrlAltDelSignals makes the console's ctrl-alt-del send SIGINT to PID 1 instead of restarting at once.
func CtrlAltDelSignals() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime is how long output is read after a program has ended: something that it started may hold the pipe.
const drainTime = time.Second

// Command runs a program to its end with an empty environment, no input, and no network but its own loopback, and copies what it
// prints. It is what os/exec would be, had it not to share its children with the Reaper. The program and all that it
// started in its process group die when ctx ends, or when a writer returns an error, which then is Command's.
func (r *Reaper) Command(ctx context.Context, path string, args []string, stdout, stderr io.Writer) error {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	out, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	complaint, complaintW, err := os.Pipe()
	if err != nil {
		outW.Close()
		return err
	}
	defer complaint.Close()
	pid, died, err := r.fork(func() (int, error) {
		return syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{Dir: "/", Env: []string{},
			Files: []uintptr{null.Fd(), outW.Fd(), complaintW.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNET}})
	})
	outW.Close()
	complaintW.Close()
	if err != nil {
		return &os.PathError{Op: "start", Path: path, Err: err}
	}
	copied := make(chan error, 2)
	for _, c := range []struct {
		to   io.Writer
		from *os.File
	}{{stdout, out}, {stderr, complaint}} {
		go func() {
			_, err := io.Copy(c.to, c.from)
			copied <- err
		}()
	}
	return r.await(ctx, pid, died, copied, out, complaint)
}

// await is the rest of a Command that has started: copied delivers twice, when an output was read to its end.
func (r *Reaper) await(ctx context.Context, pid int, died <-chan unix.WaitStatus, copied <-chan error, pipes ...*os.File) error {
	kill := func() { _ = unix.Kill(-pid, unix.SIGKILL) } // the group; gone is good
	var err error
	left := len(pipes)
	done := ctx.Done()
	for status, ended := unix.WaitStatus(0), false; ; {
		select {
		case <-done:
			err, done = ctx.Err(), nil
			kill()
		case e := <-copied:
			left--
			if e != nil && err == nil && !errors.Is(e, os.ErrDeadlineExceeded) {
				err = e
				kill()
			}
		case status = <-died:
			ended = true
			died = nil
			for _, p := range pipes {
				_ = p.SetReadDeadline(time.Now().Add(drainTime)) // a pipe has deadlines
			}
		}
		if !ended || left > 0 {
			continue
		}
		kill() // what it left behind
		if err == nil && (!status.Exited() || status.ExitStatus() != 0) {
			err = errors.New(ending(status))
		}
		return err
	}
}

// PIDNamespace names the PID namespace of a process.
func PIDNamespace(pid int) (string, error) {
	ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	if err != nil {
		return "", fmt.Errorf("process %d: %w", pid, err)
	}
	return ns, nil
}

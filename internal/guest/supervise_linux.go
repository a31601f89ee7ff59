package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long an engine's end is waited out before it is started again: from firstWait, doubled each time, to
// lastWait. One that ran for steady starts over with firstWait.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 10 * time.Second
	steady    = time.Minute
)

// cgroupRoot is where mounts puts the unified hierarchy.
const cgroupRoot = "/sys/fs/cgroup"

// Hooks follow an engine. Each may be nil; RunEngine waits for it.
type Hooks struct {
	Before  func(ctx context.Context) error // before each start; an error ends RunEngine
	Started func(pid int, stop func())      // stop kills it, unless it has ended: Ended was called
	Ended   func(n int)                     // with the number of ends so far
}

// RunEngine keeps e running until ctx ends, and then kills it. self is the path of a program that calls
// ExecEngine when its argv[0] is EngineName. RunEngine returns an error only when an engine cannot be started at all.
func RunEngine(ctx context.Context, e *Engine, r *Reaper, self string, log *slog.Logger, hooks Hooks) error {
	group, err := makeCgroup(cgroupRoot, e.MemoryMiB)
	if err != nil {
		return fmt.Errorf("engine: cgroup: %w", err)
	}
	if group != nil {
		defer group.Close()
	}
	wait := firstWait
	for n := 1; ; n++ {
		if err := beforeStart(ctx, e.UID, hooks); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("engine: %w", err)
		}
		if n == 1 {
			log.Info("engine starts", "uid", e.UID, "cgroup", group != nil)
		}
		began := time.Now()
		end, err := r.runOnce(ctx, e, self, group, hooks)
		if err != nil {
			return fmt.Errorf("engine: %w", err)
		} else if end == "" {
			return nil
		}
		if time.Since(began) > steady {
			wait = firstWait
		}
		log.Warn("engine ended", "status", end, "ends", n, "starts again in", wait)
		if hooks.Ended != nil {
			hooks.Ended(n)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, lastWait)
	}
}

// beforeStart makes a place for the engine's socket and asks the hook.
func beforeStart(ctx context.Context, uid int, hooks Hooks) error {
	if err := makeEngineDir(uid); err != nil {
		return err
	}
	if hooks.Before == nil {
		return nil
	}
	return hooks.Before(ctx)
}

// runOnce runs e until it ends, and says how; or until ctx does, and then kills it and says nothing.
func (r *Reaper) runOnce(ctx context.Context, e *Engine, self string, group *os.File, hooks Hooks) (end string, err error) {
	pid, died, why, err := r.start(self, e, group)
	if err != nil {
		return "", err
	}
	defer why.Close()
	if hooks.Started != nil {
		hooks.Started(pid, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	}
	select {
	case <-ctx.Done():
		// Its PID namespace dies with its first process.
		if err := unix.Kill(pid, unix.SIGKILL); err == nil {
			<-died
		}
		return "", nil
	case status := <-died:
		return ending(status) + reason(why), nil
	}
}

// reason reads what the program said before it became the engine, nothing if it did: the engine itself
// never has this pipe.
func reason(why *os.File) string {
	b, err := io.ReadAll(io.LimitReader(why, 300))
	if err != nil || len(b) == 0 {
		return ""
	}
	return " before it began: " + string(b)
}

func ending(s unix.WaitStatus) string {
	if s.Signaled() {
		return "signal " + strconv.Itoa(int(s.Signal()))
	}
	return "exit " + strconv.Itoa(s.ExitStatus())
}

// makeEngineDir makes the directory that enclave and engine share, the engine's own. It is a file system of its own, and a
// new one for each engine: to remove what the one before has left there would take as long as that engine liked, and could fail.
func makeEngineDir(uid int) error {
	if err := os.Mkdir(engineDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Unmount(engineDir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) { // invalid: the first
		return &os.PathError{Op: "unmount", Path: engineDir, Err: err}
	}
	data := fmt.Sprintf("mode=0700,uid=%d,gid=%d,size=16m,nr_inodes=4k", uid, uid)
	if err := unix.Mount("tmpfs", engineDir, "tmpfs", noExec, data); err != nil {
		return &os.PathError{Op: "mount", Path: engineDir, Err: err}
	}
	return nil
}

// makeCgroup makes a cgroup below root with a limit on memory and processes. It is nil when the kernel has
// no unified hierarchy there; that is no error unless a limit was asked for.
func makeCgroup(root string, memoryMiB int64) (*os.File, error) {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); errors.Is(err, fs.ErrNotExist) {
		if memoryMiB > 0 {
			return nil, errors.New("this kernel has none, and memory-mib wants one")
		}
		return nil, nil
	}
	dir := filepath.Join(root, "engine")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	write := func(name, value string) error { return os.WriteFile(filepath.Join(root, name), []byte(value), 0) }
	if err := write("cgroup.subtree_control", "+pids"); err == nil {
		if err := write("engine/pids.max", "4096"); err != nil {
			return nil, err
		}
	}
	if memoryMiB > 0 {
		if err := write("cgroup.subtree_control", "+memory"); err != nil {
			return nil, err
		}
		if err := write("engine/memory.max", strconv.FormatInt(memoryMiB<<20, 10)); err != nil {
			return nil, err
		}
	}
	return os.Open(dir)
}

// start starts self as the engine e in namespaces of its own. What it says on why it did not become the
// engine can be read from why.
func (r *Reaper) start(self string, e *Engine, group *os.File) (pid int, died <-chan unix.WaitStatus, why *os.File, err error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return 0, nil, nil, err
	}
	defer null.Close()
	why, say, err := os.Pipe()
	if err != nil {
		return 0, nil, nil, err
	}
	defer say.Close()
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{}, Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), say.Fd()},
		Sys: &syscall.SysProcAttr{Cloneflags: engineNamespaces, Setsid: true}}
	if group != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(group.Fd())
	}
	argv := append([]string{EngineName, strconv.Itoa(e.UID), e.grant().String()}, e.Command...)
	pid, died, err = r.fork(func() (int, error) { return syscall.ForkExec(self, argv, attr) })
	if err != nil {
		why.Close()
	}
	return pid, died, why, err
}

package guest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A grant is what an engine has beyond the least, as it stands in its arguments.
type grant struct {
	gpu, loopback, secrets bool
	sharedMiB              int64
}

func (e *Engine) grant() grant { return grant{e.GPU, e.Loopback, e.Secrets, e.SharedMiB} }

func (g grant) String() string {
	return fmt.Sprintf("gpu=%t,loopback=%t,secrets=%t,shared=%d", g.gpu, g.loopback, g.secrets, g.sharedMiB)
}

// parseGrant accepts what String writes.
func parseGrant(text string) (g grant, err error) {
	_, err = fmt.Sscanf(text, "gpu=%t,loopback=%t,secrets=%t,shared=%d", &g.gpu, &g.loopback, &g.secrets, &g.sharedMiB)
	if err != nil || g.String() != text || g.sharedMiB < 0 || g.sharedMiB > maxMemoryMiB {
		return g, fmt.Errorf("grant %.80q: want gpu=true|false,loopback=true|false,secrets=true|false,shared=MIB", text)
	}
	return g, nil
}

// EngineName is the argv[0] by which this program is asked to become the engine: see ExecEngine.
const EngineName = "tally-engine"

// engineNamespaces are those of a fresh engine process, before ExecEngine furnishes them.
const engineNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// engineEnv is all of an engine's environment.
var engineEnv = []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8"}

// ExecEngine is the inside of an engine's fresh namespaces: it takes everything away that an engine does
// not need and becomes the engine. args are EngineName, the user, the grant, and the command. It does not return: when
// it fails, it says why on sayWhy, which the engine itself does not have, and ends the process.
func ExecEngine(args []string) {
	unix.CloseOnExec(sayWhy)
	err := execEngine(args)
	_, _ = unix.Write(sayWhy, []byte(err.Error())) // the exit code still says that it failed
	os.Exit(125)
}

// sayWhy is the file descriptor of RunEngine's pipe.
const sayWhy = 3

func execEngine(args []string) error {
	runtime.LockOSThread() // privileges, filter and exec are this thread's
	if len(args) < 4 || args[0] != EngineName {
		return errors.New("engine: want a user, a grant and a command")
	}
	g, err := parseGrant(args[2])
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	uid, err := strconv.Atoi(args[1])
	if err != nil || uid < 1 || uid > maxEngineUser {
		return fmt.Errorf("engine: user %q: want 1 to %d", args[1], maxEngineUser)
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"mounts", func() error { return furnish(g) }},
		{"loopback", func() error { return upLoopback(g.loopback) }},
		{"limits", limitEngine},
		{"user", func() error { return becomeUser(uid) }},
		{"no-new-privileges", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"seccomp", func() error { return seccomp(g.loopback) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("engine: %s: %w", step.name, err)
		}
	}
	return fmt.Errorf("engine: %w", syscall.Exec(args[3], args[3:], engineEnv))
}

// furnish gives the mount namespace its own /run, /tmp, /dev, /proc and /sys. What lies below them in the
// enclave's (TPM devices, configfs with the reports of the platform, other sockets) is gone.
func furnish(g grant) error {
	var devices []device
	if g.gpu {
		all, err := gpuDevices("")
		if err != nil {
			return err
		}
		devices = slices.DeleteFunc(all, func(d device) bool { return !d.engine })
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	places, err := openPlaces(g)
	if err != nil {
		return err
	}
	mounts := []mount{
		{path: "/run", fs: "tmpfs", flags: noExec, data: "mode=0755,size=64k"},
		{path: "/tmp", fs: "tmpfs", flags: noExec, data: "mode=1777,size=64m,nr_inodes=16k"},
		{path: "/dev", fs: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "mode=0755,size=64k"},
		{path: "/sys", fs: "tmpfs", flags: noExec | unix.MS_RDONLY, data: "size=64k"},
	}
	if g.sharedMiB > 0 {
		mounts = append(mounts, mount{path: "/dev/shm", fs: "tmpfs", flags: noExec, data: fmt.Sprintf("mode=1777,size=%dm", g.sharedMiB)})
	}
	if err := mountOver(mounts); err != nil {
		return err
	}
	for _, p := range places {
		if err := p.bind(); err != nil {
			return err
		}
	}
	if err := makeDevices(devices); err != nil {
		return err
	}
	// Last, because the way to the places leads through the old one.
	return mountOver([]mount{{path: "/proc", fs: "proc", flags: noExec | unix.MS_RDONLY}})
}

// openPlaces opens what an engine keeps of the enclave's mounts, before these are covered.
func openPlaces(g grant) ([]place, error) {
	shared, err := openPlace(engineDir, 0)
	if err != nil || !g.secrets {
		return []place{shared}, err
	}
	secrets, err := openPlace(SecretsDir, noExec|unix.MS_RDONLY)
	return []place{shared, secrets}, err
}

// mountOver mounts file systems in order, on directories that it makes where the one before has none.
func mountOver(mounts []mount) error {
	for _, m := range mounts {
		if err := os.Mkdir(m.path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := unix.Mount(m.fs, m.path, m.fs, m.flags, m.data); err != nil {
			return &os.PathError{Op: "mount", Path: m.path, Err: err}
		}
	}
	return nil
}

// makeDevices makes the character devices of memory and randomness (major 1), and others.
func makeDevices(more []device) error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		more = append(more, device{name: name, major: 1, minor: minor})
	}
	if err := makeNodes("/dev", more, 0o666); err != nil {
		return err
	}
	return unix.Mount("", "/dev", "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC, "")
}

// upLoopback sets the one interface of the engine's network namespace up; the kernel then gives it 127.0.0.1.
func upLoopback(wanted bool) error {
	if !wanted {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// limitEngine forbids core files and bounds what the cgroup does not.
func limitEngine() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4096, Max: 4096}))
}

// becomeUser gives up root and every capability, also those that a program's file could give.
func becomeUser(uid int) error {
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(last[:max(0, len(last)-1)]))
	if err != nil {
		return err
	}
	for c := 0; c <= n; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return err
		}
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(uid, uid, uid); err != nil {
		return err
	}
	return syscall.Setresuid(uid, uid, uid)
}

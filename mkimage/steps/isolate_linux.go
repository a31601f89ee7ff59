package steps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// addrNoRandomize is of personality(2): addresses are the same in every process.
const addrNoRandomize = 0x0040000

// deviceNames are the devices of a build root.
var deviceNames = []string{"null", "zero", "full", "random", "urandom"}

func devices() []string {
	var all []string
	for _, d := range deviceNames {
		all = append(all, "/dev/"+d)
	}
	return all
}

// isolate gives this process a machine of its own: names, an empty file system with devices and /proc, and
// no way back to the old one.
func isolate(req *request) error {
	unix.Umask(0)
	// No namespaces within: the kernel counts them for this user namespace alone.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return fmt.Errorf("user.max_user_namespaces: %w", err)
	}
	if err := unix.Sethostname([]byte(HostName)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := unix.Setdomainname([]byte("(none)")); err != nil {
		return fmt.Errorf("domain name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts: %w%s", err, apparmor(err))
	}
	options := fmt.Sprintf("mode=0755,size=%d", req.Step.Disk)
	if err := unix.Mount("tally", req.Mount, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("build root: tmpfs: %w", err)
	}
	if err := kernelFiles(req.Mount); err != nil {
		return err
	}
	if err := os.Chdir(req.Mount); err != nil {
		return err
	}
	// The new root is put over the old one, which is then taken away from under it: pivot_root(2).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount of the old root: %w", err)
	}
	return os.Chdir("/")
}

// apparmor is what to look for when a new user namespace exists and has no rights.
func apparmor(err error) string {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return ": the user namespace has no rights (kernel.apparmor_restrict_unprivileged_userns?)"
	}
	return ""
}

// kernelFiles makes dev and proc in the build root at dir.
func kernelFiles(dir string) error {
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{{"dev", 0o755}, {"dev/shm", 0o777 | os.ModeSticky}, {"proc", 0o555}, {"tmp", 0o777 | os.ModeSticky}} {
		p := filepath.Join(dir, d.name)
		if err := errors.Join(os.Mkdir(p, d.mode), os.Chmod(p, d.mode)); err != nil {
			return err
		}
	}
	for _, d := range deviceNames {
		p := filepath.Join(dir, "dev", d)
		if err := os.WriteFile(p, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+d, p, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("device %s: %w", d, err)
		}
		// A device on a read-only mount can be written to; its owner and mode, which are the host's, can not.
		a := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}
		if err := unix.MountSetattr(unix.AT_FDCWD, p, 0, &a); err != nil {
			return fmt.Errorf("device %s: mount_setattr: %w", d, err)
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dir, "dev", name)); err != nil {
			return err
		}
	}
	// subset=pid: processes alone. Settings of the host, which root could change through it, are not there.
	if err := unix.Mount("proc", filepath.Join(dir, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "subset=pid"); err != nil {
		return fmt.Errorf("proc with subset=pid: %w", err)
	}
	return nil
}

// lookPath finds a program in the build root as a shell would.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range env {
		dirs, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			p := filepath.Join(dir, name)
			if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && filepath.IsAbs(p) {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("command %.80q: not in the build root's PATH", name)
}

// renounce takes from this thread, and what it starts, every capability for good, and fixes what a
// process has of its own: limits, address layout, CPUs.
func renounce(vary bool) error {
	if err := fixProcess(vary); err != nil {
		return err
	}
	return dropCapabilities()
}

// fixProcess gives every run the same limits, and the same addresses or, to vary, others and one CPU.
func fixProcess(vary bool) error {
	unix.Umask(0o022)
	for _, l := range []struct {
		resource  int
		soft, max uint64
	}{{unix.RLIMIT_CORE, 0, 0}, {unix.RLIMIT_NOFILE, 1024, 4096}, {unix.RLIMIT_STACK, 8 << 20, 64 << 20}} {
		if err := setLimit(l.resource, l.soft, l.max); err != nil {
			return err
		}
	}
	personality := uintptr(addrNoRandomize)
	if vary {
		personality = 0
		var one unix.CPUSet
		if err := firstCPU(&one); err != nil {
			return err
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_PERSONALITY, personality, 0, 0); e != 0 {
		return fmt.Errorf("personality: %w", e)
	}
	return nil
}

// dropCapabilities leaves no capability, no way to one, and no key of the caller's.
func dropCapabilities() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && c > unix.CAP_LAST_CAP {
			break
		}
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	const noRoot = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7 // SECBIT_NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, each locked
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot, 0, 0, 0); err != nil {
		return fmt.Errorf("securebits: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	// A keyring of its own: the caller's, and the keys in it, would be seen.
	if _, _, e := unix.RawSyscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0); e != 0 && e != unix.ENOSYS {
		return fmt.Errorf("keyring: %w", e)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// setLimit sets a limit of this process, as far as the host's own allows.
func setLimit(resource int, soft, hard uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return fmt.Errorf("limit %d: %w", resource, err)
	}
	hard = min(hard, now.Max)
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: min(soft, hard), Max: hard}); err != nil {
		return fmt.Errorf("limit %d: %w", resource, err)
	}
	return nil
}

// firstCPU leaves this thread the lowest of its CPUs.
func firstCPU(one *unix.CPUSet) error {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	for i := range 8 * len(all) * 8 {
		if all.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, one); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	return nil
}

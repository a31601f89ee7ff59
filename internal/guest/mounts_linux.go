package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// A mount is one file system the guest runs with.
type mount struct {
	path, fs string
	flags    uintptr
	data     string
	optional bool // the kernel may lack it
}

// mounts in order. Only /dev may hold devices; nothing here may hold a program. /sys/kernel/config is
// where TEE reports come from (configfs-tsm).
var mounts = []mount{
	{path: "/proc", fs: "proc", flags: noExec},
	{path: "/sys", fs: "sysfs", flags: noExec},
	{path: "/dev", fs: "devtmpfs", flags: unix.MS_NOSUID | unix.MS_NOEXEC},
	{path: "/run", fs: "tmpfs", flags: noExec, data: "mode=0755,size=16m,nr_inodes=4k"},
	{path: "/tmp", fs: "tmpfs", flags: noExec, data: "mode=1777,size=64m,nr_inodes=16k"},
	{path: "/sys/kernel/security", fs: "securityfs", flags: noExec, optional: true},
	{path: "/sys/fs/cgroup", fs: "cgroup2", flags: noExec, optional: true},
	{path: "/sys/kernel/config", fs: "configfs", flags: noExec, optional: true},
}

// mountAll mounts what is not there yet and sets the flags of what the initrd's init left.
func mountAll() error {
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return nil
}

func (m mount) do() error {
	there, err := isMounted(m.path)
	switch {
	case err != nil && m.optional && errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case there:
		return unix.Mount("", m.path, "", unix.MS_REMOUNT|unix.MS_BIND|m.flags, "")
	}
	err = unix.Mount(m.fs, m.path, m.fs, m.flags, m.data)
	if m.optional && errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// isMounted says whether a mount stands at path: a directory on another device than its parent.
func isMounted(path string) (bool, error) {
	var st, up unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, fmt.Errorf("%s is no directory", path)
	}
	if err := unix.Lstat(path+"/..", &up); err != nil {
		return false, err
	}
	return st.Dev != up.Dev, nil
}

// checkRoot wants the root file system read-only: what runs must be what was measured.
func checkRoot() error {
	var s unix.Statfs_t
	if err := unix.Statfs("/", &s); err != nil {
		return err
	}
	if s.Flags&unix.ST_RDONLY == 0 {
		return errors.New("root file system: writable, want it read-only")
	}
	return nil
}

// readTrimmed reads a small kernel file.
func readTrimmed(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// keep are the mounts that go along into the root, with the flags they have from here on.
var keep = []struct {
	path, fs string
	flags    uintptr
}{
	{"/proc", "proc", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC},
	{"/sys", "sysfs", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC},
	{"/dev", "devtmpfs", syscall.MS_NOSUID | syscall.MS_NOEXEC},
}

// mountKernelFiles also sees to it that a panic ends the machine, whatever the command line says.
func mountKernelFiles() error {
	for _, m := range keep {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.fs, m.path, m.fs, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return os.WriteFile("/proc/sys/kernel/panic", []byte("-1"), 0)
}

// openConsole gives the process a console in case the initramfs had no /dev/console when it started.
func openConsole() {
	f, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return
	}
	for fd := range 3 {
		_ = syscall.Dup3(int(f.Fd()), fd, 0)
	}
	f.Close()
}

// handOver mounts the root and its model volumes, empties the initramfs and executes the root's init. It returns only on
// failure.
func handOver(device string) error {
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(device, newRoot, "erofs", syscall.MS_RDONLY|syscall.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	if err := mountModels(newRoot); err != nil {
		return err
	}
	for _, m := range keep {
		if err := syscall.Mount(m.path, newRoot+m.path, "", syscall.MS_MOVE, ""); err != nil {
			return fmt.Errorf("root: directory %s: %w", m.path, err)
		}
	}
	if err := emptyInitramfs("/"); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := errors.Join(syscall.Chroot("."), os.Chdir("/")); err != nil {
		return err
	}
	say("starting %s", rootInit)
	// A fixed environment: the kernel turns unknown words of the command line into variables.
	err := syscall.Exec(rootInit, []string{rootInit}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux"})
	return fmt.Errorf("exec %s: %w", rootInit, err)
}

// Magic numbers of statfs(2) for the file systems an initramfs can be.
const (
	ramfsMagic = 0x858458f6
	tmpfsMagic = 0x01021994
)

// emptyInitramfs frees the memory of the initramfs at dir. It removes what lies on that file system and
// nothing else, and only when it really is an initramfs.
func emptyInitramfs(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type != ramfsMagic && fs.Type != tmpfsMagic {
		return fmt.Errorf("%s is a file system of type 0x%x, not an initramfs", dir, fs.Type)
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(dir, &st); err != nil {
		return err
	}
	return removeBelow(dir, st.Dev)
}

func removeBelow(dir string, dev uint64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			return err
		}
		if st.Dev != dev { // the new root
			continue
		}
		if e.IsDir() {
			if err := removeBelow(p, dev); err != nil {
				return err
			}
		}
		if err := os.Remove(p); err != nil && !errors.Is(err, syscall.EBUSY) { // busy: a mount point
			return err
		}
	}
	return nil
}

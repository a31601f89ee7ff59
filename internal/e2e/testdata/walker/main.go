// Command walker is the init of a test image: it prints the SHA-256 of a listing of everything below
// /t, as the kernel shows it. TestKernelReadsErofs computes the same from the tree that was written.
package main

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	h := sha256.New()
	n, err := walk(h, "/t")
	fmt.Printf("walker: %d lines, digest %x, error %v\n", n, h.Sum(nil), err)
	for {
		time.Sleep(time.Hour) // an empty select is a deadlock to the runtime, and the end of init a panic
	}
}

// walk lists a directory: a line with the digest of its names, a line for each of them (of very many: for
// each 97th), and what is below.
func walk(h hash.Hash, dir string) (lines int, err error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return 0, err
	}
	names := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(names, "%q\n", e.Name())
	}
	fmt.Fprintf(h, "%q %d names %x\n", dir, len(entries), names.Sum(nil))
	lines++
	for i, e := range entries {
		if len(entries) > 10_000 && i%97 != 0 {
			continue
		}
		p := dir + "/" + e.Name()
		line, err := describe(p)
		if err != nil {
			return lines, err
		}
		fmt.Fprintf(h, "%q %s\n", p, line)
		lines++
		if e.IsDir() {
			n, err := walk(h, p)
			lines += n
			if err != nil {
				return lines, err
			}
		}
	}
	return lines, nil
}

func describe(p string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(p, &st); err != nil {
		return "", fmt.Errorf("%q: %w", p, err)
	}
	size, content := st.Size, ""
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		size = 0
	case syscall.S_IFREG:
		b, err := os.ReadFile(p)
		if err != nil {
			return "", err
		}
		content = fmt.Sprintf("%x", sha256.Sum256(b))
	case syscall.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			return "", err
		}
		content = target
	}
	x, err := xattrs(p, st.Mode&syscall.S_IFMT == syscall.S_IFREG)
	return fmt.Sprintf("%o %d:%d links %d time %d.%d device %d size %d content %q xattrs %q",
		st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec, st.Rdev, size, content, x), err
}

func xattrs(p string, regular bool) ([]string, error) {
	var all []string
	if !regular {
		return all, nil
	}
	buf := make([]byte, 64<<10)
	n, err := syscall.Listxattr(p, buf)
	if err != nil {
		return nil, fmt.Errorf("listxattr %q: %w", p, err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := syscall.Getxattr(p, name, value)
		if err != nil {
			return nil, fmt.Errorf("getxattr %q %q: %w", p, name, err)
		}
		all = append(all, name+"="+string(value[:n]))
	}
	slices.Sort(all)
	return all, nil
}

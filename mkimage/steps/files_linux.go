package steps

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// unpack fills the build root, which is this process's root, from the stream of a request, and makes the
// directory that the command starts in.
func unpack(in io.Reader, s *Step) error {
	tr := tar.NewReader(in)
	var dirs []*tar.Header
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, h)
		}
		if err := unpackEntry(tr, h); err != nil {
			return err
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- { // what is put into a directory moves its time
		p := "/" + dirs[i].Name
		if err := errors.Join(os.Chmod(p, fs.FileMode(dirs[i].Mode&0o777)|special(dirs[i].Mode)), setTime(p, dirs[i].ModTime)); err != nil {
			return err
		}
	}
	if s.Dir != "" {
		if err := os.MkdirAll("/"+s.Dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/" + s.Dir, "/dev", "/tmp", "/"} { // made just now, or changed
		if err := setTime(dir, time.Unix(s.Epoch, 0)); err != nil {
			return err
		}
	}
	return nil
}

func unpackEntry(tr *tar.Reader, h *tar.Header) error {
	p := "/" + filepath.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(p, 0o755)
	case tar.TypeSymlink:
		return errors.Join(os.Symlink(h.Linkname, p), setTime(p, h.ModTime))
	case tar.TypeLink:
		return os.Link("/"+h.Linkname, p)
	}
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, tr)
	return errors.Join(err, f.Chmod(fs.FileMode(h.Mode&0o777)|special(h.Mode)), f.Close(), setTime(p, h.ModTime))
}

// special is the bits of mode that os spells differently.
func special(mode int64) fs.FileMode {
	var m fs.FileMode
	for _, b := range []struct {
		bit  int64
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&b.bit != 0 {
			m |= b.mode
		}
	}
	return m
}

func setTime(p string, t time.Time) error {
	ts := unix.Timespec{Sec: t.Unix()}
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// checkOutputs says which output cannot be taken, before any is sent.
func checkOutputs(s *Step) error {
	var total int64
	for i := range s.Outputs {
		err := walkOutput(s, i, func(_, p string, fi fs.FileInfo) error {
			switch {
			case fi.Mode().IsRegular():
				total += fi.Size()
			case fi.IsDir(), fi.Mode()&fs.ModeSymlink != 0:
			default:
				return fmt.Errorf("is a %s, want files, directories and symbolic links", kindName(fi.Mode()))
			}
			if total > s.Disk {
				return fmt.Errorf("outputs of more than %d bytes", s.Disk)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func kindName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "device"
}

// walkOutput calls f for each file of an output, sorted, with its name in the stream.
func walkOutput(s *Step, index int, f func(name, p string, fi fs.FileInfo) error) error {
	top := "/" + s.Outputs[index].Path
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == top {
			return fmt.Errorf("output %q: the command has not made it", s.Outputs[index].Path)
		}
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			err = f(filepath.Join(fmt.Sprint(index), p[len(top):]), p, fi)
		}
		if err != nil {
			return fmt.Errorf("output %q: %w", p[1:], err)
		}
		return nil
	})
}

// sendOutputs writes the outputs as a tar stream: modes as they are, no times, no owners.
func sendOutputs(out io.Writer, s *Step) error {
	tw := tar.NewWriter(out)
	for i := range s.Outputs {
		if err := walkOutput(s, i, func(name, p string, fi fs.FileInfo) error { return sendFile(tw, name, p, fi) }); err != nil {
			return err
		}
	}
	return tw.Close()
}

func sendFile(tw *tar.Writer, name, p string, fi fs.FileInfo) error {
	h := &tar.Header{Name: name, Mode: int64(fi.Mode().Perm())}
	switch {
	case fi.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return tw.WriteHeader(h)
	case fi.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(p)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, link
		return tw.WriteHeader(h)
	}
	h.Typeflag, h.Size = tar.TypeReg, fi.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}

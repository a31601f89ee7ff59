package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
	writer "tally/mkimage/erofs"
	"tally/mkimage/tree"
)

const epoch = 1767225600

// A seen is what one path shows.
type seen struct {
	Mode, UID, GID, Nlink, Rdev uint32
	MTime, Size                 int64
	Target, Content             string
	Xattrs                      map[string]string
}

func readAll(t testing.TB, m *Image) map[string]seen {
	t.Helper()
	got := map[string]seen{}
	err := m.Walk(func(path string, n *Inode) error {
		s := seen{Mode: uint32(n.Mode), UID: n.UID, GID: n.GID, Nlink: n.Nlink, Rdev: n.Rdev, MTime: n.MTime, Target: n.Target, Xattrs: n.Xattrs}
		if n.Kind() == KindFile {
			b, err := io.ReadAll(m.Content(n))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			s.Size, s.Content = n.Size, string(b)
		}
		got[path] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i/256*13 + i/4096)
	}
	return b
}

// fixture is a tree with every kind of entry, and what a reader must show of it.
func fixture(t testing.TB) (*tree.Tree, map[string]seen) {
	t.Helper()
	tr, want := tree.New(), map[string]seen{}
	add := func(e tree.Entry, s seen) {
		t.Helper()
		if e.Path != "" {
			if err := tr.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		s.UID, s.GID, s.MTime, s.Size = e.UID, e.GID, e.MTime, e.Size
		if s.Nlink == 0 {
			s.Nlink = 1
		}
		want["/"+e.Path] = s
	}
	file := func(path string, data []byte) tree.Entry {
		e := tree.NewFile(path, 0o640, data, "test")
		e.UID, e.GID, e.MTime = 70000, 5, epoch-5
		return e
	}
	add(tree.Entry{Kind: tree.Dir}, seen{Mode: 0o040755, Nlink: 5})
	for _, dir := range []string{"many", "size", "x"} {
		add(tree.Entry{Path: dir, Kind: tree.Dir, Mode: 0o1777}, seen{Mode: 0o041777, Nlink: 2})
	}
	for _, n := range []int{0, 1, 2048, 2049, 4095, 4096, 4097, 100001} {
		add(file(fmt.Sprintf("size/%d", n), pattern(n)), seen{Mode: 0o100640, Content: string(pattern(n))})
	}
	for i := range 700 {
		add(file(fmt.Sprintf("many/%03d", i), []byte{byte(i)}), seen{Mode: 0o100640, Content: string([]byte{byte(i)})})
	}
	caps := file("x/caps", []byte("caps"))
	caps.Xattrs = map[string][]byte{"security.capability": {1, 2, 3}, "user.empty": nil, "system.posix_acl_access": []byte("acl")}
	xattrs := map[string]string{"security.capability": "\x01\x02\x03", "user.empty": "", "system.posix_acl_access": "acl"}
	add(caps, seen{Mode: 0o100640, Content: "caps", Xattrs: xattrs, Nlink: 2})
	if err := tr.Add(tree.Entry{Path: "x/link", Kind: tree.HardLink, Link: "x/caps"}); err != nil {
		t.Fatal(err)
	}
	want["/x/link"] = want["/x/caps"]
	add(tree.Entry{Path: "x/sym", Kind: tree.Symlink, Mode: 0o777, Link: "../size"}, seen{Mode: 0o120777, Target: "../size"})
	long := strings.Repeat("/0123456789", 300)
	add(tree.Entry{Path: "x/longsym", Kind: tree.Symlink, Mode: 0o777, Link: long}, seen{Mode: 0o120777, Target: long})
	add(tree.Entry{Path: "x/null", Kind: tree.CharDev, Mode: 0o666, Major: 1, Minor: 3}, seen{Mode: 0o020666, Rdev: 1<<8 | 3})
	add(tree.Entry{Path: "x/fifo", Kind: tree.FIFO, Mode: 0o600}, seen{Mode: 0o010600})
	return tr, want
}

func image(t testing.TB, tr *tree.Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := writer.Write(t.Context(), &b, tr, writer.Options{Epoch: epoch, Label: "fixture"}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, b []byte) *Image {
	t.Helper()
	m, err := Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLayoutV1(t *testing.T) {
	tr, want := fixture(t)
	m := open(t, image(t, tr))
	if d := cmp.Diff(want, readAll(t, m)); d != "" {
		t.Errorf("tree differs (-want +got):\n%.4000s", d)
	}
	if s := m.Super; !s.ChecksumStands || s.Label != "fixture" || s.BuildTime != epoch || s.BlockSize != 4096 {
		t.Errorf("superblock %+v", s)
	}
}

// makeDir fills a directory with what an ordinary user can make.
func makeDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range []int{0, 1, 100, 4095, 4096, 5000, 70000} {
		path := filepath.Join(dir, "sub", fmt.Sprintf("file%d", n))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, pattern(n), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 600 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("a rather long name to fill blocks with %d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(filepath.Join(dir, "sub/file5000"), filepath.Join(dir, "hard")), os.Symlink("sub/file1", filepath.Join(dir, "soft")),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o640), os.Chmod(filepath.Join(dir, "sub"), 0o2750)); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"sub/file100", "sub/file1"} { // the same value twice becomes a shared xattr
		if err := syscall.Setxattr(filepath.Join(dir, f), "user.note", []byte("shared by two files"), 0); err != nil && !errors.Is(err, syscall.ENOTSUP) {
			t.Fatal(err)
		}
	}
	return dir
}

// fromDisk is what lstat shows of dir.
func fromDisk(t testing.TB, dir string) map[string]seen {
	t.Helper()
	want := map[string]seen{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		s := seen{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), MTime: st.Mtim.Sec}
		switch info.Mode().Type() {
		case 0:
			b, rerr := os.ReadFile(path)
			s.Content, s.Size, err = string(b), info.Size(), rerr
		case os.ModeSymlink:
			s.Target, err = os.Readlink(path)
		}
		b := make([]byte, 100)
		if n, xerr := syscall.Getxattr(path, "user.note", b); xerr == nil && info.Mode().IsRegular() {
			s.Xattrs = map[string]string{"user.note": string(b[:n])}
		}
		want["/"+strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")] = s
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func mkfs(t testing.TB, dir string, options ...string) []byte {
	t.Helper()
	tool := testtool.Need(t, "mkfs.erofs")
	out := filepath.Join(t.TempDir(), "image")
	if msg, err := exec.Command(tool, append(append([]string{"--quiet"}, options...), out, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs %q: %v\n%s", options, err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What mkfs.erofs makes of a directory must read back as the directory.
func TestMkfs(t *testing.T) {
	dir := makeDir(t)
	want := fromDisk(t, dir)
	for _, options := range [][]string{{"-Eforce-inode-extended"}, {"-Enoinline_data,force-inode-extended"}, {"-T1700000000"}, {"-x1", "-Eforce-inode-compact", "-T1700000000"}} {
		b := mkfs(t, dir, options...)
		got := readAll(t, open(t, b))
		for path, s := range got {
			w := want[path]
			if strings.HasPrefix(options[len(options)-1], "-T") {
				w.MTime = 1700000000
			}
			if d := cmp.Diff(w, s); d != "" {
				t.Errorf("%q: %s (-want +got):\n%.1000s", options, path, d)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%q: %d paths, want %d", options, len(got), len(want))
		}
	}
}

func TestCompressedIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), bytes.Repeat([]byte("compress me "), 10000), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]string{{"-zlz4"}, {"--chunksize=4096"}} {
		_, err := Open(bytes.NewReader(mkfs(t, dir, options...)))
		if !errors.Is(err, ErrUnsupported) {
			t.Errorf("%q: %v, want ErrUnsupported", options, err)
		}
	}
}

// The blocks that dump.erofs names for a file are the blocks that Owner gives to it.
func TestOwnerAgainstDump(t *testing.T) {
	dump := testtool.Need(t, "dump.erofs")
	tr, want := fixture(t)
	b := image(t, tr)
	m := open(t, b)
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\s*[0-9]+:\s+[0-9]+\.\.\s*[0-9]+ \|\s+[0-9]+ :\s+([0-9]+)\.\.\s*([0-9]+) \|`)
	for _, path := range []string{"/size/2049", "/size/4096", "/size/100001", "/x/longsym", "/x/caps", "/many/699"} {
		out, err := exec.Command(dump, "-e", "--path="+path, name).CombinedOutput()
		if err != nil {
			t.Fatalf("dump.erofs: %v\n%s", err, out)
		}
		found := line.FindAllSubmatch(out, -1)
		if len(found) == 0 {
			t.Fatalf("dump.erofs names no extent of %s:\n%s", path, out)
		}
		for _, f := range found {
			first, _ := strconv.ParseInt(string(f[1]), 10, 64)
			end, _ := strconv.ParseInt(string(f[2]), 10, 64)
			for off := first; off < end; off += 4096 {
				if !strings.Contains(" "+strings.Join(m.Owner(uint64(off/4096)), " ")+" ", " "+path+" ") {
					t.Errorf("block %d: owners %q, dump.erofs says %s", off/4096, m.Owner(uint64(off/4096)), path)
				}
			}
		}
	}
	if got := m.Owner(0); got != nil {
		t.Errorf("superblock's block is owned by %q", got)
	}
	caps := 0
	for block := range uint64(m.Super.Blocks) + 5 {
		for _, path := range m.Owner(block) {
			if path == "/x/link" || path == "/x/caps" {
				caps++
			}
			if _, ok := want[path]; !ok {
				t.Errorf("block %d: owner %q is no path", block, path)
			}
		}
	}
	if caps != 2 {
		t.Errorf("the two names of one file own %d blocks, want one each", caps)
	}
}

// TestRefusals changes one thing of a good image each.
func TestRefusals(t *testing.T) {
	tr := tree.New()
	for _, e := range []tree.Entry{tree.NewFile("d/f", 0o644, pattern(9000), "test"), {Path: "d/s", Kind: tree.Symlink, Mode: 0o777, Link: "f"}} {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	good := image(t, tr)
	m := open(t, good)
	at := map[string]int{}
	m.Walk(func(path string, n *Inode) error { at[path] = int(n.offset); return nil })
	for _, c := range []struct {
		what  string
		off   int
		value []byte
		want  string
	}{
		{"magic", superOffset, []byte{0}, "no EROFS magic"},
		{"block size", superOffset + 12, []byte{20}, "block size 2^20"},
		{"features", superOffset + 80, []byte{0, 1}, "feature_incompat 0x100"},
		{"blocks", superOffset + 36, []byte{0xff}, "ends before"},
		{"no blocks", superOffset + 36, []byte{0}, "want at least one"},
		{"root nid", superOffset + 14, []byte{0xff, 0xff}, "root directory"},
		{"device", superOffset + 86, []byte{1}, "extra devices"},
		{"root is a file", superOffset + 14, binary.LittleEndian.AppendUint16(nil, uint16(at["/d/f"]/32)), "want a directory"},
		{"file size", at["/d/f"] + 13, []byte{1}, "bytes in an image of"},
		{"file start", at["/d/f"] + 16, []byte{0xff}, "behind the end"},
		{"layout", at["/d/f"], []byte{3}, "data layout 1"},
		{"format", at["/d/f"], []byte{0x11}, "i_format"},
		{"mode", at["/d/f"] + 5, []byte{0}, "unknown file type"},
		{"type", at["/d/f"] + 5, []byte{0x10}, "bytes: want none"},
		{"xattrs", at["/d/f"] + 2, []byte{0xff, 0xff}, "xattrs"},
		{"target", at["/d/s"] + 8, []byte{0}, "symlink target of 0 bytes"},
		{"dirent offset", at["/d"] + 64 + 8, []byte{1}, "first name at byte 1"},
		{"dirent type", at["/d"] + 64 + 3*12 + 10 - 12, []byte{7}, "directory says type 7"},
		{"dirent nid", at["/d"] + 64 + 2*12, []byte{128}, "inode says mode"},
		{"directory in itself", at["/"] + 64 + 2*12, []byte{128}, "is another directory already"},
	} {
		b := bytes.Clone(good)
		copy(b[c.off:], c.value)
		if _, err := Open(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	if _, err := Open(bytes.NewReader(good[:len(good)-1])); err == nil {
		t.Error("a cut image was accepted")
	}
	if _, err := Open(bytes.NewReader(nil)); !errors.Is(err, ErrMagic) {
		t.Errorf("nothing: %v, want ErrMagic", err)
	}
	b := bytes.Clone(good)
	b[superOffset+64] ^= 1
	if m := open(t, b); m.Super.ChecksumStands {
		t.Error("a changed superblock has a checksum that stands")
	}
}

func FuzzOpen(f *testing.F) {
	small := tree.New() // small, or minimising takes all the time
	if err := errors.Join(small.Add(tree.NewFile("d/f", 0o644, pattern(100), "test")), small.Add(tree.Entry{Path: "s", Kind: tree.Symlink, Mode: 0o777, Link: "d"})); err != nil {
		f.Fatal(err)
	}
	f.Add(image(f, small))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > superOffset+superSize { // most changes would stop at the magic
			binary.LittleEndian.PutUint32(b[superOffset:], magic)
		}
		m, err := Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		m.Walk(func(path string, n *Inode) error {
			if n.Kind() == KindFile {
				if k, err := io.Copy(io.Discard, m.Content(n)); err != nil || k != n.Size {
					t.Errorf("%s: read %d of %d bytes: %v", path, k, n.Size, err)
				}
			}
			return nil
		})
		for block := range uint64(min(m.Super.Blocks, 100)) {
			m.Owner(block)
		}
	})
}

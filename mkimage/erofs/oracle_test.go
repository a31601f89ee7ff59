package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
	"tally/mkimage/internal/treetest"
	"tally/mkimage/tree"
)

// A seen is what a reader shows of one path.
type seen struct {
	Mode     fs.FileMode
	UID, GID uint32
	Mtime    uint64
	Rdev     uint32
	Nlink    int
	Content  string // of a file, target of a symlink
	Xattrs   map[string]string
}

// expect is what every reader must show for t, computed without the writer.
func expect(t *tree.Tree) map[string]seen {
	want := map[string]seen{}
	links := map[string]int{}
	for _, e := range t.Entries() {
		switch {
		case e.Kind == tree.HardLink:
			links[e.Link]++
		case e.Kind == tree.Dir:
			links[e.Path] += 2
			if e.Path != "" {
				links[tree.Parent(e.Path)]++
			}
		default:
			links[e.Path]++
		}
	}
	types := map[tree.Kind]fs.FileMode{tree.Dir: fs.ModeDir, tree.Symlink: fs.ModeSymlink, tree.CharDev: fs.ModeDevice | fs.ModeCharDevice, tree.BlockDev: fs.ModeDevice, tree.FIFO: fs.ModeNamedPipe}
	for _, link := range t.Entries() {
		e := link
		if e.Kind == tree.HardLink {
			e = t.Get(e.Link)
		}
		s := seen{Mode: types[e.Kind] | fs.FileMode(e.Mode&0o777), UID: e.UID, GID: e.GID, Mtime: uint64(max(0, min(e.MTime, treetest.Epoch))), Nlink: links[e.Path], Content: e.Link}
		for bit, m := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if e.Mode&bit != 0 {
				s.Mode |= m
			}
		}
		if e.Major != 0 {
			s.Rdev = e.Minor&0xff | e.Major<<8 | (e.Minor>>8)<<20
		}
		if data, ok := e.Data.(tree.Bytes); ok {
			s.Content = string(data)
		}
		for k, v := range e.Xattrs {
			if s.Xattrs == nil {
				s.Xattrs = map[string]string{}
			}
			s.Xattrs[k] = string(v)
		}
		want["/"+link.Path] = s
	}
	return want
}

// go-erofs is an independent reader: it must show every field of every entry, and nothing else.
func TestGoErofsReadsBack(t *testing.T) {
	tr, err := treetest.Fixture(false)
	if err != nil {
		t.Fatal(err)
	}
	img, err := goerofs.Open(bytes.NewReader(fixtureImage(t, false)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]seen{}
	err = fs.WalkDir(img, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		s, err := look(img, p, d)
		got["/"+strings.TrimPrefix(p, ".")] = s
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(expect(tr), got); diff != "" {
		t.Errorf("tree differs (-want +got):\n%.4000s", diff)
	}
}

func look(img fs.FS, p string, d fs.DirEntry) (seen, error) {
	info, err := d.Info()
	if err != nil {
		return seen{}, err
	}
	st := info.Sys().(*goerofs.Stat)
	// The reader loses setuid in info.Mode, and ends the names of ACLs in a dot.
	s := seen{Mode: st.Mode, UID: st.UID, GID: st.GID, Mtime: st.Mtime, Rdev: st.Rdev, Nlink: st.Nlink}
	for k, v := range st.Xattrs {
		if s.Xattrs == nil {
			s.Xattrs = map[string]string{}
		}
		s.Xattrs[strings.TrimSuffix(k, ".")] = v
	}
	if info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe) == 0 && st.Rdev != 0 {
		s.Rdev = 0 // the reader shows i_u of files too
	}
	switch info.Mode().Type() {
	case 0:
		b, err := fs.ReadFile(img, p)
		s.Content = string(b)
		return s, err
	case fs.ModeSymlink:
		s.Content, err = img.(fs.ReadLinkFS).ReadLink(p)
	}
	return s, err
}

// fsck.erofs, the format's own tool, must find no fault, and extract every byte.
func TestFsckExtract(t *testing.T) {
	fsck := testtool.Need(t, "fsck.erofs")
	tr, err := treetest.Fixture(false)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"dev/null", "dev/big"} { // an ordinary user cannot extract devices
		e := *tr.Get(p)
		e.Kind, e.Major, e.Minor = tree.FIFO, 0, 0
		if err := tr.Replace(e); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	image, out := filepath.Join(dir, "image"), filepath.Join(dir, "out")
	if err := os.WriteFile(image, build(t, tr, Options{Epoch: treetest.Epoch}), 0o600); err != nil {
		t.Fatal(err)
	}
	msg, err := exec.Command(fsck, "--no-preserve-owner", "--preserve-perms", "--extract="+out, image).CombinedOutput()
	if err != nil || bytes.Contains(msg, []byte("<E>")) {
		t.Fatalf("fsck.erofs: %v\n%s", err, msg)
	}
	for p, want := range expect(tr) {
		info, err := os.Lstat(out + p)
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Type() != want.Mode.Type() {
			t.Errorf("%s: type %v, want %v", p, info.Mode(), want.Mode)
		}
		got := ""
		switch info.Mode().Type() {
		case 0:
			b, _ := os.ReadFile(out + p)
			got = string(b)
		case fs.ModeSymlink:
			got, _ = os.Readlink(out + p)
		}
		if got != want.Content {
			t.Errorf("%s: content differs: %d bytes, want %d", p, len(got), len(want.Content))
		}
	}
}

// A flipped bit in the superblock block must be seen: the checksum is right only for our bytes.
func TestFsckSeesChecksum(t *testing.T) {
	fsck := testtool.Need(t, "fsck.erofs")
	image := fixtureImage(t, false)
	image[superStart+24] ^= 1 // build_time
	p := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(p, image, 0o600); err != nil {
		t.Fatal(err)
	}
	// Version 1.5 says so and exits 0 all the same, so its words count.
	if msg, _ := exec.Command(fsck, p).CombinedOutput(); !bytes.Contains(msg, []byte("<E>")) {
		t.Errorf("fsck.erofs accepted a wrong checksum\n%s", msg)
	}
}

// Around every border between one, two and three directory blocks the names must be found where a binary
// search looks for them.
func TestDirectoryBorders(t *testing.T) {
	for n := 240; n < 260; n++ {
		tr := tree.New()
		for i := range n {
			if err := tr.Add(tree.NewFile(fmt.Sprintf("%04d", i), 0o644, nil, "test")); err != nil {
				t.Fatal(err)
			}
		}
		image := build(t, tr, Options{})
		img, err := goerofs.Open(bytes.NewReader(image))
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if _, err := fs.Stat(img, fmt.Sprintf("%04d", i)); err != nil {
				t.Fatalf("%d entries: %v", n, err)
			}
		}
		if blocks := binary.LittleEndian.Uint32(image[superStart+36:]); int(blocks)*BlockSize != len(image) {
			t.Errorf("%d entries: superblock says %d blocks, image has %d bytes", n, blocks, len(image))
		}
	}
}

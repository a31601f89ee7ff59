package oci_test

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tally/internal/testtool"
	. "tally/mkimage/oci/ocitest"
	"tally/mkimage/tree"
)

// oracleLayers touch every rule of the layer format. Directories are all named: what an implied one looks
// like is each tool's own business.
func oracleLayers() []Layer {
	const sym, hard = tar.TypeSymlink, tar.TypeLink
	mtime := time.Unix(1700000000, 0)
	owned := File("usr/bin/tool", "one")
	owned.Header.Uid, owned.Header.Gid, owned.Header.Mode = 10, 20, 0o4750
	owned.Header.PAXRecords = map[string]string{"SCHILY.xattr.user.tally": "value"}
	capable := File("usr/bin/ping", "two")
	// vfs_cap_data, revision 2: CAP_NET_RAW permitted and effective (linux/capability.h).
	capable.Header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	private := Dir("etc/private/")
	private.Header.Mode = 0o1700
	all := [][]Item{
		{Dir("./"), Dir("usr/"), Dir("usr/bin/"), owned, capable, Link(sym, "bin", "usr/bin"), Dir("etc/"), File("etc/a", "a1"), File("etc/b", "b1"), Link(hard, "etc/b-too", "etc/b"),
			Dir("etc/d/"), File("etc/d/x", "x1"), File("etc/d/y", "y1"), Dir("opt/"), Dir("opt/old/"), Dir("opt/old/deep/"), File("opt/old/deep/f", "f"), File("etc/to-dir", "file"),
			Dir("etc/to-file/"), File("etc/to-file/x", "x"), Link(sym, "etc/to-file-too", "a"), File("zz", "last"), Node(tar.Header{Typeflag: tar.TypeFifo, Name: "etc/fifo", Mode: 0o640})},
		{Dir("etc/"), File("etc/a", "a2"), File("etc/.wh.b", ""), Dir("etc/d/"), File("etc/d/.wh..wh..opq", ""), File("etc/d/z", "z2"), Dir("opt/"), File("opt/.wh.old", ""),
			Dir("etc/to-dir/"), File("etc/to-dir/x", "x2"), File("etc/to-file", "now a file"), File("etc/to-file-too", "and this"), Link(hard, "aa", "zz")},
		{Dir("etc/"), private, File("etc/private/k", "k3"), Link(hard, "etc/k-too", "etc/private/k"), File("etc/.wh.nothing", ""), Dir("opt/"), Dir("opt/old/"), File("opt/old/new", "n"),
			Dir("bin/"), File("bin/.wh..wh..opq", ""), File("bin/now", "a directory"), Dir("aa/"), Dir("aa/bb/"), File("aa/.wh..wh..opq", ""), File("aa/bb/.wh..wh..opq", ""), File("aa/bb/c", "c")},
	}
	var out []Layer
	for _, items := range all {
		for i := range items {
			items[i].Header.ModTime = mtime
		}
		out = append(out, Packed(Tar(items...), "gzip"))
	}
	return out
}

// TestUmoci compares the flattened tree with what umoci makes of the same image, path by path: kind, mode, contents,
// links, times, and, as far as this user and file system can keep them, owners and extended attributes.
func TestUmoci(t *testing.T) {
	umoci := testtool.Need(t, "umoci")
	l := New(t.TempDir())
	d := l.Image("amd64", oracleLayers()...)
	l.Tag("latest", d)
	got, err := flatten(t, l, d.ID())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	args := []string{"unpack", "--image", l.Dir + ":latest", dir}
	if os.Geteuid() != 0 {
		args = slices.Insert(args, 1, "--rootless")
	}
	if out, err := exec.Command(umoci, args...).CombinedOutput(); err != nil {
		t.Fatalf("umoci %q: %v\n%s", args, err, out)
	}
	rootfs := filepath.Join(dir, "rootfs")
	xattrs := os.Geteuid() == 0 && unix.Setxattr(dir, "user.probe", []byte("x"), 0) == nil
	if !xattrs {
		t.Log("SKIPPED: owners and extended attributes: not root, or the file system has none")
	}
	if d := cmp.Diff(onDisk(t, rootfs, xattrs), described(got, xattrs)); d != "" {
		t.Errorf("umoci (-) and we (+) differ:\n%s", d)
	}
}

// described prints a tree without its root, a line a path.
func described(tr *tree.Tree, xattrs bool) map[string]string {
	all := map[string]string{}
	for _, e := range tr.Entries() {
		if e.Path == "" {
			continue
		}
		f := e
		if e.Kind == tree.HardLink {
			f = tr.Get(e.Link)
		}
		s := fmt.Sprintf("%s %04o time %d", f.Kind, f.Mode, f.MTime)
		switch f.Kind {
		case tree.File:
			s += fmt.Sprintf(" %x is %s", f.Digest[:4], f.Path)
		case tree.Symlink:
			s += " to " + f.Link
		}
		if xattrs {
			s += fmt.Sprintf(" owner %d:%d xattrs %q", f.UID, f.GID, f.Xattrs)
		}
		all[e.Path] = s
	}
	return all
}

// onDisk prints a directory in the same form. A file with several names "is" the first, as in a tree.
func onDisk(t *testing.T, root string, xattrs bool) map[string]string {
	t.Helper()
	tr, first := tree.New(), map[uint64]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		p := strings.TrimPrefix(name, root+"/")
		e := tree.Entry{Path: p, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Sec, Source: "disk"}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			e.Kind = tree.Dir
		case unix.S_IFIFO:
			e.Kind = tree.FIFO
		case unix.S_IFLNK:
			e.Kind = tree.Symlink
			if e.Link, err = os.Readlink(name); err != nil {
				return err
			}
		case unix.S_IFREG:
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			f := tree.NewFile(p, e.Mode, data, "disk")
			f.UID, f.GID, f.MTime = e.UID, e.GID, e.MTime
			if e = f; st.Nlink > 1 && first[st.Ino] != "" {
				e = tree.Entry{Path: p, Kind: tree.HardLink, Link: first[st.Ino], Source: "disk"}
			} else {
				first[st.Ino] = p
			}
		}
		if xattrs && e.Kind != tree.Symlink && e.Kind != tree.HardLink {
			e.Xattrs = readXattrs(t, name)
		}
		return tr.Add(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	return described(tr, xattrs)
}

func readXattrs(t *testing.T, name string) map[string][]byte {
	t.Helper()
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(name, list)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]byte
	for _, key := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !tree.AllowedXattr(key) {
			continue // of this machine: security labels
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(name, key, value)
		if err != nil {
			t.Fatal(err)
		}
		if all == nil {
			all = map[string][]byte{}
		}
		all[key] = value[:n]
	}
	return all
}

// TestSkopeoZstd lets skopeo pack the layers again, with zstd: the same tree must come out.
func TestSkopeoZstd(t *testing.T) {
	skopeo := testtool.Need(t, "skopeo")
	l := New(t.TempDir())
	d := l.Image("amd64", oracleLayers()...)
	l.Tag("latest", d)
	want, err := flatten(t, l, d.ID())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "zstd")
	out, err := exec.Command(skopeo, "--insecure-policy", "copy", "--quiet", "--dest-compress-format", "zstd", "oci:"+l.Dir+":latest", "oci:"+dir+":latest").CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	raw, err := exec.Command(skopeo, "inspect", "--raw", "oci:"+dir+":latest").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "tar+zstd") {
		t.Fatalf("skopeo made no zstd layers: %s", raw)
	}
	got, err := flatten(t, &Layout{Dir: dir}, l.Blob("", raw).ID())
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest(1<<31) != want.Digest(1<<31) {
		t.Errorf("zstd and gzip give different trees:\n%s", cmp.Diff(list(t, want), list(t, got)))
	}
}

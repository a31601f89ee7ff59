package compare_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/compare"
	"tally/internal/testtool"
	"tally/mkimage"
)

func tool(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testtool.Need(t, name), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// wantCauses checks that each text is a cause, and that there are no others.
func wantCauses(t testing.TB, r *compare.Report, want ...string) {
	t.Helper()
	for _, w := range want {
		if !hasCause(r, w) {
			t.Errorf("no cause %q in\n%s%+v", w, causes(r), r.Differences)
		}
	}
	if len(r.Causes) != len(want) {
		t.Errorf("want %d causes, got\n%s%+v", len(want), causes(r), r.Differences)
	}
}

// TestTamperedDisk changes one bit of a built disk in each place that no build would.
func TestTamperedDisk(t *testing.T) {
	out := build(t, func(in *mkimage.Inputs) { // more than one leaf block
		rewrite(t, in.Root, "usr/bin/big", content(700000, 2))
	})
	disk := filepath.Join(out, "disk.raw")
	size := int64(len(read(t, disk)))
	rootAt := indexOf(t, disk, content(4096, 3))         // of libx.so.1
	treeAt := indexOf(t, disk, []byte("verity\x00\x00")) // superblock
	other := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(other, read(t, disk), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		off    int64
		causes []string
	}{
		{"data", rootAt + 100, []string{"one byte differs", "in B: damage or tampering, which dm-verity refuses"}},
		{"slack of a file", rootAt + 9000 + 3000, []string{"bytes that no reader shows", "in B: damage or tampering"}},
		{"leaf", treeAt + 8192 + 5, []string{"hash tree changed although the data did not"}},
		{"upper level", treeAt + 4096 + 5, []string{"damage: the leaves are equal"}},
		{"salt", treeAt + 90, []string{"salt (a random one"}},
		{"behind the tree", treeAt + 100000, []string{"slack (left-over"}},
		{"reserved bytes of the superblock", treeAt + 400, []string{"reserved bytes"}},
		{"backup GPT", size - 512 + 60, []string{"damage, or a table changed by hand"}},
		{"gap before the first partition", 500000, []string{"slack (left-over"}},
		{"boot code", 10, []string{"boot sector"}},
		{"volume serial", 1<<20 + 67, []string{"volume serial"}},
		{"free space of the ESP", 1<<20 + 30<<20, []string{"slack (left-over"}},
	} {
		flip(t, other, c.off)
		r := paths(t, disk, other, compare.Options{})
		if r.Equal || r.Kind != "disk" {
			t.Errorf("%s: equal %v, kind %s", c.what, r.Equal, r.Kind)
		}
		t.Log(c.what)
		wantCauses(t, r, c.causes...)
		flip(t, other, c.off) // back
	}
}

// Two file systems of mkfs.erofs: its own identifiers and times, and everything that a tree can hide.
func TestMkfsErofs(t *testing.T) {
	make := func(change func(dir string) error, options ...string) string {
		t.Helper()
		dir := t.TempDir()
		src, out := filepath.Join(dir, "src"), filepath.Join(dir, "image")
		err := errors.Join(os.MkdirAll(filepath.Join(src, "d"), 0o755), os.WriteFile(filepath.Join(src, "a"), content(9000, 1), 0o644),
			os.Link(filepath.Join(src, "a"), filepath.Join(src, "b")), os.WriteFile(filepath.Join(src, "d/conf"), []byte("x = 1\n"), 0o644))
		if change != nil {
			err = errors.Join(err, change(src))
		}
		old := time.Unix(1600000000, 0)
		for _, p := range []string{"a", "d/conf", "d", "."} {
			err = errors.Join(err, os.Chtimes(filepath.Join(src, p), old, old))
		}
		if err != nil {
			t.Fatal(err)
		}
		tool(t, "mkfs.erofs", append(append([]string{"--quiet", "-Uaaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "-T1700000000", "--preserve-mtime", "-Eforce-inode-extended"}, options...), out, src)...)
		return out
	}
	base := make(nil)
	if r := paths(t, base, make(nil), compare.Options{}); !r.Equal {
		t.Errorf("mkfs.erofs twice:\n%s", causes(r))
	}
	r := paths(t, base, make(nil, "-Uaaaaaaaa-bbbb-4ccc-dddd-ffffffffffff", "-T1700000001"), compare.Options{})
	if !hasCause(r, "UUID (a random one)") || !hasCause(r, "build time (a clock") { // 1.5 gives the time to every file, too
		t.Errorf("identifiers:\n%s", causes(r))
	}
	r = paths(t, base, make(func(dir string) error {
		return errors.Join(os.Remove(filepath.Join(dir, "b")), os.WriteFile(filepath.Join(dir, "b"), content(9000, 1), 0o644), os.Chtimes(filepath.Join(dir, "b"), time.Unix(1600000000, 0), time.Unix(1600000000, 0)))
	}), compare.Options{})
	wantCauses(t, r, "hard link in A, copy in B")
	r = paths(t, base, make(func(dir string) error {
		return errors.Join(os.Chmod(filepath.Join(dir, "d/conf"), 0o600), os.Chmod(filepath.Join(dir, "d"), 0o700))
	}), compare.Options{})
	wantCauses(t, r, "mode bits (umask)")
	r = paths(t, base, make(func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "z"), bytes.Repeat([]byte("compress me "), 10000), 0o644)
	}, "-zlz4"), compare.Options{})
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "not readable") || !strings.Contains(r.Notes[0], "compared as bytes") || r.Equal {
		t.Errorf("compressed: %+v", r)
	}
	r = paths(t, base, make(nil, "-Enoinline_data"), compare.Options{})
	if r.Equal || !hasCause(r, "another layout of the same tree") {
		t.Errorf("another layout:\n%s%+v", causes(r), r.Differences)
	}
}

// The order in which cpio and mcopy were given the files is seen, and named as such.
func TestFileOrder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pack := func(names string) string {
		cmd := exec.Command(testtool.Need(t, "cpio"), "--quiet", "-o", "-H", "newc", "--reproducible", "--renumber-inodes")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(names)
		b, err := cmd.Output()
		out := filepath.Join(t.TempDir(), "initrd")
		if err := errors.Join(err, os.WriteFile(out, b, 0o644)); err != nil {
			t.Fatal(err)
		}
		return out
	}
	r := paths(t, pack("a\nb\nc\n"), pack("a\nc\nb\n"), compare.Options{})
	if !hasCause(r, "order of files") || r.Kind != "cpio" {
		t.Errorf("cpio:\n%s", causes(r))
	}
	for _, d := range r.Differences {
		if !strings.Contains(d.Cause, "order of files") {
			t.Errorf("cpio: %+v", d)
		}
	}
}

// TestForeignESP puts a file system of mkfs.vfat in the place of ours.
func TestForeignESP(t *testing.T) {
	out := base(t)
	esp := func(files ...string) string {
		vol := filepath.Join(t.TempDir(), "esp")
		tool(t, "mkfs.vfat", "-C", "-F32", "-i", "aabbccdd", "--invariant", vol, fmt.Sprint(34<<10))
		tool(t, "mmd", "-i", vol, "::EFI", "::EFI/BOOT")
		tool(t, "mcopy", "-m", "-i", vol, filepath.Join(out, "uki.efi"), "::EFI/BOOT/BOOTX64.EFI")
		for _, f := range files {
			tool(t, "mcopy", "-m", "-i", vol, f, "::"+filepath.Base(f))
		}
		disk := filepath.Join(t.TempDir(), "disk.raw")
		b := read(t, out, "disk.raw")
		copy(b[1<<20:], read(t, vol))
		if err := os.WriteFile(disk, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return disk
	}
	x, y := filepath.Join(t.TempDir(), "x.txt"), filepath.Join(t.TempDir(), "y.txt")
	for _, f := range []string{x, y} {
		if err := errors.Join(os.WriteFile(f, []byte("same"), 0o644), os.Chtimes(f, time.Unix(1600000000, 0), time.Unix(1600000000, 0))); err != nil {
			t.Fatal(err)
		}
	}
	r := paths(t, filepath.Join(out, "disk.raw"), esp(x), compare.Options{})
	for _, want := range []string{"another program that made the file system", "volume serial", "mtime (a clock", "only in B"} {
		if !hasCause(r, want) {
			t.Errorf("no cause %q in\n%s", want, causes(r))
		}
	}
	if len(r.Registers) != 0 {
		t.Errorf("a file beside the UKI moves %+v", r.Registers)
	}
	if r := paths(t, esp(x, y), esp(y, x), compare.Options{}); !hasCause(r, "order of files") {
		t.Errorf("order in the ESP:\n%s", causes(r))
	}
}

func TestDirectories(t *testing.T) {
	make := func(change func(dir string) error) string {
		t.Helper()
		dir := t.TempDir()
		err := errors.Join(os.MkdirAll(filepath.Join(dir, "d"), 0o755), os.WriteFile(filepath.Join(dir, "d/f"), []byte("one\ntwo\n"), 0o644), os.Symlink("d", filepath.Join(dir, "s")))
		if change != nil {
			err = errors.Join(err, change(dir))
		}
		for _, p := range []string{"d/f", "d", "."} {
			err = errors.Join(err, os.Chtimes(filepath.Join(dir, p), time.Unix(1600000000, 0), time.Unix(1600000000, 0)))
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	ignore := compare.Options{Ignore: map[string]bool{"mtime": true}} // that of the symlink cannot be set
	base := make(nil)
	if r := paths(t, base, make(nil), ignore); !r.Equal || r.Kind != "tree" {
		t.Errorf("%+v", r)
	}
	r := paths(t, base, make(func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "d/f"), []byte("two\none\n"), 0o644), os.Chmod(filepath.Join(dir, "d/f"), 0o640), os.Remove(filepath.Join(dir, "s")), os.Symlink("e", filepath.Join(dir, "s")))
	}), ignore)
	wantCauses(t, r, "same lines in another order", "mode bits (umask)", "symlink target")
	for _, d := range r.Differences {
		if d.Path == "/d/f" && d.Field == "content" && d.Text != "@@ -1,2 +1,2 @@\n-one\n two\n+one\n" {
			t.Errorf("text %q", d.Text)
		}
	}
	if _, err := compare.Paths(t.Context(), base, filepath.Join(base, "d/f"), ignore); !errors.Is(err, compare.ErrKinds) {
		t.Errorf("directory and file: %v", err)
	}
	if _, err := compare.Paths(t.Context(), base, "absent", ignore); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// TestImagesInTrees: an image in a directory or an archive is taken apart where it lies.
func TestImagesInTrees(t *testing.T) {
	other := build(t, func(in *mkimage.Inputs) { in.Init = content(5000, 9) })
	var dirs, archives [2]string
	for i, out := range []string{base(t), other} {
		dirs[i], archives[i] = t.TempDir(), filepath.Join(t.TempDir(), "a.tar.gz")
		if err := os.WriteFile(filepath.Join(dirs[i], "ramdisk"), read(t, out, "initrd"), 0o644); err != nil {
			t.Fatal(err)
		}
		tool(t, "tar", "-C", dirs[i], "--mtime=@1", "-czf", archives[i], "ramdisk")
	}
	for where, pair := range map[string][2]string{"/ramdisk": dirs, "decompressed, /ramdisk": archives} {
		r := paths(t, pair[0], pair[1], compare.Options{Ignore: map[string]bool{"mtime": true}})
		if len(r.Differences) != 1 || r.Differences[0].Where != where || r.Differences[0].Path != "/init" {
			t.Errorf("%s: %+v", where, r.Differences)
		}
	}
}

// TestMembersOfTar: attributes of a member and the number of a device are told.
func TestMembersOfTar(t *testing.T) {
	pack := func(capability string, minor int64) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := errors.Join(w.WriteHeader(&tar.Header{Name: "f", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}),
			w.WriteHeader(&tar.Header{Name: "tty", Typeflag: tar.TypeChar, Devmajor: 4, Devminor: minor}), w.Close())
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var got []string
	for _, d := range files(t, pack("a", 64), pack("b", 65)).Differences {
		got = append(got, d.Path+" "+d.Field+" "+d.A+" "+d.B)
	}
	if want := []string{"/f xattr security.capability 0x61 0x62", "/tty device 4:64 4:65"}; !slices.Equal(got, want) {
		t.Errorf("%q: want %q", got, want)
	}
}

// files compares two files of the given bytes.
func files(t testing.TB, a, b []byte) *compare.Report {
	t.Helper()
	dir := t.TempDir()
	x, y := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := errors.Join(os.WriteFile(x, a, 0o644), os.WriteFile(y, b, 0o644)); err != nil {
		t.Fatal(err)
	}
	return paths(t, x, y, compare.Options{})
}

// TestCompilers: the go command's release in two programs, and the compiler's name in two objects.
func TestCompilers(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := read(t, exe)
	// 32 bytes behind the magic of build info stands the release with its length (debug/buildinfo).
	at := 0
	for magic := []byte("\xff Go buildinf:"); !bytes.HasPrefix(a[at+min(33, len(a)-at):], []byte("go1.")); at++ {
		if i := bytes.Index(a[at+1:], magic); i < 0 {
			t.Fatal("this test program holds no build info")
		} else {
			at += i
		}
	}
	at += 32
	end := at + 1 + int(a[at])
	b := bytes.Clone(a)
	b[end-1] ^= 1
	was, is := string(a[at+1:end]), string(b[at+1:end])
	b[0x3000] ^= 1 // code: a second difference: one byte alone is another cause
	wantCauses(t, files(t, a, b), "Go build info differs: "+was+" vs "+is)

	object := func(compiler string) []byte {
		dir := t.TempDir()
		raw, comment, out := filepath.Join(dir, "raw"), filepath.Join(dir, "comment"), filepath.Join(dir, "o")
		if err := errors.Join(os.WriteFile(raw, []byte("code"), 0o644), os.WriteFile(comment, []byte("\x00"+compiler+"\x00"), 0o644)); err != nil {
			t.Fatal(err)
		}
		tool(t, "objcopy", "-Ibinary", "-Oelf64-x86-64", "--add-section=.comment="+comment, raw, out)
		return read(t, out)
	}
	wantCauses(t, files(t, object("GCC: (Debian 12.2.0-14) 12.2.0"), object("GCC: (Debian 14.2.0-19) 14.2.0")), "compiler differs: GCC: (Debian 12.2.0-14) 12.2.0 vs GCC: (Debian 14.2.0-19) 14.2.0")
}

func TestContentCauses(t *testing.T) {
	gz := func(stamp byte) []byte {
		return []byte{0x1f, 0x8b, 8, 0, stamp, stamp, stamp, 1, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	for _, c := range []struct{ a, b, want string }{
		{"built 2026-01-01\n", "built 2026-02-03\n", "numbers only"},
		{"a b\n", "a  b\n", "white space"},
		{"a\n", "", "one is empty"},
		{"\x00\x01\x02", "\x00\x01\x02\x00\x00", "zeros appended"},
		{"\x00\x01\x02", "\x00\x01\x02\x03", "beginning of the other"},
		{"\x00\x01\x02", "\x00\x01\x03", "one byte differs"},
		{"some text", "some test", "changed text or configuration (one byte)"},
		{"\x00\x01\x02", "\x01\x02\x03\x04", "other contents"},
		{string(gz(1)), string(gz(2)), "time in the gzip header"},
	} {
		if r := files(t, []byte(c.a), []byte(c.b)); len(r.Causes) != 1 || !strings.Contains(r.Causes[0].Cause, c.want) || r.Equal {
			t.Errorf("%q, %q: want %q, got\n%s", c.a, c.b, c.want, causes(r))
		}
	}
}

// TestCompressed: what is compressed is explained by what is in it, and by how it was compressed when that is equal.
func TestCompressed(t *testing.T) {
	pack := func(text, program string, options ...string) []byte {
		cmd := exec.Command(testtool.Need(t, program), append(options, "-c")...)
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	long := strings.Repeat("some text that can be compressed\n", 3000)
	for _, program := range []string{"gzip", "xz"} {
		r := files(t, pack("one\ntwo\n", program), pack("one\nthree\n", program))
		if len(r.Differences) != 1 || r.Differences[0].Text != "@@ -1,2 +1,2 @@\n one\n-two\n+three\n" {
			t.Errorf("%s: %+v", program, r.Differences)
		}
		wantCauses(t, files(t, pack(long, program, "-1"), pack(long, program, "-9")), "compressed in another way")
	}
	// A frame of zstd with one raw block each: RFC 8878, 3.1.1.
	raw := func(s string) []byte {
		return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, byte(len(s)), byte(len(s)<<3 | 1), 0, 0}, s...)
	}
	r := files(t, raw("one\ntwo\n"), raw("one\nthree\n"))
	if len(r.Differences) != 1 || !strings.Contains(r.Differences[0].Text, "+three") {
		t.Errorf("zstd: %+v", r.Differences)
	}
	if r := files(t, []byte("\x1f\x8b\x08 no gzip"), []byte("\x1f\x8b\x08 nor this")); r.Equal || len(r.Causes) != 1 {
		t.Errorf("no gzip: %+v", r)
	}
	nested := files(t, pack(string(raw("x=1\n")), "gzip"), pack(string(raw("x=2\n")), "gzip"))
	if len(nested.Differences) != 1 || nested.Differences[0].Where != "decompressed, decompressed" {
		t.Errorf("nested: %+v", nested.Differences)
	}
}

// TestListIsCut: thousands of differences of one cause are counted, and a few are listed.
func TestListIsCut(t *testing.T) {
	many := func(mtime int64) string {
		dir := t.TempDir()
		for i := range 300 {
			name := filepath.Join(dir, fmt.Sprint(i))
			if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Chtimes(name, time.Unix(mtime, 0), time.Unix(mtime, 0))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(dir, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	a, b := many(1000), many(2000)
	r := paths(t, a, b, compare.Options{})
	if len(r.Causes) != 1 || r.Causes[0].Count != 300 || r.Omitted != 280 {
		t.Errorf("%d omitted, causes\n%s", r.Omitted, causes(r))
	}
	if r := paths(t, a, b, compare.Options{PerCause: -1}); r.Omitted != 0 || len(r.Differences) < 300 {
		t.Errorf("all: %d omitted, %d listed", r.Omitted, len(r.Differences))
	}
}

// TestGUID: the disk's GUID alone, and that of the ESP, set by sgdisk: one cause each, and PCR 5 moves.
func TestGUID(t *testing.T) {
	disk := filepath.Join(base(t), "disk.raw")
	for _, option := range []string{"--disk-guid=01234567-89AB-CDEF-0123-456789ABCDEF", "--partition-guid=1:01234567-89AB-CDEF-0123-456789ABCDEF"} {
		other := filepath.Join(t.TempDir(), "disk.raw")
		if err := os.WriteFile(other, read(t, disk), 0o644); err != nil {
			t.Fatal(err)
		}
		tool(t, "sgdisk", option, other)
		r := paths(t, disk, other, compare.Options{})
		wantCauses(t, r, "GUID (a random one")
		if len(r.Registers) != 2 || r.Registers[0].Name != "PCR 5" {
			t.Errorf("%s: registers %+v", option, r.Registers)
		}
	}
}

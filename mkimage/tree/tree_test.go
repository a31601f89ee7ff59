package tree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustAdd(t testing.TB, tr *Tree, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
}

func paths(tr *Tree) []string {
	var all []string
	for _, e := range tr.Entries() {
		all = append(all, e.Path)
	}
	return all
}

func TestCheckPath(t *testing.T) {
	for _, p := range []string{"a", "a/b", "...", "a b", "é", ".hidden", strings.Repeat("x", MaxName), strings.Repeat("x/", MaxPath/2) + "x"} {
		if err := CheckPath(p); err != nil {
			t.Errorf("%.20q: %v", p, err)
		}
	}
	for _, p := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/./b", "../a", "a/..", "a\x00b", strings.Repeat("x", MaxName+1), strings.Repeat("x/", MaxPath/2+1) + "x"} {
		if CheckPath(p) == nil {
			t.Errorf("%.20q: accepted", p)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	for want, e := range map[string]Entry{
		"unknown kind 0":                 {Path: "a"},
		"unknown kind 9":                 {Path: "a", Kind: 9},
		`element ".." is not allowed`:    {Path: "a/../b", Kind: Dir},
		"want 1 to 4095 bytes":           {Path: "", Kind: File},
		"bits beyond 07777":              {Path: "a", Kind: Dir, Mode: 0o40755},
		"size -1 of a file":              {Path: "a", Kind: File, Size: -1},
		"size 5 of a directory":          {Path: "a", Kind: Dir, Size: 5},
		"file of 5 bytes without":        {Path: "a", Kind: File, Size: 5},
		"link target of 0 bytes":         {Path: "a", Kind: Symlink},
		"link target of 4096 bytes":      {Path: "a", Kind: Symlink, Link: strings.Repeat("x", MaxPath+1)},
		"NUL byte in the link target":    {Path: "a", Kind: Symlink, Link: "a\x00b"},
		"link target of 0 bytes, want 1": {Path: "a", Kind: HardLink},
		"device 4096:0":                  {Path: "a", Kind: CharDev, Major: 4096},
		"device 0:1048576":               {Path: "a", Kind: BlockDev, Minor: 1 << 20},
	} {
		e.Source = "package x"
		for _, add := range []func(Entry) error{New().Add, New().Replace} {
			if err := add(e); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "package x") {
				t.Errorf("got %v, want %q and the source", err, want)
			}
		}
	}
}

// Only two equal directories may meet at one path.
func TestAddTwice(t *testing.T) {
	dir := Entry{Path: "d", Kind: Dir, Mode: 0o755, Source: "first", MTime: 1}
	tr := New()
	mustAdd(t, tr, dir)
	again := dir
	again.Source, again.MTime = "second", 2
	mustAdd(t, tr, again)
	if got := tr.Get("d"); got.Source != "first" || got.MTime != 1 {
		t.Errorf("got %+v, want the first entry to stay", got)
	}
	for name, change := range map[string]func(*Entry){
		"mode":  func(e *Entry) { e.Mode = 0o700 },
		"uid":   func(e *Entry) { e.UID = 1 },
		"gid":   func(e *Entry) { e.GID = 1 },
		"kind":  func(e *Entry) { e.Kind = FIFO },
		"files": func(e *Entry) { *e = NewFile("d", 0o755, nil, "second") },
	} {
		e := dir
		e.Source = "second"
		change(&e)
		if err := tr.Add(e); err == nil || !strings.Contains(err.Error(), "first already put a directory") {
			t.Errorf("%s: got %v, want a conflict that names both sources", name, err)
		}
	}
	file := NewFile("d", 0o644, []byte("x"), "overlay")
	if err := tr.Replace(file); err != nil || tr.Get("d").Kind != File {
		t.Errorf("Replace: %v", err)
	}
	if tr.Len() != 2 {
		t.Errorf("%d entries, want the root and d", tr.Len())
	}
}

func TestComplete(t *testing.T) {
	tr := New()
	mustAdd(t, tr, NewFile("usr/lib/x/y", 0o644, nil, "package y"), Entry{Path: "usr", Kind: Dir, Mode: 0o700, Source: "spec"},
		Entry{Path: "hard", Kind: HardLink, Link: "usr/lib/x/y", Source: "package y"})
	if err := tr.Complete(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", "hard", "usr", "usr/lib", "usr/lib/x", "usr/lib/x/y"}, paths(tr)); diff != "" {
		t.Error(diff)
	}
	if e := tr.Get("usr/lib"); e.Kind != Dir || e.Mode != 0o755 || e.UID != 0 || e.Source != "package y" {
		t.Errorf("implied directory: %+v", e)
	}
	if tr.Get("usr").Mode != 0o700 {
		t.Error("Complete changed a declared directory")
	}
}

// TestCompleteIsBounded: the directories that paths imply count.
func TestCompleteIsBounded(t *testing.T) {
	for limit, want := range map[int]bool{5: false, 6: true} { // the root, a, a/b, a/b/c, a/b/d and a/b/d/e
		tr := New()
		mustAdd(t, tr, NewFile("a/b/c", 0o644, nil, "x"), NewFile("a/b/d/e", 0o644, nil, "x"))
		if err := tr.complete(limit); (err == nil) != want || err != nil && !strings.Contains(err.Error(), "more than 5 entries") {
			t.Errorf("at most %d: %v", limit, err)
		}
	}
}

func TestCompleteRefuses(t *testing.T) {
	link := Entry{Path: "h", Kind: HardLink, Link: "t", Source: "package h"}
	for want, entries := range map[string][]Entry{
		`its parent "bin" is a symlink from base`:  {{Path: "bin", Kind: Symlink, Link: "usr/bin", Source: "base"}, NewFile("bin/x", 0o755, nil, "package x")},
		`its parent "a" is a file`:                 {NewFile("a", 0o644, nil, "one"), NewFile("a/b/c", 0o644, nil, "two")},
		`hard link to "t", which is no file`:       {link},
		`hard link to "t", which is no file of th`: {link, {Path: "t", Kind: HardLink, Link: "u"}, NewFile("u", 0o644, nil, "x")},
		`from package h: hard link to "t"`:         {link, {Path: "t", Kind: Dir}},
	} {
		tr := New()
		mustAdd(t, tr, entries...)
		if err := tr.Complete(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Every field that a writer shows must move the digest; what no writer shows must not.
func TestDigest(t *testing.T) {
	digest := func(change func(*Entry)) [32]byte {
		tr := New()
		e := NewFile("f", 0o644, []byte("x"), "source")
		e.MTime = 50
		change(&e)
		mustAdd(t, tr, e)
		return tr.Digest(100)
	}
	base := digest(func(*Entry) {})
	for name, change := range map[string]func(*Entry){
		"path":        func(e *Entry) { e.Path = "g" },
		"kind":        func(e *Entry) { e.Kind, e.Size = FIFO, 0 },
		"mode":        func(e *Entry) { e.Mode = 0o600 },
		"uid":         func(e *Entry) { e.UID = 1 },
		"gid":         func(e *Entry) { e.GID = 1 },
		"time":        func(e *Entry) { e.MTime = 51 },
		"size":        func(e *Entry) { e.Size = 2 },
		"contents":    func(e *Entry) { e.Digest[0]++ },
		"link":        func(e *Entry) { e.Kind, e.Size, e.Link = Symlink, 0, "x" },
		"device":      func(e *Entry) { e.Kind, e.Size, e.Minor = CharDev, 0, 1 },
		"xattr":       func(e *Entry) { e.Xattrs = map[string][]byte{"user.a": nil} },
		"xattr value": func(e *Entry) { e.Xattrs = map[string][]byte{"user.a": {1}} },
	} {
		if digest(change) == base {
			t.Errorf("%s does not move the digest", name)
		}
	}
	if digest(func(e *Entry) { e.Source = "other" }) != base {
		t.Error("the source moves the digest")
	}
	for name, change := range map[string]func(*Entry){
		"device of a file": func(e *Entry) { e.Major, e.Minor = 1, 1 },
		"link of a file":   func(e *Entry) { e.Link = "x" },
	} {
		if digest(change) != base {
			t.Errorf("%s moves the digest, and no writer shows it", name)
		}
	}
	hard := func(change func(*Entry)) [32]byte {
		return digest(func(e *Entry) {
			*e = Entry{Path: "g", Kind: HardLink, Link: "f"}
			change(e)
		})
	}
	if hard(func(*Entry) {}) == hard(func(e *Entry) { e.Link = "h" }) {
		t.Error("the target of a hard link does not move the digest")
	}
	if hard(func(*Entry) {}) != hard(func(e *Entry) { e.Mode, e.UID, e.MTime, e.Xattrs = 0o644, 5, 7, map[string][]byte{"user.a": nil} }) {
		t.Error("a hard link's own fields, which no writer shows, move the digest")
	}
	late := func(at int64) [32]byte { return digest(func(e *Entry) { e.MTime = at }) }
	if late(100) != late(101) || late(0) != late(-7) || late(99) == late(100) {
		t.Error("times are not clamped to 0..epoch")
	}
}

func TestDigestOrder(t *testing.T) {
	xattrs := func() map[string][]byte { return map[string][]byte{"user.a": {1}, "user.b": {2}, "user.c": {3}} }
	a, b := New(), New()
	x, y := NewFile("x", 0o644, nil, "s"), NewFile("y", 0o644, nil, "s")
	x.Xattrs, y.Xattrs = xattrs(), xattrs()
	mustAdd(t, a, x, y)
	mustAdd(t, b, y, x)
	if a.Digest(0) != b.Digest(0) {
		t.Error("the order of adding moves the digest")
	}
}

func TestEntriesOrder(t *testing.T) {
	tr := New()
	for _, p := range []string{"b", "a/x", "a", "a-b", "é", "a/x/y"} {
		mustAdd(t, tr, Entry{Path: p, Kind: Dir})
	}
	if diff := cmp.Diff([]string{"", "a", "a-b", "a/x", "a/x/y", "b", "é"}, paths(tr)); diff != "" {
		t.Error(diff)
	}
}

type badContent struct{ err error }

func (b badContent) Open() (io.ReadCloser, error) { return io.NopCloser(b), nil }
func (b badContent) Read([]byte) (int, error)     { return 0, b.err }

func TestCopyTo(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100)
	e := NewFile("f", 0o644, data, "package x")
	for _, size := range []int{1, 7, 1000, 4096} { // buffers smaller and larger than the contents
		var b bytes.Buffer
		if err := e.CopyTo(context.Background(), &b, make([]byte, size)); err != nil || !bytes.Equal(b.Bytes(), data) {
			t.Errorf("buffer of %d: %v", size, err)
		}
	}
	broken := errors.New("broken disk")
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tt := range map[string]struct {
		ctx    context.Context
		change func(*Entry)
		want   error
	}{
		"longer":    {context.Background(), func(e *Entry) { e.Size-- }, ErrSize},
		"shorter":   {context.Background(), func(e *Entry) { e.Size++ }, ErrSize},
		"other":     {context.Background(), func(e *Entry) { e.Digest[5]++ }, ErrDigest},
		"no data":   {context.Background(), func(e *Entry) { e.Data = nil }, ErrSize},
		"unread":    {context.Background(), func(e *Entry) { e.Data = badContent{broken} }, broken},
		"cancelled": {canceled, func(*Entry) {}, context.Canceled},
	} {
		bad := e
		tt.change(&bad)
		var b bytes.Buffer
		err := bad.CopyTo(tt.ctx, &b, make([]byte, 64))
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), `"f" from package x`) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if int64(b.Len()) > bad.Size {
			t.Errorf("%s: wrote %d bytes of a file of %d", name, b.Len(), bad.Size)
		}
	}
}

func TestKindString(t *testing.T) {
	if got := HardLink.String() + ", " + Kind(77).String(); got != "hard link, kind 77" {
		t.Errorf("got %q", got)
	}
}

func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"", "a/b", "../a", "a//b", "a\x00", "."} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) != nil {
			return
		}
		for q := p; q != ""; q = Parent(q) {
			if err := CheckPath(q); err != nil {
				t.Fatalf("%q is accepted, its parent is not: %v", p, err)
			}
		}
	})
}

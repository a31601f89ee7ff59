// Package tree is the file tree that every source adds to and every writer reads from: ordered bytewise
// by path, normalised, with contents by reference.
//
// Paths are slash-separated, relative, without "." or ".." elements and without a leading or trailing
// slash; the root directory is the empty path. A directory that is only implied by a deeper path is
// made by [Tree.Complete] with mode 0755, owner 0:0.
package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"sort"
	"strings"
)

// A Kind is the type of an entry. The zero Kind is invalid.
type Kind uint8

// The kinds a tree can hold. Sockets have no kind: they are refused by every source.
const (
	Dir Kind = 1 + iota
	File
	Symlink
	HardLink // another name of the File at Entry.Link
	CharDev
	BlockDev
	FIFO
)

func (k Kind) String() string {
	names := [...]string{"invalid", "directory", "file", "symlink", "hard link", "character device", "block device", "fifo"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MaxPath and MaxName are the longest path and path element accepted, in bytes (Linux PATH_MAX less the
// NUL, NAME_MAX). MaxEntries bounds a tree.
const (
	MaxPath    = 4095
	MaxName    = 255
	MaxEntries = 4 << 20
)

// A Content is the bytes of a regular file. Open may be called several times, from several goroutines.
type Content interface {
	Open() (io.ReadCloser, error)
}

// An Entry is one path of a tree.
type Entry struct {
	Path   string            // see the package comment
	Kind   Kind              //
	Mode   uint32            // permission bits with setuid, setgid and sticky: at most 07777
	UID    uint32            //
	GID    uint32            //
	MTime  int64             // seconds since 1970; writers clamp it to the epoch
	Size   int64             // bytes of a File, else 0
	Link   string            // target of a Symlink (any text) or path of the File a HardLink names
	Major  uint32            // of a device
	Minor  uint32            // of a device
	Xattrs map[string][]byte // extended attributes by full name, e.g. "security.capability"
	Digest [sha256.Size]byte // SHA-256 of the contents of a File
	Data   Content           // contents of a File; nil only when Size is 0
	Source string            // who added it, for messages and the manifest, e.g. "package libc6 2.41-12"
}

// A Tree holds at most one entry a path. The zero Tree is not usable; call New.
type Tree struct {
	entries map[string]*Entry
}

// New returns a tree that holds the root directory: mode 0755, owner 0:0, time 0.
func New() *Tree {
	return &Tree{entries: map[string]*Entry{"": {Kind: Dir, Mode: 0o755, Source: "tally"}}}
}

// CheckPath refuses a path that is not in the form of the package comment. The root ("") is not accepted.
func CheckPath(p string) error {
	if p == "" || len(p) > MaxPath {
		return fmt.Errorf("path %.64q: want 1 to %d bytes", p, MaxPath)
	}
	for _, el := range strings.Split(p, "/") {
		switch {
		case el == "" || el == "." || el == "..":
			return fmt.Errorf("path %q: element %q is not allowed", p, el)
		case len(el) > MaxName:
			return fmt.Errorf("path %.64q: element longer than %d bytes", p, MaxName)
		case strings.ContainsRune(el, 0):
			return fmt.Errorf("path %q: NUL byte", p)
		}
	}
	return nil
}

// Add puts e into the tree. A path that is already there is an error, unless both are directories with
// equal mode and owner: then the first stays.
func (t *Tree) Add(e Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	old := t.entries[e.Path]
	if old == nil {
		if len(t.entries) >= MaxEntries {
			return fmt.Errorf("tree: more than %d entries", MaxEntries)
		}
		t.entries[e.Path] = &e
		return nil
	}
	if old.Kind == Dir && e.Kind == Dir && old.Mode == e.Mode && old.UID == e.UID && old.GID == e.GID {
		return nil
	}
	return fmt.Errorf("path %q: %s from %s, but %s already put a %s there", e.Path, e.describe(), e.Source, old.Source, old.describe())
}

// Replace puts e into the tree in place of whatever is at its path: for sources that the spec says may
// override earlier ones.
func (t *Tree) Replace(e Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	t.entries[e.Path] = &e
	return nil
}

func (e *Entry) describe() string {
	return fmt.Sprintf("%s (mode %04o, owner %d:%d)", e.Kind, e.Mode, e.UID, e.GID)
}

func (e *Entry) check() error {
	if err := CheckPath(e.Path); err != nil && !(e.Path == "" && e.Kind == Dir) {
		return fmt.Errorf("%s: %w", e.Source, err)
	}
	switch {
	case e.Kind < Dir || e.Kind > FIFO:
		return fmt.Errorf("%s: path %q: unknown kind %d", e.Source, e.Path, e.Kind)
	case e.Mode > 0o7777:
		return fmt.Errorf("%s: path %q: mode %#o has bits beyond 07777", e.Source, e.Path, e.Mode)
	case e.Size < 0 || e.Kind != File && e.Size != 0:
		return fmt.Errorf("%s: path %q: size %d of a %s", e.Source, e.Path, e.Size, e.Kind)
	case e.Kind == File && e.Size > 0 && e.Data == nil:
		return fmt.Errorf("%s: path %q: file of %d bytes without contents", e.Source, e.Path, e.Size)
	case (e.Kind == Symlink || e.Kind == HardLink) && (e.Link == "" || len(e.Link) > MaxPath):
		return fmt.Errorf("%s: path %q: link target of %d bytes, want 1 to %d", e.Source, e.Path, len(e.Link), MaxPath)
	case e.Major > 0xfff || e.Minor > 0xfffff:
		return fmt.Errorf("%s: path %q: device %d:%d, want at most 4095:1048575", e.Source, e.Path, e.Major, e.Minor)
	case e.Kind == Symlink && strings.ContainsRune(e.Link, 0):
		return fmt.Errorf("%s: path %q: NUL byte in the link target", e.Source, e.Path)
	}
	return nil
}

// Get returns the entry at path, or nil.
func (t *Tree) Get(path string) *Entry { return t.entries[path] }

// Len is the number of entries, the root included.
func (t *Tree) Len() int { return len(t.entries) }

// Entries returns all entries in bytewise order of their paths; the root directory comes first. Callers
// must not change them.
func (t *Tree) Entries() []*Entry {
	all := make([]*Entry, 0, len(t.entries))
	for _, e := range t.entries {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	return all
}

// Parent is the path of the directory that holds p.
func Parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// Complete makes every parent directory that is missing and checks what can only be checked on the
// whole: a parent must be a directory (not a symlink: writers do not follow them), a hard link must
// name a File of this tree.
func (t *Tree) Complete() error { return t.complete(MaxEntries) }

// complete is Complete of a tree of at most limit entries: a million deep paths imply a billion directories.
func (t *Tree) complete(limit int) error {
	for _, e := range t.Entries() {
		for p := Parent(e.Path); ; p = Parent(p) {
			d := t.entries[p]
			if d == nil && len(t.entries) >= limit {
				return fmt.Errorf("tree: more than %d entries, with the directories that paths imply", limit)
			} else if d == nil {
				t.entries[p] = &Entry{Path: p, Kind: Dir, Mode: 0o755, Source: e.Source}
			} else if d.Kind != Dir {
				return fmt.Errorf("path %q from %s: its parent %q is a %s from %s, want a directory", e.Path, e.Source, p, d.Kind, d.Source)
			}
			if p == "" {
				break
			}
		}
		if e.Kind != HardLink {
			continue
		}
		if target := t.entries[e.Link]; target == nil || target.Kind != File {
			return fmt.Errorf("path %q from %s: hard link to %q, which is no file of this image", e.Path, e.Source, e.Link)
		}
	}
	return nil
}

// Time is the modification time that writers give to e: never negative, never after epoch.
func (e *Entry) Time(epoch int64) int64 { return max(0, min(e.MTime, epoch)) }

// Digest is the SHA-256 of everything a writer can see of the tree but for file bytes, which enter by
// their own digests: it names the tree's content, independent of how it was put together. Times enter as
// writers see them, clamped to epoch; what a kind does not have enters as zero, whatever the entry says (a
// hard link has a path and a target, a file has no device number). The form is part of layout v1
// (mkimage/SPEC.md, 1).
func (t *Tree) Digest(epoch int64) [sha256.Size]byte {
	h := sha256.New()
	writeString(h, "tally tree v1")
	for _, e := range t.Entries() {
		e = e.visible()
		writeString(h, e.Path)
		writeInts(h, uint64(e.Kind), uint64(e.Mode), uint64(e.UID), uint64(e.GID), uint64(e.Time(epoch)), uint64(e.Size), uint64(e.Major), uint64(e.Minor))
		writeString(h, e.Link)
		h.Write(e.Digest[:])
		names := make([]string, 0, len(e.Xattrs))
		for n := range e.Xattrs {
			names = append(names, n)
		}
		sort.Strings(names)
		writeInts(h, uint64(len(names)))
		for _, n := range names {
			writeString(h, n)
			writeString(h, string(e.Xattrs[n]))
		}
	}
	var d [sha256.Size]byte
	h.Sum(d[:0])
	return d
}

// visible returns e without the fields that its kind does not have.
func (e *Entry) visible() *Entry {
	v := *e
	if v.Kind == HardLink {
		v = Entry{Path: e.Path, Kind: e.Kind, Link: e.Link}
	}
	if v.Kind != CharDev && v.Kind != BlockDev {
		v.Major, v.Minor = 0, 0
	}
	if v.Kind != File {
		v.Digest = [sha256.Size]byte{}
	}
	if v.Kind != HardLink && v.Kind != Symlink {
		v.Link = ""
	}
	return &v
}

func writeString(h hash.Hash, s string) {
	writeInts(h, uint64(len(s)))
	io.WriteString(h, s)
}

func writeInts(h hash.Hash, vs ...uint64) {
	for _, v := range vs {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
}

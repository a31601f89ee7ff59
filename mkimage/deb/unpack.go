package deb

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/atomicfile"
	"tally/mkimage/tree"
)

// Unpack reads the .deb at path, whose SHA-256 must be sum, and keeps its decompressed data.tar in
// cacheDir, where the contents of the returned entries lie. A second call finds it there and
// decompresses nothing.
//
// The cache belongs to the user who builds. Against accidents the list of files carries its own SHA-256,
// and every writer checks the SHA-256 of each file as it reads it: a damaged list is made again, damaged
// contents are an error that names the file to remove ([tree.ErrDigest]), and neither becomes wrong bytes.
// Against who may write into the cache there is no protection: that is who runs the build.
func Unpack(ctx context.Context, path string, sum [32]byte, cacheDir string) (*Archive, error) {
	c := cached{dir: cacheDir, name: hex.EncodeToString(sum[:])}
	if a, err := c.load(); err == nil {
		return a, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkSum(ctx, f, sum); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	a, err := c.fill(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return a, nil
}

// Cached returns what Unpack keeps in cacheDir of the package with that SHA-256, and unpacks nothing. A package
// that is not there is an error that wraps os.ErrNotExist.
func Cached(sum [32]byte, cacheDir string) (*Archive, error) {
	return cached{dir: cacheDir, name: hex.EncodeToString(sum[:])}.load()
}

func checkSum(ctx context.Context, f *os.File, want [32]byte) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > MaxPackage {
		return fmt.Errorf("%d bytes, want at most %d", fi.Size(), int64(MaxPackage))
	}
	h := sha256.New()
	if _, err := io.Copy(h, &position{ctx: ctx, r: f, limit: MaxPackage}); err != nil {
		return err
	}
	if got := h.Sum(nil); [32]byte(got) != want {
		return fmt.Errorf("SHA-256 %x, want %x", got, want)
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// A cached is the place of one package in the cache: NAME.tar and NAME.json.
type cached struct{ dir, name string }

func (c cached) tar() string  { return filepath.Join(c.dir, c.name+".tar") }
func (c cached) list() string { return filepath.Join(c.dir, c.name+".json") }

// A stored is the JSON form of an Archive: its first line; the second is the SHA-256 of the first.
type stored struct {
	Version int
	TarSize int64
	Control Paragraph
	Scripts []string
	Entries []storedEntry
}

// A storedEntry is a tree.Entry. Paths are bytes because they need not be UTF-8, which JSON strings must be.
type storedEntry struct {
	Path, Link []byte
	Kind       tree.Kind
	Mode       uint32
	UID, GID   uint32
	MTime      int64
	Size       int64             `json:",omitempty"`
	Offset     int64             `json:",omitempty"`
	Digest     []byte            `json:",omitempty"`
	Xattrs     map[string][]byte `json:",omitempty"`
}

// storedVersion is that of the reader too: it changes when packages are read, or refused, differently.
const storedVersion = 2

func (se storedEntry) entry(tar, source string) (tree.Entry, bool) {
	e := tree.Entry{Path: string(se.Path), Link: string(se.Link), Kind: se.Kind, Mode: se.Mode, UID: se.UID, GID: se.GID,
		MTime: se.MTime, Size: se.Size, Xattrs: se.Xattrs, Source: source}
	if e.Kind == tree.File {
		if len(se.Digest) != len(e.Digest) {
			return e, false
		}
		e.Digest = [32]byte(se.Digest)
		e.Data = slice{tree.Section{Path: tar, Offset: se.Offset, Size: e.Size}}
	}
	return e, true
}

// slice is a Content: bytes of the unpacked tar.
type slice struct{ tree.Section }

// Location names the file for messages. It is made again when it is missing.
func (s slice) Location() string { return "cached in " + s.Path + ": remove it" }

func (c cached) load() (*Archive, error) {
	data, err := os.ReadFile(c.list())
	if err != nil {
		return nil, err
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	if sum := sha256.Sum256([]byte(line)); strings.TrimSpace(rest) != hex.EncodeToString(sum[:]) {
		return nil, os.ErrNotExist // damaged: unpack again
	}
	var s stored
	if err := json.Unmarshal([]byte(line), &s); err != nil || s.Version != storedVersion {
		return nil, os.ErrNotExist
	}
	if fi, err := os.Stat(c.tar()); err != nil || fi.Size() != s.TarSize {
		return nil, os.ErrNotExist
	}
	a := &Archive{Control: s.Control, Scripts: s.Scripts, Entries: make([]tree.Entry, len(s.Entries))}
	for i, se := range s.Entries {
		var ok bool
		if a.Entries[i], ok = se.entry(c.tar(), a.source()); !ok {
			return nil, os.ErrNotExist
		}
	}
	return a, nil
}

// source is how messages name the package.
func (a *Archive) source() string {
	return fmt.Sprintf("package %s %s", a.Control["package"], a.Control["version"])
}

// fill decompresses and lists the package.
func (c cached) fill(ctx context.Context, f *os.File) (*Archive, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	control, data, err := members(f, fi.Size())
	if err != nil {
		return nil, err
	}
	a := new(Archive)
	if a.Control, a.Scripts, err = readControl(ctx, io.NewSectionReader(f, control.offset, control.size), control.name); err != nil {
		return nil, err
	}
	z, err := decompress(data.name, "data.tar", bufio.NewReaderSize(io.NewSectionReader(f, data.offset, data.size), 64<<10))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	out, err := atomicfile.Create(c.tar(), 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	w := bufio.NewWriterSize(out, 256<<10)
	p := &position{ctx: ctx, r: io.TeeReader(z, w), limit: maxUnpacked}
	content := func(off, size int64) tree.Content { return slice{tree.Section{Path: c.tar(), Offset: off, Size: size}} }
	if a.Entries, err = readData(p, a.source(), content); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	if err := out.Commit(); err != nil {
		return nil, err
	}
	return a, c.save(a, p.n)
}

func (c cached) save(a *Archive, tarSize int64) error {
	s := stored{Version: storedVersion, TarSize: tarSize, Control: a.Control, Scripts: a.Scripts}
	for _, e := range a.Entries {
		se := storedEntry{Path: []byte(e.Path), Link: []byte(e.Link), Kind: e.Kind, Mode: e.Mode, UID: e.UID, GID: e.GID, MTime: e.MTime, Size: e.Size, Xattrs: e.Xattrs}
		if sl, ok := e.Data.(slice); ok {
			se.Digest, se.Offset = e.Digest[:], sl.Offset
		}
		s.Entries = append(s.Entries, se)
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(line)
	return atomicfile.WriteFile(c.list(), fmt.Appendf(line, "\n%x\n", sum), 0o644)
}

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
// and every writer checks the SHA-256 of each file as it reads it: a damaged cache is an error, never
// wrong bytes.
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

func checkSum(ctx context.Context, f *os.File, want [32]byte) error {
	h := sha256.New()
	if _, err := io.Copy(h, &position{ctx: ctx, r: f}); err != nil {
		return err
	}
	if got := h.Sum(nil); [32]byte(got) != want {
		return fmt.Errorf("SHA-256 %x, want %x", got, want)
	}
	_, err := f.Seek(0, io.SeekStart)
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

type storedEntry struct {
	tree.Entry
	Digest string
	Offset int64
	Data   struct{} `json:"-"`
}

const storedVersion = 1

// slice is a Content: bytes of the unpacked tar.
type slice struct {
	path         string
	offset, size int64
}

func (s slice) Open() (io.ReadCloser, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, s.offset, s.size), f}, nil
}

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
	a := &Archive{Control: s.Control, Scripts: s.Scripts}
	for _, se := range s.Entries {
		e := se.Entry
		if e.Kind == tree.File {
			if n, err := hex.Decode(e.Digest[:], []byte(se.Digest)); err != nil || n != 32 {
				return nil, os.ErrNotExist
			}
			e.Data = slice{c.tar(), se.Offset, e.Size}
		}
		a.Entries = append(a.Entries, e)
	}
	return a, nil
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
	if a.Control, a.Scripts, err = readControl(io.NewSectionReader(f, control.offset, control.size), control.name); err != nil {
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
	p := &position{ctx: ctx, r: io.TeeReader(z, w)}
	source := fmt.Sprintf("package %s %s", a.Control["package"], a.Control["version"])
	if a.Entries, err = readData(p, source, func(off, size int64) tree.Content { return slice{c.tar(), off, size} }); err != nil {
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
		se := storedEntry{Entry: e}
		if sl, ok := e.Data.(slice); ok {
			se.Digest, se.Offset = hex.EncodeToString(e.Digest[:]), sl.offset
		}
		se.Entry.Data = nil
		s.Entries = append(s.Entries, se)
	}
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(line)
	return atomicfile.WriteFile(c.list(), fmt.Appendf(line, "\n%x\n", sum), 0o644)
}

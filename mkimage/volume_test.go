package mkimage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"tally/mkimage/internal/treetest"
	"tally/mkimage/tree"
)

// A span is a range of bytes, end excluded.
type span struct{ from, to int64 }

// A ledger keeps which ranges of a file were used.
type ledger struct {
	mu    sync.Mutex
	spans []span
}

func (l *ledger) note(off int64, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans = append(l.spans, span{off, off + int64(n)})
}

// once sorts and joins the ranges, and says where two overlap.
func (l *ledger) once() (joined []span, err error) {
	slices.SortFunc(l.spans, func(a, b span) int { return int(a.from - b.from) })
	for _, s := range l.spans {
		last := len(joined) - 1
		switch {
		case s.from == s.to:
		case last >= 0 && s.from < joined[last].to:
			return joined, fmt.Errorf("bytes %d to %d twice", s.from, min(s.to, joined[last].to))
		case last >= 0 && s.from == joined[last].to:
			joined[last].to = s.to
		default:
			joined = append(joined, s)
		}
	}
	return joined, nil
}

// A watchedFile is a file that notes every use.
type watchedFile struct {
	*os.File
	read, written ledger
}

func (f *watchedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.read.note(off, n)
	return n, err
}

func (f *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.written.note(off, n)
	return n, err
}

// A watchedSource is a Content that notes how far it was read, each time it is opened.
type watchedSource struct {
	tree.Content
	opened int
	read   ledger
}

func (s *watchedSource) Open() (io.ReadCloser, error) {
	r, err := s.Content.Open()
	s.opened++
	return &watchedReader{ReadCloser: r, s: s}, err
}

type watchedReader struct {
	io.ReadCloser
	s  *watchedSource
	at int64
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.s.read.note(r.at, n)
	r.at += int64(n)
	return n, err
}

// TestVolumeIsOnePass: no byte of a source is read twice, no byte of the volume is written twice, and what
// is read of it is the finished hash area and nothing else.
func TestVolumeIsOnePass(t *testing.T) {
	const large, odd = 8 << 20, 3<<20 + 777
	sources := map[string]*watchedSource{}
	in := ModelInput{Name: "watched", Mount: "m", Tree: tree.New()}
	for name, size := range map[string]int{"large": large, "odd": odd, "tiny": 100, "of one block": 4096, "empty": 0} {
		e := tree.NewFile(name, 0o644, treetest.Pattern(size), "test")
		sources[name] = &watchedSource{Content: e.Data}
		e.Data = sources[name]
		must(in.Tree.Add(e))
	}
	f := &watchedFile{File: create(t)}
	m, a, err := WriteVolume(t.Context(), f, in, treetest.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range sources {
		want := []span{{0, in.Tree.Get(name).Size}}
		if want[0].to == 0 {
			want = nil
		}
		if got, err := s.read.once(); s.opened != 1 || err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: opened %d times, read %v, %v; want %v once", name, s.opened, got, err, want)
		}
	}
	hashAt := a.Size - 1<<20 - (m.Verity.HashSize+1<<20-1)>>20<<20 // SPEC 10: whole MiB, then one for the backup table
	if got, err := f.read.once(); err != nil || !slices.Equal(got, []span{{hashAt, hashAt + m.Verity.HashSize}}) {
		t.Errorf("read back %v, %v, want the hash area at %d, %d bytes", got, err, hashAt, m.Verity.HashSize)
	}
	written, err := f.written.once()
	if last := len(written) - 1; err != nil || written[0].from != 0 || written[last].to != a.Size {
		t.Errorf("written %v, %v, want each byte once, up to %d", written, err, a.Size)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil || a.SHA256 != sha256.Sum256(data) || a.Size != int64(len(data)) {
		t.Errorf("the file has SHA-256 %x and %d bytes, the artefact %s and %d; %v", sha256.Sum256(data), len(data), a.SHA256, a.Size, err)
	}
}

func create(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "volume"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestLedger: the watchers can fail.
func TestLedger(t *testing.T) {
	var l ledger
	l.note(10, 5)
	l.note(0, 10)
	if got, err := l.once(); err != nil || !slices.Equal(got, []span{{0, 15}}) {
		t.Errorf("%v, %v", got, err)
	}
	l.note(14, 1)
	if _, err := l.once(); err == nil {
		t.Error("a byte read twice: no error")
	}
}

// TestVolumeIDs: PARTUUIDs tell volumes apart that have not the same root hash, and only those.
func TestVolumeIDs(t *testing.T) {
	plan := func(name, file, text string, epoch int64) string {
		in := ModelInput{Name: name, Mount: "m", Tree: tree.New()}
		must(in.Tree.Add(tree.NewFile(file, 0o644, []byte(text), "test")))
		v, err := planVolume(in, epoch)
		if err != nil {
			t.Fatal(err)
		}
		_, root := volumeRoot(t, in, epoch)
		return v.partitions() + " " + root.String()
	}
	seen := map[string]string{}
	for _, v := range []string{plan("n", "f", "x", 1e9), plan("other", "f", "x", 1e9), plan("n", "g", "x", 1e9), plan("n", "f", "y", 1e9), plan("n", "f", "x", 1e9+1)} {
		ids, root, _ := strings.Cut(v, " ")
		data, hash, _ := strings.Cut(ids, ",")
		for _, id := range []string{data, hash, root} {
			if o, ok := seen[id]; ok {
				t.Errorf("%s is of %s and of %s", id, o, v)
			}
			seen[id] = v
		}
	}
	if a, b := plan("n", "f", "x", 1e9), plan("n", "f", "x", 1e9); a != b {
		t.Errorf("twice the same volume: %s and %s", a, b)
	}
}

func volumeRoot(t *testing.T, in ModelInput, epoch int64) (Artifact, Digest) {
	t.Helper()
	m, a, err := WriteVolume(t.Context(), create(t), in, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return a, m.Verity.RootHash
}

// TestVolumeOfOtherFiles: a source that is not what the lock pinned is found in the one read, and nothing of
// the image is left.
func TestVolumeOfOtherFiles(t *testing.T) {
	pattern := treetest.Pattern(3 << 20)
	spoiled := slices.Clone(pattern)
	spoiled[2<<20] ^= 1
	for name, data := range map[string][]byte{"changed": spoiled, "short": pattern[:3<<20-1], "long": append(pattern, 0)} {
		in := fixtureInputs(t)
		in.Models = []ModelInput{{Name: "m", Mount: "m", Tree: tree.New()}}
		e := tree.NewFile("weights", 0o644, pattern, "model m")
		e.Data = tree.Bytes(data)
		must(in.Models[0].Tree.Add(e))
		out := filepath.Join(t.TempDir(), "out")
		_, err := Build(t.Context(), in, out, slog.New(slog.DiscardHandler))
		if want := map[bool]error{true: tree.ErrDigest, false: tree.ErrSize}[name == "changed"]; !errors.Is(err, want) || !strings.Contains(err.Error(), `model m: erofs: path "weights" from model m: `) {
			t.Errorf("%s: error %v, want %v", name, err, want)
		}
		if left, _ := os.ReadDir(filepath.Dir(out)); len(left) > 0 {
			t.Errorf("%s: %s is left", name, left[0].Name())
		}
	}
}

// TestVolumeErrors: what the file refuses is an error, wherever it is.
func TestVolumeErrors(t *testing.T) {
	in := ModelInput{Name: "m", Mount: "m", Tree: tree.New()}
	must(in.Tree.Add(tree.NewFile("weights", 0o644, treetest.Pattern(2<<20), "test")))
	a, _ := volumeRoot(t, in, 1e9)
	for _, limit := range []int64{0, 100, 17 << 10, 1<<20 + 5000, 3<<20 + 100, a.Size - 100} {
		f := &fullFile{File: create(t), limit: limit}
		if _, _, err := WriteVolume(t.Context(), f, in, 1e9); !errors.Is(err, errFull) {
			t.Errorf("a disk of %d bytes: error %v", limit, err)
		}
	}
	for _, bad := range []ModelInput{{}, {Name: "m"}, {Name: "../m", Tree: in.Tree}} {
		if _, _, err := WriteVolume(t.Context(), create(t), bad, 1e9); err == nil || !strings.Contains(err.Error(), "want a plain name and files") {
			t.Errorf("%+v: error %v", bad, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := WriteVolume(ctx, create(t), in, 1e9); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

var errFull = errors.New("no space left")

// A fullFile takes no byte from limit on.
type fullFile struct {
	*os.File
	limit int64
}

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.limit {
		return 0, errFull
	}
	return f.File.WriteAt(p, off)
}

// endless is a Content that costs no memory: so many bytes of a counter.
type endless int64

func (n endless) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(&counterReader{}, int64(n))), nil
}

type counterReader struct{ n uint64 }

func (c *counterReader) Read(b []byte) (int, error) {
	k := len(b) &^ 7
	if k == 0 {
		return copy(b, "\x00\x00\x00\x00\x00\x00\x00"), nil
	}
	for i := 0; i < k; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], c.n)
		c.n++
	}
	return k, nil
}

const streamed = 128 << 20 // bytes

// TestModelVolumeIsStreamed: a large model goes through in one pass, in memory that does not grow with it.
func TestModelVolumeIsStreamed(t *testing.T) {
	in := fixtureInputs(t)
	in.Outputs = nil
	h := sha256.New()
	r, _ := endless(streamed).Open()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	files := tree.New()
	must(files.Add(tree.Entry{Path: "weights", Kind: tree.File, Mode: 0o644, Size: streamed, Digest: [32]byte(h.Sum(nil)), Data: endless(streamed), Source: "test"}))
	allocated := func(in Inputs) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		buildFixture(t, in)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	without := allocated(in)
	in.Models = []ModelInput{{Name: "large", Mount: "large", Tree: files}}
	if with := allocated(in); with > without+24<<20 {
		t.Errorf("%d MiB allocated with a model of %d MiB, %d MiB without", with>>20, streamed>>20, without>>20)
	}
}

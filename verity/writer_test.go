package verity

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// TestPieces feeds the same data in growing pieces, byte by byte reads and one Write.
func TestPieces(t *testing.T) {
	data := testData(300)
	p := Params{DataBlocks: 300, Salt: []byte{1}}
	want, wantHash := format(t, data, p)
	for name, feed := range map[string]func(*Writer) error{
		"growing": func(w *Writer) error {
			for rest, n := data, 1; len(rest) > 0; n = n*3 + 1 {
				k := min(n, len(rest))
				if got, err := w.Write(rest[:k]); err != nil || got != k {
					return errors.Join(errors.New("short write"), err)
				}
				rest = rest[k:]
			}
			return nil
		},
		"whole":     func(w *Writer) error { _, err := w.Write(data); return err },
		"half read": func(w *Writer) error { _, err := w.ReadFrom(iotest.HalfReader(bytes.NewReader(data))); return err },
		"data+EOF":  func(w *Writer) error { _, err := w.ReadFrom(iotest.DataErrReader(bytes.NewReader(data))); return err },
		"both": func(w *Writer) error {
			if _, err := w.Write(data[:5000]); err != nil {
				return err
			}
			n, err := io.Copy(w, bytes.NewReader(data[5000:]))
			if n != int64(len(data)-5000) {
				return errors.New("short copy")
			}
			return err
		},
	} {
		m := new(memFile)
		w, err := NewWriter(m, p)
		if err != nil {
			t.Fatal(err)
		}
		ferr := feed(w)
		if got, err := w.Close(); ferr != nil || err != nil || got != want || !bytes.Equal(m.b, wantHash) {
			t.Errorf("%s: root %v (%v, %v), want %v; equal hash file: %v", name, got, ferr, err, want, bytes.Equal(m.b, wantHash))
		}
	}
}

func TestSetUUID(t *testing.T) {
	data := testData(3)
	_, want := format(t, data, Params{UUID: testUUID})
	m := new(memFile)
	w, err := NewWriter(m, Params{DataBlocks: 3})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.SetUUID(testUUID)
	if _, err := w.Close(); err != nil || !bytes.Equal(m.b, want) {
		t.Errorf("%v; equal to a file made with the UUID: %v", err, bytes.Equal(m.b, want))
	}
}

// TestSaltIsCopied: a caller that uses its salt buffer again must not change the tree under way.
func TestSaltIsCopied(t *testing.T) {
	data := testData(300)
	want, _ := format(t, data, Params{Salt: []byte("salt")})
	salt := []byte("salt")
	w, err := NewWriter(new(memFile), Params{DataBlocks: 300, Salt: salt})
	if err != nil {
		t.Fatal(err)
	}
	clear(salt)
	w.Write(data)
	if got, err := w.Close(); got != want {
		t.Errorf("root %v (%v), want %v", got, err, want)
	}
}

func TestWriterRefusesWrongLength(t *testing.T) {
	for _, blocks := range []uint64{2, 129} {
		size := int(blocks) * BlockSize
		for _, n := range []int{0, 1, size - BlockSize, size - 1, size + 1, size + chunkSize} {
			p := Params{DataBlocks: blocks}
			w, err := NewWriter(new(memFile), p)
			if err != nil {
				t.Fatal(err)
			}
			_, werr := w.Write(make([]byte, n))
			_, cerr := w.Close()
			if (werr != nil) != (n > size) || (cerr != nil) != (n < size) {
				t.Errorf("%d bytes for %d: write error %v, close error %v", n, size, werr, cerr)
			}
			m := new(memFile)
			if root, err := Format(t.Context(), bytes.NewReader(make([]byte, n)), m, p); err == nil || root != (RootHash{}) {
				t.Errorf("Format of %d bytes for %d: root %v, error %v", n, size, root, err)
			}
		}
	}
}

func TestWriterAfterClose(t *testing.T) {
	w, err := NewWriter(new(memFile), Params{DataBlocks: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, BlockSize))
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{1}); err == nil {
		t.Error("write after close: no error")
	}
	if _, err := w.Close(); err == nil {
		t.Error("second close: no error")
	}
}

// A fullDisk takes writes below an offset only.
type fullDisk struct {
	memFile
	end int64
}

var errFull = errors.New("disk full")

func (d *fullDisk) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > d.end {
		return 0, errFull
	}
	return d.memFile.WriteAt(b, off)
}

// TestWriteErrorsComeBack fails at the leaves, at an upper level and at the superblock; a long feed must
// neither hang nor go on.
func TestWriteErrorsComeBack(t *testing.T) {
	data := testData(2000)
	size, _ := HashFileSize(Params{DataBlocks: 2000})
	for end := int64(0); end < size; end += BlockSize {
		d := &fullDisk{end: end}
		if root, err := Format(t.Context(), bytes.NewReader(data), d, Params{DataBlocks: 2000}); !errors.Is(err, errFull) || root != (RootHash{}) {
			t.Errorf("disk of %d bytes: root %v, error %v", end, root, err)
		}
		if _, err := ReadSuperblock(bytes.NewReader(d.b), 0); err == nil {
			t.Errorf("disk of %d bytes: there is a superblock", end)
		}
	}
	w, err := NewWriter(new(fullDisk), Params{DataBlocks: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; err == nil; n++ {
		if _, err = w.Write(data); n > 100 {
			t.Fatal("writes go on after the error")
		}
	}
	if _, cerr := w.Close(); !errors.Is(err, errFull) || !errors.Is(cerr, errFull) {
		t.Errorf("write %v, close %v", err, cerr)
	}
}

func TestReadErrorsComeBack(t *testing.T) {
	for _, n := range []int{0, 100, 200} {
		r := io.MultiReader(bytes.NewReader(testData(n)), iotest.ErrReader(errFull))
		if _, err := Format(t.Context(), r, new(memFile), Params{DataBlocks: 200}); !errors.Is(err, errFull) {
			t.Errorf("error after %d blocks: %v", n, err)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	data := testData(200)
	root, hash := format(t, data, Params{})
	cancel()
	if _, err := Format(ctx, bytes.NewReader(data), new(memFile), Params{DataBlocks: 200}); !errors.Is(err, context.Canceled) {
		t.Errorf("format: %v", err)
	}
	if err := Verify(ctx, bytes.NewReader(data), bytes.NewReader(hash), root, Params{DataBlocks: 200}); !errors.Is(err, context.Canceled) {
		t.Errorf("verify: %v", err)
	}
}

// zeros is an endless reader; nowhere takes every write.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

type nowhere struct{}

func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// TestFlatMemory: 256 MiB of data must not allocate more than 16 MiB of it do, give or take a page or
// two of the runtime's own.
func TestFlatMemory(t *testing.T) {
	allocated := func(blocks uint64) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Format(t.Context(), io.LimitReader(zeros{}, int64(blocks)*BlockSize), nowhere{}, Params{DataBlocks: blocks}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := allocated(4096), allocated(65536)
	if large > small+32<<10 || small > 4<<20 {
		t.Errorf("%d bytes allocated for 16 MiB of data, %d for 256 MiB", small, large)
	}
}

// TestFlatMemoryOfOtherShapes: what is in flight is bounded by bytes, not by the blocks of a tree, when
// these are the largest and the smallest: 16 MiB of data allocate less than 6 MiB.
func TestFlatMemoryOfOtherShapes(t *testing.T) {
	for _, p := range []Params{
		{Hash: SHA1, DataBlockSize: 65536, HashBlockSize: 65536},
		{Hash: SHA512, DataBlockSize: 512, HashBlockSize: 512},
		{DataBlockSize: 65536, HashBlockSize: 512},
		{DataBlockSize: 512, HashBlockSize: 65536, Format0: true},
	} {
		const size = 16 << 20
		p.DataBlocks = uint64(size / p.DataBlockSize)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Format(t.Context(), io.LimitReader(zeros{}, size), nowhere{}, p); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 6<<20 {
			t.Errorf("blocks of %d and %d bytes: %d bytes allocated", p.DataBlockSize, p.HashBlockSize, n)
		}
	}
}

// TestDeclaredSizeCostsNothing: the largest block count must not be believed ahead of the data.
func TestDeclaredSizeCostsNothing(t *testing.T) {
	p := Params{DataBlocks: 1<<51 - 1, Salt: make([]byte, MaxSalt), HashOffset: 1 << 62}
	if size, err := HashFileSize(p); err != nil || size < 1<<62 {
		t.Errorf("size %d, %v", size, err)
	}
	if _, err := Format(t.Context(), bytes.NewReader(make([]byte, BlockSize)), new(memFile), p); err == nil || !strings.Contains(err.Error(), "data: 4096 bytes, want") {
		t.Errorf("format: %v", err)
	}
	p.HashOffset = 0
	if err := Verify(t.Context(), bytes.NewReader(nil), bytes.NewReader(make([]byte, 3*BlockSize)), testRoot(1), p); !errors.Is(err, ErrRoot) {
		t.Errorf("verify: %v", err)
	}
}

// TestLadderFourLevels builds 16385 leaf blocks' worth of upper levels (8 GiB of data) and compares them
// with the same levels made one after another.
func TestLadderFourLevels(t *testing.T) {
	g, err := Params{DataBlocks: 16385 * 128, Salt: []byte("four"), NoSuperblock: true}.geometry()
	if err != nil {
		t.Fatal(err)
	}
	levels, end := g.levels, g.end
	if len(levels) != 4 {
		t.Fatalf("%d levels, want 4", len(levels))
	}
	m := new(memFile)
	l := newLadder(m, g, 1)
	var below []byte
	for i := range levels[0].count {
		var d [32]byte
		binary.BigEndian.PutUint64(d[:], i+1)
		below = append(below, d[:]...)
		if err := l.add(d[:]); err != nil {
			t.Fatal(err)
		}
	}
	root, err := l.finish()
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, int(end)*BlockSize)
	for i, lv := range levels[1:] {
		at := want[g.offset(i+1, 0):][:lv.count*BlockSize]
		copy(at, below)
		below = nil
		for ; len(at) > 0; at = at[BlockSize:] {
			below = append(below, digest(g.Salt, at[:BlockSize])...)
		}
	}
	if upper := int(levels[0].start) * BlockSize; !bytes.Equal(m.b, want[:upper]) || !bytes.Equal(root.Bytes(), below) {
		t.Errorf("root %v, want %x; equal levels: %v", root, below, bytes.Equal(m.b, want[:upper]))
	}
}

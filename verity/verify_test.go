package verity

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestVerifyNamesTheBadBlock(t *testing.T) {
	const blocks = 16385 + 7 // three levels
	p := Params{DataBlocks: blocks, Salt: []byte("s")}
	data := testData(blocks)
	root, hash := format(t, data, p)
	g, err := Params{DataBlocks: blocks}.geometry()
	if err != nil {
		t.Fatal(err)
	}
	levels, end := g.levels, g.end
	check := func() error { return Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p) }
	if err := check(); err != nil {
		t.Fatal(err)
	}
	want := func(t *testing.T, area Area, block uint64) {
		t.Helper()
		var be *BlockError
		if err := check(); !errors.As(err, &be) || be.Area != area || be.Block != block || be.Offset != int64(block)*BlockSize || be.Padding {
			t.Errorf("%v, want %s block %d", err, area, block)
		}
	}
	for _, block := range []uint64{0, 127, 128, 16384, blocks - 1} {
		t.Run(fmt.Sprintf("data=%d", block), func(t *testing.T) {
			flip(t, data, int(block)*BlockSize+BlockSize-1)
			want(t, AreaData, block)
		})
	}
	for _, block := range []uint64{levels[1].start, levels[1].start + 1, levels[0].start, levels[0].start + 100, end - 1} {
		t.Run(fmt.Sprintf("hash=%d", block), func(t *testing.T) {
			flip(t, hash, int(block)*BlockSize)
			want(t, AreaHash, block)
		})
	}
	t.Run("top", func(t *testing.T) {
		flip(t, hash, BlockSize)
		if err := check(); !errors.Is(err, ErrRoot) {
			t.Errorf("%v, want the root", err)
		}
	})
	t.Run("first of three", func(t *testing.T) {
		flip(t, data, 500*BlockSize)
		flip(t, data, 9000*BlockSize)
		flip(t, hash, int(levels[0].start+20)*BlockSize)
		want(t, AreaData, 500)
	})
	t.Run("superblock is not read", func(t *testing.T) {
		flip(t, hash, 100)
		if err := check(); err != nil {
			t.Error(err)
		}
	})
}

func TestVerifyWrongParams(t *testing.T) {
	data := testData(300)
	p := Params{DataBlocks: 300, Salt: []byte("right")}
	root, hash := format(t, data, p)
	for name, change := range map[string]func(*Params){
		"salt":          func(p *Params) { p.Salt = []byte("wrong") },
		"no salt":       func(p *Params) { p.Salt = nil },
		"offset":        func(p *Params) { p.HashOffset = BlockSize },
		"no superblock": func(p *Params) { p.NoSuperblock = true },
		"fewer blocks":  func(p *Params) { p.DataBlocks = 299 },
		"one block":     func(p *Params) { p.DataBlocks = 1 },
		"fewer levels":  func(p *Params) { p.DataBlocks = 128 },
		"format 0":      func(p *Params) { p.Format0 = true },
		"data blocks":   func(p *Params) { p.DataBlockSize, p.DataBlocks = 2048, 600 },
		"hash blocks":   func(p *Params) { p.HashBlockSize = 512 },
	} {
		q := p
		change(&q)
		err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, q)
		if be := (*BlockError)(nil); !errors.Is(err, ErrRoot) && !errors.As(err, &be) {
			t.Errorf("%s: %v, want a verdict", name, err)
		}
	}
	for want, q := range map[string]Params{"no block": {}, "root hash: 32 bytes, want the 64 of sha512": {DataBlocks: 300, Hash: SHA512}} {
		if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestVerifyUnreadable: what cannot be read is no verdict.
func TestVerifyUnreadable(t *testing.T) {
	data := testData(300)
	p := Params{DataBlocks: 300}
	root, hash := format(t, data, p)
	for name, c := range map[string]struct {
		data, hash io.ReaderAt
		want       string
	}{
		"short data":  {bytes.NewReader(data[:len(data)-1]), bytes.NewReader(hash), "data file ends in block 299, want 1 more bytes"},
		"no data":     {bytes.NewReader(nil), bytes.NewReader(hash), "data file ends in block 0"},
		"short hash":  {bytes.NewReader(data), bytes.NewReader(hash[:len(hash)-1]), "hash file ends in block 4, want 1 more bytes"},
		"no hash":     {bytes.NewReader(data), bytes.NewReader(nil), "hash file ends in block 1"},
		"broken data": {brokenFile{}, bytes.NewReader(hash), "data block 0: bad sector"},
		"broken hash": {bytes.NewReader(data), brokenFile{}, "hash block 1: bad sector"},
	} {
		err := Verify(t.Context(), c.data, c.hash, root, p)
		if be := (*BlockError)(nil); err == nil || errors.Is(err, ErrRoot) || errors.As(err, &be) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

type brokenFile struct{}

func (brokenFile) ReadAt([]byte, int64) (int, error) { return 0, errors.New("bad sector") }

func TestVerifySingleBlock(t *testing.T) {
	data := testData(1)
	p := Params{DataBlocks: 1, Salt: []byte("x"), NoSuperblock: true}
	root, hash := format(t, data, p)
	if len(hash) != 0 || !bytes.Equal(root.Bytes(), digest(p.Salt, data)) {
		t.Errorf("root %v and %d bytes of tree, want the block's digest and none", root, len(hash))
	}
	check := func() error { return Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(nil), root, p) }
	if err := check(); err != nil {
		t.Error(err)
	}
	data[7] ^= 1
	if err := check(); !errors.Is(err, ErrRoot) {
		t.Errorf("flipped: %v", err)
	}
	data = data[:BlockSize-1]
	if err := check(); err == nil || !strings.Contains(err.Error(), "data file ends") {
		t.Errorf("short: %v", err)
	}
}

// TestVerifyIgnoresLongerData: a partition is often longer than its file system.
func TestVerifyIgnoresLongerData(t *testing.T) {
	data := testData(130)
	root, hash := format(t, data[:129*BlockSize], Params{})
	if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, Params{DataBlocks: 129}); err != nil {
		t.Error(err)
	}
}

// FuzzVerify: any hash file but the right one is refused, without a panic.
func FuzzVerify(f *testing.F) {
	const blocks, size = 40, 512 // two levels
	data := testData(blocks * size / BlockSize)
	p := Params{DataBlocks: blocks, NoSuperblock: true, DataBlockSize: size, HashBlockSize: size}
	m := new(memFile)
	root, err := Format(f.Context(), bytes.NewReader(data), m, p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.b, uint64(blocks), false, size, size)
	f.Add(m.b[:size], uint64(8), false, size, size)
	f.Add(m.b, uint64(1<<51-1), true, 4096, 4096)
	f.Add([]byte{}, uint64(1), false, 65536, 512)
	f.Fuzz(func(t *testing.T, hash []byte, n uint64, superblock bool, dataBlock, hashBlock int) {
		q := Params{DataBlocks: n, NoSuperblock: !superblock, DataBlockSize: dataBlock, HashBlockSize: hashBlock}
		err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, q)
		same := n == blocks && !superblock && dataBlock == size && hashBlock == size && len(hash) >= len(m.b) && bytes.Equal(hash[:len(m.b)], m.b)
		if (err == nil) != same {
			t.Errorf("%d bytes, %d blocks of %d and %d: %v", len(hash), n, dataBlock, hashBlock, err)
		}
	})
}

// TestPathForgetsBadBlocks: a block that is read and not good takes the place of the one before it, which is then read
// and checked again.
func TestPathForgetsBadBlocks(t *testing.T) {
	data := testData(300)
	root, hash := format(t, data, Params{})
	g, err := (Params{DataBlocks: 300}).geometry()
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(hash)
	bad[g.offset(0, 1)] ^= 1
	p := newPath(bytes.NewReader(bad), root, g)
	for _, i := range []uint64{0, 1, 0, 2, 1, 2} {
		b, err := p.block(0, i)
		if good := i != 1; (err == nil) != good || good && !bytes.Equal(b, hash[g.offset(0, i):][:len(b)]) {
			t.Errorf("block %d: %v, or other bytes", i, err)
		}
	}
}

// TestSlotPadding: with SHA-1 twelve bytes follow each digest. A tree that has the root hash but something there is not
// the tree that anybody makes.
func TestSlotPadding(t *testing.T) {
	data := testData(2)
	_, good := format(t, data, Params{Hash: SHA1})
	p := Params{DataBlocks: 2, Hash: SHA1}
	for at, padding := range map[int]bool{0: false, 19: false, 20: true, 31: true, 32: false, 51: false, 52: true, 63: true, 64: true, BlockSize - 1: true} {
		hash := bytes.Clone(good)
		hash[BlockSize+at] ^= 1
		sum := sha1.Sum(hash[BlockSize:])
		root, err := NewRootHash(sum[:])
		if err != nil {
			t.Fatal(err)
		}
		var be *BlockError
		if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p); !errors.As(err, &be) || be.Padding != padding || (be.Area == AreaHash) != padding {
			t.Errorf("byte %d of the hash block: %v, want padding %t", at, err, padding)
		}
	}
}

package verity

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

var (
	propertyCases = flag.Int("verity.cases", 100, "random option sets that TestOptionsEqualToVeritysetup tries")
	propertySeed  = flag.Uint64("verity.seed", 1, "what TestOptionsEqualToVeritysetup starts its random numbers with")
)

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// randomParams draws every option of a tree.
func randomParams(r *rand.Rand) Params {
	size := func() int { return MinBlockSize << r.IntN(8) }
	p := Params{Hash: pick(r, SHA1, SHA256, SHA512), Format0: r.IntN(2) == 0, DataBlockSize: size(), HashBlockSize: size(), NoSuperblock: r.IntN(3) == 0}
	if r.IntN(4) == 0 {
		p.DataBlockSize = p.HashBlockSize // as FEC wants it
	}
	p.Salt = make([]byte, pick(r, 0, 1, 32, 64, 255, 256, r.IntN(257)))
	for i := range p.Salt {
		p.Salt[i] = byte(r.Uint32())
	}
	if !p.NoSuperblock {
		p.UUID = testUUID
	}
	return p
}

// randomBlocks draws a number of data blocks next to one at which a level fills up or appears, or any,
// so that the data is at most about 4 MiB.
func randomBlocks(t *testing.T, r *rand.Rand, p Params) uint64 {
	p.DataBlocks = 1
	g, err := p.geometry()
	if err != nil {
		t.Fatal(err)
	}
	most := max(2, uint64(4<<20/p.DataBlockSize))
	edges := []uint64{1}
	for n := g.perBlock; n <= most; n *= g.perBlock {
		edges = append(edges, n)
	}
	if r.IntN(4) == 0 {
		return 1 + r.Uint64N(most)
	}
	edge := pick(r, edges...)
	return max(1, pick(r, edge-1, edge, edge+1, edge+g.perBlock-1, 2*edge, 2*edge+1, 3*edge))
}

// TestOptionsEqualToVeritysetup compares root hash and hash file under random options: the hash area in
// a file of its own, in one with other bytes around it, and behind the data in the same file.
func TestOptionsEqualToVeritysetup(t *testing.T) {
	t.Logf("-verity.seed=%d -verity.cases=%d", *propertySeed, *propertyCases)
	r := rand.New(rand.NewPCG(*propertySeed, 0))
	for n := range *propertyCases {
		p := randomParams(r)
		p.DataBlocks = randomBlocks(t, r, p)
		data := make([]byte, p.DataBlocks*uint64(p.DataBlockSize))
		rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(data)
		where := pick(r, "alone", "alone", "dirty", "behind data")
		if where != "alone" {
			p.HashOffset = int64(1+r.IntN(40)) * sector
			if p.NoSuperblock {
				p.HashOffset = int64(1+r.IntN(3)) * int64(p.HashBlockSize)
			}
		}
		if where == "behind data" {
			align := int64(max(p.DataBlockSize, p.HashBlockSize))
			p.HashOffset += (int64(len(data)) + align - 1) / align * align
		}
		name := fmt.Sprintf("%d: %s, %s, format0=%v, blocks %d*%d/%d, salt %d, nosb=%v, offset %d",
			n, where, p.Hash, p.Format0, p.DataBlocks, p.DataBlockSize, p.HashBlockSize, len(p.Salt), p.NoSuperblock, p.HashOffset)
		t.Run(name, func(t *testing.T) { equalToVeritysetup(t, data, where, p) })
	}
}

func equalToVeritysetup(t *testing.T, data []byte, where string, p Params) {
	before := make([]byte, p.HashOffset+20000)
	rand.NewChaCha8([32]byte{9}).Read(before)
	copy(before, data) // also when the file is another: it does not matter
	if where == "alone" {
		before = nil
	}
	hashFile := filepath.Join(t.TempDir(), "hash")
	if before != nil {
		if err := os.WriteFile(hashFile, before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dataFile := hashFile
	if where != "behind data" {
		dataFile = writeTemp(t, data)
	}
	wantRoot, wantHash := veritysetupFormat(t, dataFile, hashFile, p)
	ours := &memFile{b: bytes.Clone(before)}
	root, err := Format(t.Context(), bytes.NewReader(data), ours, p)
	if err != nil {
		t.Fatal(err)
	}
	if root.String() != wantRoot {
		t.Errorf("root hash %s, veritysetup says %s", root, wantRoot)
	}
	if !bytes.Equal(ours.b, wantHash) {
		t.Errorf("hash files differ: %d and %d bytes, first at %d", len(ours.b), len(wantHash), firstDifference(ours.b, wantHash))
	}
	check := p
	if !p.NoSuperblock {
		if check, err = ReadSuperblock(bytes.NewReader(wantHash), p.HashOffset); err != nil {
			t.Fatalf("veritysetup's superblock: %v", err)
		}
	}
	if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(wantHash), root, check); err != nil {
		t.Errorf("veritysetup's tree: %v", err)
	}
	namesFlippedByte(t, data, wantHash, root, check)
}

// namesFlippedByte changes one byte of the data and one of the tree: each time Verify names its block.
func namesFlippedByte(t *testing.T, data, hash []byte, root RootHash, p Params) {
	g, err := p.geometry()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(len(data)), uint64(len(hash))))
	bad := func(b []byte, at int) (*BlockError, error) {
		b[at] ^= 4
		defer func() { b[at] ^= 4 }()
		err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p)
		be, _ := err.(*BlockError)
		return be, err
	}
	at := r.IntN(len(data))
	block := uint64(at / g.DataBlockSize)
	if be, err := bad(data, at); len(g.levels) == 0 && err != ErrRoot ||
		len(g.levels) > 0 && (be == nil || *be != BlockError{Area: AreaData, Block: block, Offset: int64(block) * int64(g.DataBlockSize), First: block, Count: 1}) {
		t.Errorf("data byte %d flipped: %+v, %v", at, be, err)
	}
	if len(g.levels) == 0 {
		return
	}
	lv := r.IntN(len(g.levels))
	i := r.Uint64N(g.levels[lv].count)
	at = int(g.offset(lv, i)) + r.IntN(g.HashBlockSize)
	first := i * g.span(lv)
	want := BlockError{Area: AreaHash, Block: g.levels[lv].start + i, Offset: g.offset(lv, i), Level: lv, First: first, Count: min(g.span(lv), g.DataBlocks-first)}
	if be, err := bad(hash, at); lv == len(g.levels)-1 && err != ErrRoot || lv < len(g.levels)-1 && (be == nil || *be != want) {
		t.Errorf("hash byte %d flipped: %+v, %v, want %+v", at, be, err, want)
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

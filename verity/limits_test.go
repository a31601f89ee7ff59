package verity

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// writeOnly is a file that cannot be read.
type writeOnly struct{ io.WriterAt }

// unreadable is one that says why.
type unreadable struct {
	*memFile
	brokenFile
}

func (u unreadable) ReadAt(b []byte, off int64) (int, error) { return u.brokenFile.ReadAt(b, off) }

// TestSuperblockAlone: of data of one block the hash file is a superblock, up to the end of a hash block or page, and
// what stood behind it stays.
func TestSuperblockAlone(t *testing.T) {
	data := testData(1)
	for _, c := range []struct {
		block       int
		offset, end int64
	}{{512, 0, 512}, {512, 512, 1024}, {1024, 0, 1024}, {1024, 512, 1024}, {1024, 1024, 2048}, {4096, 0, 4096}, {65536, 0, 4096}, {65536, 4096 - 512, 4096}, {65536, 4096, 8192}} {
		p := Params{DataBlocks: 1, HashBlockSize: c.block, HashOffset: c.offset, UUID: testUUID, Salt: make([]byte, MaxSalt)}
		behind := bytes.Repeat([]byte{7}, 64<<10)
		for name, hash := range map[string]interface {
			io.WriterAt
			io.ReaderAt
		}{"new": new(memFile), "old": &memFile{b: bytes.Clone(behind)}} {
			if _, err := Format(t.Context(), bytes.NewReader(data), hash, p); err != nil {
				t.Fatal(err)
			}
			b := hash.(*memFile).b
			if got, err := ReadSuperblock(hash, c.offset); err != nil || got.HashBlockSize != c.block || got.DataBlockSize != BlockSize || len(got.Salt) != MaxSalt {
				t.Errorf("%+v: %s file: %+v, %v", c, name, got, err)
			}
			if name == "new" && (int64(len(b)) != c.end || !allZero(b[c.offset+512:])) || name == "old" && !bytes.Equal(b[c.offset+512:], behind[c.offset+512:]) {
				t.Errorf("%+v: %s file: %d bytes, or other bytes behind", c, name, len(b))
			}
		}
		only := new(memFile)
		if _, err := Format(t.Context(), bytes.NewReader(data), writeOnly{only}, p); err != nil || int64(len(only.b)) != c.end {
			t.Errorf("%+v: written only: %d bytes, %v", c, len(only.b), err)
		}
	}
	for _, n := range []int{MinBlockSize, MaxBlockSize} {
		p := Params{DataBlocks: 9, DataBlockSize: n}
		if got, err := ReadSuperblock(bytes.NewReader(p.marshalSuperblock()), 0); err != nil || got.DataBlockSize != n {
			t.Errorf("data blocks of %d bytes: %+v, %v", n, got, err)
		}
	}
	p := Params{DataBlocks: 1}
	if _, err := Format(t.Context(), bytes.NewReader(data), unreadable{memFile: new(memFile)}, p); err == nil || !strings.Contains(err.Error(), "bad sector") {
		t.Errorf("unreadable: %v", err)
	}
}

func TestHashBlocks(t *testing.T) {
	for _, c := range []struct {
		p    Params
		want uint64
	}{
		{Params{DataBlocks: 1}, 0}, {Params{DataBlocks: 2, HashOffset: 8192}, 1}, {Params{DataBlocks: 128}, 1}, {Params{DataBlocks: 129}, 3},
		{Params{DataBlocks: 257, NoSuperblock: true}, 4}, {Params{DataBlocks: 128 * 128}, 129}, {Params{DataBlocks: 128*128 + 1}, 132},
	} {
		if got, err := HashBlocks(c.p); err != nil || got != c.want {
			t.Errorf("%+v: %d, %v, want %d", c.p, got, err, c.want)
		}
	}
	if _, err := HashBlocks(Params{}); err == nil {
		t.Error("of no data")
	}
}

func TestFECSize(t *testing.T) {
	plain := func(blocks uint64) Params { return Params{DataBlocks: blocks, NoSuperblock: true} }
	for _, c := range []struct {
		p    Params
		f    FEC
		want int64 // 0: refused
	}{
		{plain(250), FEC{Roots: 2, HashFileSize: 3 * BlockSize}, 2 * BlockSize}, // 253 blocks in 253 rows
		{plain(251), FEC{Roots: 2, HashFileSize: 3 * BlockSize}, 4 * BlockSize},
		{plain(250), FEC{Roots: 2, HashFileSize: 3*BlockSize - 1}, 0},
		{plain(250), FEC{Roots: 2, HashFileSize: 4*BlockSize - 1}, 2 * BlockSize},
		{plain(250), FEC{Roots: 2, HashFileSize: 4 * BlockSize}, 4 * BlockSize},
		{plain(250), FEC{Roots: 24, HashFileSize: 3 * BlockSize, Offset: 1 << 62}, 48 * BlockSize},
		{plain(250), FEC{Roots: 2, HashFileSize: 3 * BlockSize, Offset: 1<<62 + 512}, 0},
		{plain(250), FEC{Roots: 2, HashFileSize: 3 * BlockSize, Offset: -512}, 0},
		{Params{DataBlocks: 1, DataBlockSize: 65536, HashBlockSize: 65536}, FEC{Roots: 2, HashFileSize: BlockSize}, 2 * 65536}, // a lone superblock
		{plain(1<<50 + 1), FEC{Roots: 2, HashFileSize: 1 << 61}, 0},
	} {
		got, err := FECSize(c.p, c.f)
		if (err == nil) != (c.want > 0) || got != c.want {
			t.Errorf("%+v: %d, %v, want %d", c, got, err, c.want)
		}
	}
}

// TestCheckFEC names the first byte that differs, of whichever part.
func TestCheckFEC(t *testing.T) {
	d := newDamaged(t, Params{DataBlocks: 700, DataBlockSize: 512, HashBlockSize: 512, UUID: testUUID}, 4)
	d.f.Offset = 1024
	fec := append(make([]byte, 1024), d.fec...)
	check := func(fec io.ReaderAt) error {
		return CheckFEC(t.Context(), bytes.NewReader(d.data), bytes.NewReader(d.hash), fec, d.p, d.f)
	}
	if err := check(bytes.NewReader(fec)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(fec) - 1, 5000, 5001, 1024} { // each before those so far, but one
		fec[at] ^= 1
		want := int64(min(at, 5000))
		if at > 5001 {
			want = int64(at)
		}
		if fe := (*FECError)(nil); !errors.As(check(bytes.NewReader(fec)), &fe) || fe.Offset != want {
			t.Errorf("byte %d: %+v, want %d", at, fe, want)
		}
	}
	for want, r := range map[string]io.ReaderAt{"ends before byte": bytes.NewReader(fec[:len(fec)-1]), "bad sector": brokenFile{}} {
		if err := check(r); err == nil || errors.As(err, new(*FECError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	large := newDamaged(t, Params{DataBlocks: 2100, UUID: testUUID}, 4) // more columns than one worker takes
	if int64(large.part*BlockSize) <= fecPart {
		t.Fatal("too small")
	}
	for _, at := range []int{len(large.fec) - 1, 7} {
		large.fec[at] ^= 1
		err := CheckFEC(t.Context(), bytes.NewReader(large.data), bytes.NewReader(large.hash), bytes.NewReader(large.fec), large.p, large.f)
		if fe := (*FECError)(nil); !errors.As(err, &fe) || fe.Offset != int64(at) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	fec[0] ^= 1 // in front of it
	fec[1024] ^= 1
	fec[5000] ^= 1
	fec[5001] ^= 1
	fec[len(fec)-1] ^= 1
	if err := check(bytes.NewReader(fec)); err != nil {
		t.Error(err)
	}
}

// repairOf is Repair without put.
func (d *damaged) repairOf(ctx context.Context, data, hash, fec io.ReaderAt) error {
	_, err := Repair(ctx, data, hash, fec, d.root, d.p, d.f, nil)
	return err
}

// TestRepairUnreadable: what cannot be read is no verdict, nor what somebody called off.
func TestRepairUnreadable(t *testing.T) {
	p := Params{DataBlocks: 700, DataBlockSize: 512, HashBlockSize: 512, UUID: testUUID}
	d := newDamaged(t, p, 4)
	d.spoil(7)
	data, hash, fec := bytes.NewReader(d.data), bytes.NewReader(d.hash), bytes.NewReader(d.fec)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for want, err := range map[string]error{
		"context canceled":            d.repairOf(gone, data, hash, fec),
		"data file ends in block 699": d.repairOf(t.Context(), bytes.NewReader(d.data[:len(d.data)-1]), hash, fec),
		"hash file ends in block":     d.repairOf(t.Context(), data, bytes.NewReader(d.hash[:len(d.hash)-1]), fec),
		"data block 0: bad sector":    d.repairOf(t.Context(), brokenFile{}, hash, fec),
		"file: bad sector":            d.repairOf(t.Context(), data, hash, brokenFile{}),
	} {
		if re := (*RepairError)(nil); err == nil || errors.As(err, &re) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	full := errors.New("full")
	if _, err := Repair(t.Context(), data, hash, fec, d.root, d.p, d.f, func(uint64, []byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("nowhere to put it: %v", err)
	}
	d.root = must(NewRootHash(make([]byte, 20)))
	if err := d.repairOf(t.Context(), data, hash, fec); err == nil || !strings.Contains(err.Error(), "root hash: 20 bytes") {
		t.Errorf("root hash of another size: %v", err)
	}
	tree := newDamaged(t, p, 4)
	tree.spoil(int(p.DataBlocks) + 5)
	if err := tree.repairOf(t.Context(), bytes.NewReader(tree.data), bytes.NewReader(tree.hash), brokenFile{}); err == nil || errors.As(err, new(*RepairError)) || !strings.Contains(err.Error(), "file: bad sector") {
		t.Errorf("parity of a hash block that cannot be read: %v", err)
	}
	one := newDamaged(t, Params{DataBlocks: 1}, 2)
	if err := one.repairOf(t.Context(), brokenFile{}, bytes.NewReader(one.hash), bytes.NewReader(one.fec)); err == nil || !strings.Contains(err.Error(), "bad sector") {
		t.Errorf("one block that cannot be read: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRepairLeaves loses as many hash blocks of one column as there are roots, and one more.
func TestRepairLeaves(t *testing.T) {
	d := newDamaged(t, Params{DataBlocks: 3000, DataBlockSize: 512, HashBlockSize: 512, UUID: testUUID}, 4)
	first := int(d.p.DataBlocks) + 20 // below the top levels
	for i := range 4 {
		d.spoil(first + i*d.part)
	}
	got, done, err := d.repair(t)
	if err != nil || !bytes.Equal(got, d.data0) || len(done.Hash) != 4 || len(done.Data) != 0 || done.Hash[0] != uint64(d.start+20) {
		t.Fatalf("%+v, %v", done, err)
	}
	d.spoil(first + 4*d.part)
	var re *RepairError
	if _, _, err := d.repair(t); !errors.As(err, &re) || re.Bad.Area != AreaHash || re.Bad.Block != uint64(d.start+20) || !errors.Is(err, errTooManyErrors) {
		t.Errorf("one more: %v", err)
	}
}

// TestRepairBelow: a leaf below a bad block of the level above is found when that one is repaired, and costs one byte of
// parity from then on.
func TestRepairBelow(t *testing.T) {
	d := newDamaged(t, Params{DataBlocks: 3000, DataBlockSize: 512, HashBlockSize: 512, UUID: testUUID}, 2)
	const above, leaf, data = 3001, 3013, 1310 // the first of 12, the first of 188 below it, and one elsewhere
	if leaf%d.part != data%d.part || above%d.part == leaf%d.part {
		t.Fatal("not in the columns that the test means")
	}
	for _, block := range []int{above, leaf, data} {
		d.spoil(block)
	}
	got, done, err := d.repair(t)
	if err != nil || !bytes.Equal(got, d.data0) || !slices.Equal(done.Hash, []uint64{uint64(d.start + 1), uint64(d.start + 13)}) || !slices.Equal(done.Data, []uint64{data}) {
		t.Errorf("%+v, %v", done, err)
	}
}

// ones is data that is all ones, and zero from one byte on.
type ones struct{ zero int64 }

func (o ones) ReadAt(b []byte, off int64) (int, error) {
	for i := range b {
		b[i] = 1
		if off+int64(i) >= o.zero {
			b[i] = 0
		}
	}
	return len(b), nil
}

// TestRepairTooMuch: memory is bounded, whatever is bad.
func TestRepairTooMuch(t *testing.T) {
	p := Params{DataBlocks: MaxBadBlocks + 1, DataBlockSize: 512, HashBlockSize: 512}
	hash := new(memFile)
	root, err := Format(t.Context(), io.LimitReader(zeros{}, (MaxBadBlocks+1)*512), hash, p)
	if err != nil {
		t.Fatal(err)
	}
	d := &damaged{p: p, root: root, f: FEC{Roots: 2, HashFileSize: int64(len(hash.b))}}
	if err := d.repairOf(t.Context(), ones{1 << 62}, hash, bytes.NewReader(nil)); err == nil || !strings.Contains(err.Error(), "more than 262144 bad blocks") {
		t.Errorf("%v", err)
	}
	if err := d.repairOf(t.Context(), ones{MaxBadBlocks * 512}, hash, bytes.NewReader(nil)); err == nil || strings.Contains(err.Error(), "bad blocks") {
		t.Errorf("as many as may be: %v", err)
	}
}

// Shapes in which a chunk of data ends within a hash block, or fills many, are verified to the last block.
func TestVerifyShapes(t *testing.T) {
	for _, p := range []Params{
		{DataBlocks: 600, HashBlockSize: 65536}, {DataBlocks: 5000, DataBlockSize: 512, HashBlockSize: 65536}, {DataBlocks: 30, DataBlockSize: 65536, HashBlockSize: 512},
		{DataBlocks: 700, Hash: SHA1, Format0: true}, {DataBlocks: 300, Hash: SHA512, HashBlockSize: 512},
	} {
		size := p.withDefaults().DataBlockSize
		data := testData(int(p.DataBlocks)*size/BlockSize + 1)[:int(p.DataBlocks)*size]
		root, hash := format(t, data, p)
		if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
		for _, block := range []uint64{0, p.DataBlocks / 2, p.DataBlocks - 1} {
			data[block*uint64(size)] ^= 1
			err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p)
			if be := (*BlockError)(nil); !errors.As(err, &be) || be.Area != AreaData || be.Block != block {
				t.Errorf("%+v: block %d: %v", p, block, err)
			}
			data[block*uint64(size)] ^= 1
		}
		data[0] ^= 1
		data[len(data)-1] ^= 1
		err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p)
		if be := (*BlockError)(nil); !errors.As(err, &be) || be.Block != 0 {
			t.Errorf("%+v: two blocks: %v", p, err)
		}
	}
}

package verity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// A damaged is a tree with its error correction data, and the bytes as they were.
type damaged struct {
	p                Params
	f                FEC
	root             RootHash
	data, hash, fec  []byte
	data0            []byte
	part, start, end int // blocks in a part; first block of the tree and after it
}

func newDamaged(t *testing.T, p Params, roots int) *damaged {
	t.Helper()
	p = p.withDefaults()
	d := &damaged{p: p, data: make([]byte, int(p.DataBlocks)*p.DataBlockSize)}
	rand.NewChaCha8([32]byte{byte(p.DataBlocks)}).Read(d.data)
	d.data0 = bytes.Clone(d.data)
	d.root, d.hash = format(t, d.data, p)
	d.f = FEC{Roots: roots, HashFileSize: int64(len(d.hash))}
	d.fec = fecOf(t, d.data, d.hash, p, d.f)
	g, err := p.geometry()
	if err != nil {
		t.Fatal(err)
	}
	d.part, d.start, d.end = len(d.fec)/roots/p.DataBlockSize, int(g.start), int(g.end)
	return d
}

// spoil overwrites a block of what is covered: data blocks, then those of the tree.
func (d *damaged) spoil(block int) {
	b, at := d.data, block
	if block >= int(d.p.DataBlocks) {
		b, at = d.hash, block-int(d.p.DataBlocks)+d.start
	}
	rand.NewChaCha8([32]byte{99, byte(block)}).Read(b[at*d.p.DataBlockSize:][:d.p.DataBlockSize])
}

// repair runs Repair and returns the data with what it put.
func (d *damaged) repair(t *testing.T) ([]byte, *Repaired, error) {
	t.Helper()
	out := bytes.Clone(d.data)
	done, err := Repair(t.Context(), bytes.NewReader(d.data), bytes.NewReader(d.hash), bytes.NewReader(d.fec), d.root, d.p, d.f, func(block uint64, b []byte) error {
		copy(out[int(block)*d.p.DataBlockSize:], b)
		return nil
	})
	return out, done, err
}

// TestRepair spoils as many blocks of one column as there are roots, the last leaf among them.
func TestRepair(t *testing.T) {
	for _, p := range []Params{
		{DataBlocks: 3000, DataBlockSize: 512, HashBlockSize: 512, UUID: testUUID, Salt: []byte("repair")},
		{DataBlocks: 300, Hash: SHA1, Format0: true, NoSuperblock: true},
		{DataBlocks: 1, Hash: SHA512},
	} {
		for _, roots := range []int{2, 3, 8, 9, 24} {
			t.Run(fmt.Sprintf("blocks=%d/roots=%d", p.DataBlocks, roots), func(t *testing.T) {
				d := newDamaged(t, p, roots)
				spoiled := []int{int(p.DataBlocks) + d.end - d.start - 1} // the last leaf, or the only block
				for block := spoiled[0] % d.part; len(spoiled) < roots && block < spoiled[0]; block += d.part {
					spoiled = append(spoiled, block)
				}
				for _, block := range spoiled {
					d.spoil(block)
				}
				got, done, err := d.repair(t)
				if err != nil || !bytes.Equal(got, d.data0) || len(done.Data)+len(done.Hash) != len(spoiled) {
					t.Fatalf("spoiled %v: repaired %+v, %v; equal: %v", spoiled, done, err, bytes.Equal(got, d.data0))
				}
				if next := spoiled[len(spoiled)-1] + d.part; next < spoiled[0] {
					d.spoil(next)
					var re *RepairError
					if _, _, err := d.repair(t); !errors.As(err, &re) || !strings.Contains(err.Error(), "not repairable: more errors than") {
						t.Errorf("one more, %d: %v", next, err)
					}
				}
			})
		}
	}
}

// TestRepairBurst loses a run of neighbours, the top of the tree, which hides which ones they are, and
// bytes of the parity itself.
func TestRepairBurst(t *testing.T) {
	d := newDamaged(t, Params{DataBlocks: 3000, DataBlockSize: 512, HashBlockSize: 512, UUID: testUUID}, 6)
	for block := 1000; block < 1000+2*d.part; block++ {
		d.spoil(block) // two in each column
	}
	d.spoil(int(d.p.DataBlocks)) // the top of the tree
	for at := 0; at < len(d.fec); at += 6 {
		if at/6/512 != int(d.p.DataBlocks)%d.part {
			d.fec[at] ^= 0x55 // one, of unknown place
		}
	}
	got, done, err := d.repair(t)
	if err != nil || !bytes.Equal(got, d.data0) {
		t.Fatalf("%v; equal: %v", err, bytes.Equal(got, d.data0))
	}
	if len(done.Data) != 2*d.part || done.Data[0] != 1000 || !slices.IsSorted(done.Data) || !slices.Equal(done.Hash, []uint64{uint64(d.start)}) {
		t.Errorf("repaired %d data blocks from %d, hash blocks %v", len(done.Data), done.Data[0], done.Hash)
	}
	if done, err := Repair(t.Context(), bytes.NewReader(d.data0), bytes.NewReader(d.hash), bytes.NewReader(d.fec), d.root, d.p, d.f, nil); err != nil || len(done.Data) > 0 || len(done.Hash) != 1 {
		t.Errorf("whole data: %+v, %v", done, err)
	}
}

// TestRepairTrustsNothing: with other roots, another root hash or other parity there is no repair, and no
// block that does not have its digest comes out.
func TestRepairTrustsNothing(t *testing.T) {
	p := Params{DataBlocks: 700, DataBlockSize: 512, HashBlockSize: 512, UUID: testUUID}
	for name, change := range map[string]func(*damaged){
		"other root":   func(d *damaged) { d.root = testRoot(3) },
		"more roots":   func(d *damaged) { d.f.Roots = 5; d.fec = append(d.fec, d.fec...) },
		"other parity": func(d *damaged) { rand.NewChaCha8([32]byte{5}).Read(d.fec) },
		"zero parity":  func(d *damaged) { clear(d.fec) },
	} {
		d := newDamaged(t, p, 4)
		d.spoil(7)
		change(d)
		got, _, err := d.repair(t)
		var re *RepairError
		if !errors.As(err, &re) || !bytes.Equal(got, d.data) {
			t.Errorf("%s: %v; data as it was: %v", name, err, bytes.Equal(got, d.data))
		}
	}
	for want, f := range map[string]FEC{
		"1 roots, want 2 to 24":             {Roots: 1, HashFileSize: 1 << 20},
		"25 roots":                          {Roots: 25, HashFileSize: 1 << 20},
		"offset 100, want a multiple of":    {Roots: 2, Offset: 100, HashFileSize: 1 << 20},
		"512 bytes of hash file in front":   {Roots: 2, HashFileSize: 512},
		"more than 2^62 bytes":              {Roots: 2, HashFileSize: 1<<63 - 1},
		"error correction file: ends befor": {Roots: 24, HashFileSize: int64(len(newDamaged(t, p, 4).hash))},
	} {
		d := newDamaged(t, p, 4)
		d.spoil(7)
		d.f = f
		if _, _, err := d.repair(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	p.HashBlockSize = 1024
	if _, err := FECSize(p, FEC{Roots: 2, HashFileSize: 1 << 20}); err == nil || !strings.Contains(err.Error(), "want the same size") {
		t.Errorf("unequal blocks: %v", err)
	}
	if err := WriteFEC(t.Context(), bytes.NewReader(nil), bytes.NewReader(nil), new(memFile), Params{DataBlocks: 3}, FEC{Roots: 2, HashFileSize: 1 << 20}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no data: %v", err)
	}
}

// TestRepairVerdictOfVeritysetup: where the real tool, which knows no places, can repair, so can we, and
// it counts the bytes that we change.
func TestRepairVerdictOfVeritysetup(t *testing.T) {
	tool := testtool.Need(t, "veritysetup")
	for _, c := range []struct{ roots, errors int }{{2, 1}, {4, 2}, {24, 12}} {
		d := newDamaged(t, Params{DataBlocks: 40, UUID: testUUID}, c.roots)
		for i := range c.errors {
			d.data[(3+i)*BlockSize+9] ^= 0x11
		}
		out, _ := exec.Command(tool, "verify", writeTemp(t, d.data), writeTemp(t, d.hash), d.root.String(),
			"--fec-device", writeTemp(t, d.fec), fmt.Sprintf("--fec-roots=%d", c.roots)).CombinedOutput()
		m := regexp.MustCompile(`Found (\d+) repairable errors`).FindSubmatch(out)
		if m == nil || string(m[1]) != fmt.Sprint(c.errors) {
			t.Errorf("%+v: veritysetup says %s", c, out)
		}
		if got, done, err := d.repair(t); err != nil || !bytes.Equal(got, d.data0) || len(done.Data) != c.errors {
			t.Errorf("%+v: repaired %+v, %v", c, done, err)
		}
	}
}

// FuzzRepair: whatever data, tree and parity hold, what comes out of a repair that is said to have worked
// is the data that the root hash stands for.
func FuzzRepair(f *testing.F) {
	const blocks, size, roots = 20, 512, 4
	data := testData(3)[:blocks*size]
	p := Params{DataBlocks: blocks, NoSuperblock: true, DataBlockSize: size, HashBlockSize: size}
	hash, fec := new(memFile), new(memFile)
	root, err := Format(f.Context(), bytes.NewReader(data), hash, p)
	if err != nil {
		f.Fatal(err)
	}
	fp := FEC{Roots: roots, HashFileSize: int64(len(hash.b))}
	if err := WriteFEC(f.Context(), bytes.NewReader(data), hash, fec, p, fp); err != nil {
		f.Fatal(err)
	}
	f.Add(1000, []byte("some bytes"), 3, []byte{9})
	f.Add(blocks*size+100, bytes.Repeat([]byte{1}, 1024), 0, []byte{})
	f.Fuzz(func(t *testing.T, at int, b []byte, fecAt int, fecB []byte) {
		d, h, e := bytes.Clone(data), bytes.Clone(hash.b), bytes.Clone(fec.b)
		if at >= 0 && at < len(d) {
			copy(d[at:], b)
		} else if at -= len(d); at >= 0 && at < len(h) {
			copy(h[at:], b)
		}
		if fecAt >= 0 && fecAt < len(e) {
			copy(e[fecAt:], fecB)
		}
		_, err := Repair(t.Context(), bytes.NewReader(d), bytes.NewReader(h), bytes.NewReader(e), root, p, fp, func(block uint64, b []byte) error {
			copy(d[block*size:], b)
			return nil
		})
		if err == nil && !bytes.Equal(d, data) {
			t.Error("repaired to other data")
		}
	})
}

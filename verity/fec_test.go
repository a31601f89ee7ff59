package verity

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// fecOf makes the error correction data of a tree in memory.
func fecOf(t *testing.T, data, hash []byte, p Params, f FEC) []byte {
	t.Helper()
	m := new(memFile)
	if err := WriteFEC(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), m, p, f); err != nil {
		t.Fatal(err)
	}
	if size, err := FECSize(p, f); err != nil || size != int64(len(m.b))-f.Offset {
		t.Errorf("%d bytes of parity, FECSize says %d (%v)", len(m.b), size, err)
	}
	return m.b
}

// TestFECEqualToVeritysetup compares the parity for every number of roots over sizes at which a row or a
// round is full, with the hash tree in a file of its own, with other bytes behind it, and all in one.
func TestFECEqualToVeritysetup(t *testing.T) {
	tool := testtool.Need(t, "veritysetup")
	r := rand.New(rand.NewPCG(*propertySeed, 1))
	for roots := MinFECRoots; roots <= MaxFECRoots; roots++ {
		size := pick(r, 512, 512, 1024, 4096) // veritysetup makes one system call for each byte of a part
		blocks := uint64(pick(r, 1, 2, 252-roots, 253-roots, 255-roots, 300, 700))
		if roots == 7 {
			size, blocks = 65536, 5
		}
		p := Params{DataBlocks: blocks, DataBlockSize: size, HashBlockSize: size, UUID: testUUID, Salt: []byte("fec"), Hash: pick(r, SHA1, SHA256, SHA512)}
		where := pick(r, "alone", "dirty", "one file", "offset")
		t.Run(fmt.Sprintf("roots=%d/%s/blocks=%d*%d", roots, where, blocks, size), func(t *testing.T) {
			data := make([]byte, blocks*uint64(size))
			rand.NewChaCha8([32]byte{byte(roots)}).Read(data)
			f := FEC{Roots: roots}
			var before []byte
			switch where {
			case "dirty":
				before = make([]byte, 20*size+100)
				rand.NewChaCha8([32]byte{1}).Read(before)
			case "one file":
				p.HashOffset = int64(len(data))
				end, err := HashFileSize(p)
				if err != nil {
					t.Fatal(err)
				}
				f.Offset = end + 3*sector
				before = append(bytes.Clone(data), make([]byte, int(f.Offset)-len(data))...) // the gap is covered too
			case "offset":
				f.Offset = 5 * sector
			}
			dir := t.TempDir()
			dataFile, hashFile, fecFile := writeTemp(t, data), filepath.Join(dir, "hash"), filepath.Join(dir, "fec")
			if before != nil {
				if err := os.WriteFile(hashFile, before, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if where == "one file" {
				dataFile, fecFile = hashFile, hashFile
			}
			if f.Offset > 0 && where != "one file" {
				if err := os.WriteFile(fecFile, bytes.Repeat([]byte{7}, int(f.Offset)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			args := append([]string{"format", dataFile, hashFile, "--fec-device", fecFile, fmt.Sprintf("--fec-roots=%d", roots), fmt.Sprintf("--fec-offset=%d", f.Offset)}, options(p)...)
			if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
				t.Fatalf("veritysetup %q: %v\n%s", args, err, out)
			}
			want, err := os.ReadFile(fecFile)
			if err != nil {
				t.Fatal(err)
			}
			hash := &memFile{b: bytes.Clone(before)}
			if _, err := Format(t.Context(), bytes.NewReader(data), hash, p); err != nil {
				t.Fatal(err)
			}
			f.HashFileSize = int64(len(hash.b))
			if where == "one file" {
				f.HashFileSize = f.Offset
			}
			got := fecOf(t, data, hash.b, p, f)
			if !bytes.Equal(got[f.Offset:], want[f.Offset:]) {
				t.Errorf("parity differs: %d and %d bytes, first at %d", len(got), len(want), firstDifference(got[f.Offset:], want[f.Offset:]))
			}
			checksFEC(t, data, hash.b, want, p, f)
		})
	}
}

// checksFEC wants veritysetup's parity to be confirmed, and each change to be found at its place.
func checksFEC(t *testing.T, data, hash, fec []byte, p Params, f FEC) {
	t.Helper()
	check := func() error {
		return CheckFEC(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), bytes.NewReader(fec), p, f)
	}
	if err := check(); err != nil {
		t.Errorf("veritysetup's parity: %v", err)
	}
	for _, at := range []int64{f.Offset, int64(len(fec)) - 1} {
		fec[at] ^= 1
		var fe *FECError
		if err := check(); !errors.As(err, &fe) || fe.Offset != at {
			t.Errorf("byte %d changed: %v", at, err)
		}
		fec[at] ^= 1
	}
	fec = fec[:len(fec)-1]
	if err := check(); err == nil || !strings.Contains(err.Error(), "ends before byte") {
		t.Errorf("short parity: %v", err)
	}
}

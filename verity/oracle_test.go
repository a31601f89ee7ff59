package verity

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"tally/internal/testtool"
)

// options are the options with which veritysetup does what p says. In no-superblock form it is told the
// parameters again when it verifies.
func options(p Params) []string {
	salt := "-"
	if len(p.Salt) > 0 {
		salt = hex.EncodeToString(p.Salt)
	}
	p = p.withDefaults()
	args := []string{
		"--salt", salt, "--hash", p.Hash.String(),
		fmt.Sprintf("--data-block-size=%d", p.DataBlockSize), fmt.Sprintf("--hash-block-size=%d", p.HashBlockSize),
	}
	if p.Format0 {
		args = append(args, "--format=0")
	}
	if p.DataBlocks > 0 {
		args = append(args, fmt.Sprintf("--data-blocks=%d", p.DataBlocks))
	}
	if p.NoSuperblock {
		args = append(args, "--no-superblock")
	} else {
		args = append(args, "--uuid", FormatUUID(p.UUID))
	}
	if p.HashOffset > 0 {
		args = append(args, fmt.Sprintf("--hash-offset=%d", p.HashOffset))
	}
	return args
}

var rootLine = regexp.MustCompile(`(?m)^Root hash:\s+([0-9a-f]+)$`)

// veritysetupFormat runs the oracle on a data file and returns its root hash and its hash file.
func veritysetupFormat(t *testing.T, dataFile, hashFile string, p Params) (string, []byte) {
	t.Helper()
	tool := testtool.Need(t, "veritysetup")
	args := append([]string{"format", dataFile, hashFile}, options(p)...)
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("veritysetup %q: %v\n%s", args, err, out)
	}
	hash, err := os.ReadFile(hashFile)
	if err != nil {
		t.Fatal(err)
	}
	return rootLine.FindStringSubmatch(string(out))[1], hash
}

// veritysetupAccepts says whether the oracle verifies the files.
func veritysetupAccepts(t *testing.T, data, hash []byte, root string, p Params) bool {
	t.Helper()
	tool := testtool.Need(t, "veritysetup")
	args := []string{"verify", writeTemp(t, data), writeTemp(t, hash), root}
	if p.NoSuperblock || p.HashOffset > 0 {
		args = append(args, options(p)...)
	}
	return exec.Command(tool, args...).Run() == nil
}

func writeTemp(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestEqualToVeritysetup compares root hash and hash file over the sizes at which a level fills up or
// appears, over salts, offsets and without superblock.
func TestEqualToVeritysetup(t *testing.T) {
	salt := testData(1)
	for _, blocks := range []int{1, 2, 127, 128, 129, 255, 256, 257, 16383, 16384, 16385} {
		data := testData(blocks)
		dataFile := writeTemp(t, data)
		for _, p := range []Params{
			{UUID: testUUID},
			{Salt: salt[:1]},
			{UUID: testUUID, Salt: salt[:32]},
			{UUID: [16]byte{15: 1}, Salt: salt[:255]},
			{UUID: testUUID, Salt: salt[:256]},
			{UUID: testUUID, Salt: salt[:32], HashOffset: 8192},
			{NoSuperblock: true, Salt: salt[:32]},
			{NoSuperblock: true, HashOffset: 4096},
		} {
			if blocks > 1000 && (len(p.Salt) != 32 || p.HashOffset > 0) {
				continue // the shape of the tree does not depend on the salt
			}
			p.DataBlocks = uint64(blocks)
			t.Run(fmt.Sprintf("blocks=%d/salt=%d/offset=%d/nosb=%v", blocks, len(p.Salt), p.HashOffset, p.NoSuperblock), func(t *testing.T) {
				root, hash := format(t, data, p)
				wantRoot, wantHash := veritysetupFormat(t, dataFile, filepath.Join(t.TempDir(), "hash"), p)
				if root.String() != wantRoot {
					t.Errorf("root hash %s, veritysetup says %s", root, wantRoot)
				}
				if !bytes.Equal(hash, wantHash) {
					t.Errorf("hash files differ: %d and %d bytes", len(hash), len(wantHash))
				}
				if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(wantHash), root, p); err != nil {
					t.Errorf("veritysetup's tree: %v", err)
				}
			})
		}
	}
}

// TestSparseEqualToVeritysetup has 1025 leaf blocks and 9 above them: a level that is neither full nor
// one block, with data that is a hole but for both ends.
func TestSparseEqualToVeritysetup(t *testing.T) {
	const blocks = 131073
	name := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, blocks*BlockSize - 5} {
		if _, err := f.WriteAt([]byte("bytes"), off); err != nil {
			t.Fatal(err)
		}
	}
	p := Params{DataBlocks: blocks, Salt: []byte("sparse"), UUID: testUUID}
	m := new(memFile)
	root, err := Format(t.Context(), io.NewSectionReader(f, 0, blocks*BlockSize), m, p)
	if err != nil {
		t.Fatal(err)
	}
	if wantRoot, wantHash := veritysetupFormat(t, name, filepath.Join(t.TempDir(), "hash"), p); root.String() != wantRoot || !bytes.Equal(m.b, wantHash) {
		t.Errorf("root hash %s, veritysetup says %s; equal files: %v", root, wantRoot, bytes.Equal(m.b, wantHash))
	}
	if err := Verify(t.Context(), f, bytes.NewReader(m.b), root, p); err != nil {
		t.Error(err)
	}
}

// TestSameVerdict corrupts each area in turn: veritysetup and we must say the same about every one.
func TestSameVerdict(t *testing.T) {
	for _, blocks := range []int{1, 2, 128, 300} {
		p := Params{DataBlocks: uint64(blocks), Salt: []byte("verdict"), UUID: testUUID}
		data := testData(blocks)
		root, hash := format(t, data, p)
		check := func(name string, want bool) {
			t.Helper()
			ours := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p)
			if theirs := veritysetupAccepts(t, data, hash, root.String(), p); theirs != want || (ours == nil) != want {
				t.Errorf("%d blocks, %s: we say %v, veritysetup accepts: %v, want %v", blocks, name, ours, theirs, want)
			}
		}
		check("as it is", true)
		for _, off := range []int{0, len(data) / 2, len(data) - 1} {
			data[off] ^= 0x80
			check(fmt.Sprintf("data byte %d", off), false)
			data[off] ^= 0x80
		}
		for off := BlockSize; off < len(hash); off += BlockSize {
			for _, at := range []int{off, off + BlockSize - 1} { // a digest, and the last digest or padding
				hash[at] ^= 0x80
				check(fmt.Sprintf("hash byte %d", at), false)
				hash[at] ^= 0x80
			}
		}
		wrong := root
		wrong.digest[31] ^= 1
		if veritysetupAccepts(t, data, hash, wrong.String(), p) {
			t.Errorf("%d blocks: veritysetup accepts another root hash", blocks)
		}
		if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), wrong, p); err != ErrRoot {
			t.Errorf("%d blocks, another root hash: %v", blocks, err)
		}
	}
}

// TestPaddingVerdict makes a tree whose digests are right and whose padding is not zero.
func TestPaddingVerdict(t *testing.T) {
	p := Params{DataBlocks: 2, UUID: testUUID}
	data := testData(2)
	_, hash := format(t, data, p)
	hash[len(hash)-1] = 1
	root, err := NewRootHash(digest(nil, hash[BlockSize:]))
	if err != nil {
		t.Fatal(err)
	}
	err = Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p)
	if be, ok := err.(*BlockError); !ok || !be.Padding || be.Area != AreaHash || be.Block != 1 {
		t.Errorf("got %v, want a padding error in hash block 1", err)
	}
	if veritysetupAccepts(t, data, hash, root.String(), p) {
		t.Error("veritysetup accepts it")
	}
}

// TestVeritysetupReadsOurSuperblock lets the oracle read parameters back that we wrote.
func TestVeritysetupReadsOurSuperblock(t *testing.T) {
	tool := testtool.Need(t, "veritysetup")
	p := Params{DataBlocks: 300, Salt: []byte{0xab, 0xcd}, UUID: testUUID}
	_, hash := format(t, testData(300), p)
	out, err := exec.Command(tool, "dump", writeTemp(t, hash)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`UUID:\s+` + FormatUUID(testUUID), `Hash type:\s+1`, `Data blocks:\s+300`, `Hash algorithm:\s+sha256`, `Salt:\s+abcd`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

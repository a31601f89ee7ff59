package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tally/internal/testtool"
)

var writeVectors = flag.Bool("verity.write-vectors", false, "make testdata/vectors/veritysetup/vectors.json anew with the real tool")

const vectorFile = "testdata/vectors/veritysetup/vectors.json"

// A vector is what veritysetup made of the data that SOURCE describes.
type vector struct {
	Hash          Hash   `json:"hash"`
	Format        int    `json:"format"`
	DataBlockSize int    `json:"data_block_size"`
	HashBlockSize int    `json:"hash_block_size"`
	DataBlocks    uint64 `json:"data_blocks"`
	Salt          string `json:"salt"`
	NoSuperblock  bool   `json:"no_superblock"`
	HashOffset    int64  `json:"hash_offset"`
	FECRoots      int    `json:"fec_roots,omitempty"`

	RootHash   string `json:"root_hash"`
	HashFile   string `json:"hash_file_sha256"`
	FECFile    string `json:"fec_file_sha256,omitempty"`
	HashLength int    `json:"hash_file_size"`
}

func (v vector) params(t *testing.T) Params {
	t.Helper()
	p := Params{
		Hash: v.Hash, Format0: v.Format == 0, DataBlockSize: v.DataBlockSize, HashBlockSize: v.HashBlockSize,
		DataBlocks: v.DataBlocks, NoSuperblock: v.NoSuperblock, HashOffset: v.HashOffset,
	}
	var err error
	if p.Salt, err = hex.DecodeString(v.Salt); err != nil {
		t.Fatal(err)
	}
	if !p.NoSuperblock {
		p.UUID = testUUID
	}
	return p
}

// vectorData are the SHA-256 digests of 0, 1, 2, … as big-endian integers of 8 bytes.
func vectorData(size int) []byte {
	var b []byte
	for i := uint64(0); len(b) < size; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		b = append(b, sum[:]...)
	}
	return b[:size]
}

// TestVectors holds where veritysetup is not installed, and would show a change of the tool.
func TestVectors(t *testing.T) {
	if *writeVectors {
		makeVectors(t)
	}
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 20 {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for i, v := range vectors {
		p := v.params(t)
		data := vectorData(int(v.DataBlocks) * v.DataBlockSize)
		hash := new(memFile)
		root, err := Format(t.Context(), bytes.NewReader(data), hash, p)
		if err != nil || root.String() != v.RootHash || fmt.Sprintf("%x", sha256.Sum256(hash.b)) != v.HashFile || len(hash.b) != v.HashLength {
			t.Errorf("vector %d: root hash %s, %d bytes (%v), want %+v", i, root, len(hash.b), err, v)
		}
		if v.FECRoots == 0 {
			continue
		}
		fec := fecOf(t, data, hash.b, p, FEC{Roots: v.FECRoots, HashFileSize: int64(len(hash.b))})
		if fmt.Sprintf("%x", sha256.Sum256(fec)) != v.FECFile {
			t.Errorf("vector %d: other error correction data than %+v", i, v)
		}
	}
}

// makeVectors runs veritysetup on a list of options.
func makeVectors(t *testing.T) {
	tool := testtool.Need(t, "veritysetup")
	var all []vector
	for _, h := range []Hash{SHA1, SHA256, SHA512} {
		for _, v := range []vector{
			{Format: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 1, Salt: "00ff"},
			{Format: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 129, Salt: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", FECRoots: 2},
			{Format: 0, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 130, Salt: "aa", NoSuperblock: true, FECRoots: 24},
			{Format: 1, DataBlockSize: 512, HashBlockSize: 512, DataBlocks: 1025, FECRoots: 13},
			{Format: 0, DataBlockSize: 1024, HashBlockSize: 512, DataBlocks: 65, Salt: "bb", HashOffset: 1536},
			{Format: 1, DataBlockSize: 65536, HashBlockSize: 2048, DataBlocks: 9, Salt: "cc", HashOffset: 512},
			{Format: 1, DataBlockSize: 512, HashBlockSize: 65536, DataBlocks: 2049, NoSuperblock: true, HashOffset: 65536},
		} {
			v.Hash = h
			all = append(all, v.fill(t, tool))
		}
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fill has veritysetup make what the vector holds.
func (v vector) fill(t *testing.T, tool string) vector {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("data"), vectorData(int(v.DataBlocks)*v.DataBlockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"format", file("data"), file("hash")}, options(v.params(t))...)
	if v.FECRoots > 0 {
		args = append(args, "--fec-device", file("fec"), fmt.Sprintf("--fec-roots=%d", v.FECRoots))
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("veritysetup %q: %v\n%s", args, err, out)
	}
	v.RootHash = rootLine.FindStringSubmatch(string(out))[1]
	for name, to := range map[string]*string{"hash": &v.HashFile, "fec": &v.FECFile} {
		b, err := os.ReadFile(file(name))
		if name == "fec" && v.FECRoots == 0 {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		*to = fmt.Sprintf("%x", sha256.Sum256(b))
		if name == "hash" {
			v.HashLength = len(b)
		}
	}
	return v
}

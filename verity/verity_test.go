package verity

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"sync"
	"testing"
)

// A memFile is a file in memory that grows by WriteAt and can be read.
type memFile struct {
	mu sync.Mutex
	b  []byte
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.NewReader(m.b).ReadAt(p, off)
}

// testData returns so many blocks of different content, the same in every run.
func testData(blocks int) []byte {
	b := make([]byte, blocks*BlockSize)
	rand.NewChaCha8([32]byte{byte(blocks), byte(blocks >> 8)}).Read(b)
	return b
}

// testRoot is a root hash of 32 bytes.
func testRoot(b byte) RootHash {
	r, err := NewRootHash(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		panic(err)
	}
	return r
}

// format makes a tree over data and checks that the hash file has the size that was announced.
func format(t *testing.T, data []byte, p Params) (RootHash, []byte) {
	t.Helper()
	p.DataBlocks = uint64(len(data) / p.withDefaults().DataBlockSize)
	m := new(memFile)
	root, err := Format(t.Context(), bytes.NewReader(data), m, p)
	if err != nil {
		t.Fatal(err)
	}
	// With nothing to write but a superblock the file is shorter, as veritysetup's is.
	if size, err := HashFileSize(p); err != nil || size != int64(len(m.b)) && p.DataBlocks > 1 || int64(len(m.b)) > size {
		t.Fatalf("hash file of %d bytes, HashFileSize says %d (%v)", len(m.b), size, err)
	}
	return root, m.b
}

// digest is SHA-256(salt ‖ block), spelled out a second time.
func digest(salt, block []byte) []byte {
	s := sha256.Sum256(append(bytes.Clone(salt), block...))
	return s[:]
}

// flip changes one bit of b and changes it back when the test that runs now is over.
func flip(t *testing.T, b []byte, off int) {
	b[off] ^= 1
	t.Cleanup(func() { b[off] ^= 1 })
}

var testUUID = [16]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}

func BenchmarkFormat(b *testing.B) {
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Format(b.Context(), bytes.NewReader(data), new(memFile), Params{DataBlocks: uint64(len(data) / BlockSize)}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	data, m := make([]byte, 64<<20), new(memFile)
	p := Params{DataBlocks: uint64(len(data) / BlockSize)}
	root, err := Format(b.Context(), bytes.NewReader(data), m, p)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := Verify(b.Context(), bytes.NewReader(data), bytes.NewReader(m.b), root, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSHA256 is the floor: the same bytes hashed by one goroutine, without a tree.
func BenchmarkSHA256(b *testing.B) {
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sha256.Sum256(data)
	}
}

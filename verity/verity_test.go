package verity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// memFile is a file in memory that grows by WriteAt.
type memFile struct{ b []byte }

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	lock <- struct{}{}
	defer func() { <-lock }()
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

var lock = make(chan struct{}, 1)

func testData(blocks int) []byte {
	b := make([]byte, blocks*BlockSize)
	r := rand.NewChaCha8([32]byte{byte(blocks)})
	r.Read(b)
	return b
}

func format(t *testing.T, data []byte, p Params) (RootHash, []byte) {
	t.Helper()
	p.DataBlocks = uint64(len(data) / BlockSize)
	m := new(memFile)
	root, err := Format(t.Context(), bytes.NewReader(data), m, p)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := HashFileSize(p); err != nil || size != int64(len(m.b)) {
		t.Fatalf("hash file of %d bytes, HashFileSize says %d (%v)", len(m.b), size, err)
	}
	return root, m.b
}

var rootLine = regexp.MustCompile(`(?m)^Root hash:\s+([0-9a-f]+)$`)

// veritysetupFormat runs the oracle and returns its root hash and hash file.
func veritysetupFormat(t *testing.T, data []byte, p Params) (string, []byte) {
	t.Helper()
	tool := testtool.Need(t, "veritysetup")
	dir := t.TempDir()
	df, hf := filepath.Join(dir, "data"), filepath.Join(dir, "hash")
	if err := os.WriteFile(df, data, 0o600); err != nil {
		t.Fatal(err)
	}
	salt := "-"
	if len(p.Salt) > 0 {
		salt = fmt.Sprintf("%x", p.Salt)
	}
	args := []string{"format", df, hf, "--salt", salt}
	if p.NoSuperblock {
		args = append(args, "--no-superblock", fmt.Sprintf("--data-blocks=%d", len(data)/BlockSize))
	} else {
		args = append(args, "--uuid", FormatUUID(p.UUID))
	}
	if p.HashOffset > 0 {
		args = append(args, fmt.Sprintf("--hash-offset=%d", p.HashOffset))
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("veritysetup %q: %v\n%s", args, err, out)
	}
	hash, err := os.ReadFile(hf)
	if err != nil {
		t.Fatal(err)
	}
	return rootLine.FindStringSubmatch(string(out))[1], hash
}

func TestEqualToVeritysetup(t *testing.T) {
	testtool.Need(t, "veritysetup")
	uuid, _ := ParseUUID("01234567-89ab-cdef-0123-456789abcdef")
	salt := testData(1)
	for _, blocks := range []int{1, 2, 127, 128, 129, 255, 256, 257, 16383, 16384, 16385} {
		for _, p := range []Params{
			{UUID: uuid},
			{UUID: uuid, Salt: salt[:1]},
			{UUID: uuid, Salt: salt[:32]},
			{UUID: uuid, Salt: salt[:256]},
			{UUID: uuid, Salt: salt[:32], HashOffset: 8192},
			{NoSuperblock: true, Salt: salt[:32]},
		} {
			if blocks > 1000 && len(p.Salt) != 32 {
				continue // the shape of the tree does not depend on the salt
			}
			t.Run(fmt.Sprintf("blocks=%d/salt=%d/offset=%d/nosb=%v", blocks, len(p.Salt), p.HashOffset, p.NoSuperblock), func(t *testing.T) {
				data := testData(blocks)
				root, hash := format(t, data, p)
				wantRoot, wantHash := veritysetupFormat(t, data, p)
				if root.String() != wantRoot {
					t.Errorf("root hash %s, veritysetup says %s", root, wantRoot)
				}
				if !bytes.Equal(hash, wantHash) {
					t.Errorf("hash files differ: %d and %d bytes", len(hash), len(wantHash))
				}
			})
		}
	}
}

func TestVeritysetupVerifiesOurs(t *testing.T) {
	tool := testtool.Need(t, "veritysetup")
	dir := t.TempDir()
	df, hf := filepath.Join(dir, "data"), filepath.Join(dir, "hash")
	data := testData(300)
	root, hash := format(t, data, Params{Salt: []byte("salt")})
	for path, b := range map[string][]byte{df: data, hf: hash} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(tool, "verify", df, hf, root.String()).CombinedOutput(); err != nil {
		t.Errorf("veritysetup verify: %v\n%s", err, out)
	}
}

func TestPieces(t *testing.T) {
	data := testData(1000)
	want, wantHash := format(t, data, Params{Salt: []byte{1}})
	m := new(memFile)
	w, err := NewWriter(m, Params{DataBlocks: 1000, Salt: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	for rest, n := data, 1; len(rest) > 0; n = n*3 + 1 {
		k := min(n, len(rest))
		if _, err := w.Write(rest[:k]); err != nil {
			t.Fatal(err)
		}
		rest = rest[k:]
	}
	got, err := w.Close()
	if err != nil || got != want || !bytes.Equal(m.b, wantHash) {
		t.Errorf("root %v (%v), want %v; equal hash file: %v", got, err, want, bytes.Equal(m.b, wantHash))
	}
}

func TestWriterRefusesWrongLength(t *testing.T) {
	for _, n := range []int{0, 1, BlockSize, 2*BlockSize - 1, 2*BlockSize + 1} {
		w, err := NewWriter(new(memFile), Params{DataBlocks: 2})
		if err != nil {
			t.Fatal(err)
		}
		_, werr := w.Write(make([]byte, n))
		_, cerr := w.Close()
		if werr == nil && cerr == nil {
			t.Errorf("%d bytes for 2 blocks: no error", n)
		}
		if _, err := Format(t.Context(), bytes.NewReader(make([]byte, n)), new(memFile), Params{DataBlocks: 2}); err == nil {
			t.Errorf("Format of %d bytes for 2 blocks: no error", n)
		}
	}
}

type failingFile struct{}

func (failingFile) WriteAt([]byte, int64) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrorsComeBack(t *testing.T) {
	_, err := Format(t.Context(), bytes.NewReader(testData(2000)), failingFile{}, Params{DataBlocks: 2000})
	if err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("error %v, want the file's", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	data := testData(200)
	if _, err := Format(ctx, bytes.NewReader(data), new(memFile), Params{DataBlocks: 200}); !errors.Is(err, context.Canceled) {
		t.Errorf("format: %v", err)
	}
	root, hash := format(t, data, Params{})
	if err := Verify(ctx, bytes.NewReader(data), bytes.NewReader(hash), root, Params{DataBlocks: 200}); !errors.Is(err, context.Canceled) {
		t.Errorf("verify: %v", err)
	}
}

func TestParamRefusals(t *testing.T) {
	for name, p := range map[string]Params{
		"no blocks":   {},
		"too many":    {DataBlocks: MaxDataBlocks + 1},
		"long salt":   {DataBlocks: 1, Salt: make([]byte, 257)},
		"odd offset":  {DataBlocks: 1, HashOffset: 512},
		"neg. offset": {DataBlocks: 1, HashOffset: -BlockSize},
	} {
		if _, err := HashFileSize(p); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := NewWriter(new(memFile), p); err == nil {
			t.Errorf("%s: NewWriter: no error", name)
		}
	}
}

func TestVerifyNamesTheBadBlock(t *testing.T) {
	const blocks = 16385 + 7 // three levels
	data := testData(blocks)
	p := Params{DataBlocks: blocks, Salt: []byte("s")}
	root, hash := format(t, data, p)
	check := func(data, hash []byte, root RootHash) error {
		return Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p)
	}
	if err := check(data, hash, root); err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte, off int) []byte {
		c := bytes.Clone(b)
		c[off] ^= 1
		return c
	}
	for _, block := range []int{0, 127, 128, 16384, blocks - 1} {
		err := check(flip(data, block*BlockSize+4095), hash, root)
		var be *BlockError
		if !errors.As(err, &be) || be.Area != AreaData || be.Block != uint64(block) {
			t.Errorf("data block %d: %v", block, err)
		}
	}
	levels, end := p.levels()
	for block := levels[1].start; block < end; block++ {
		err := check(data, flip(hash, int(block)*BlockSize), root)
		var be *BlockError
		if !errors.As(err, &be) || be.Area != AreaHash || be.Block != block {
			t.Errorf("hash block %d: %v", block, err)
		}
	}
	if err := check(data, flip(hash, BlockSize), root); !errors.Is(err, ErrRoot) {
		t.Errorf("top block: %v", err)
	}
	two := flip(flip(data, 5*BlockSize), 9000*BlockSize)
	if err := check(two, hash, root); err == nil || !strings.Contains(err.Error(), "data block 5 ") {
		t.Errorf("two bad blocks: %v, want the first", err)
	}
	if err := check(data[:len(data)-1], hash, root); err == nil || !strings.Contains(err.Error(), "data file ends") {
		t.Errorf("short data: %v", err)
	}
	if err := check(data, hash[:len(hash)-1], root); err == nil || !strings.Contains(err.Error(), "hash file ends") {
		t.Errorf("short hash: %v", err)
	}
}

func TestVerifySingleBlock(t *testing.T) {
	data := testData(1)
	root, hash := format(t, data, Params{})
	p := Params{DataBlocks: 1}
	if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p); err != nil {
		t.Error(err)
	}
	data[7] ^= 1
	if err := Verify(t.Context(), bytes.NewReader(data), bytes.NewReader(hash), root, p); !errors.Is(err, ErrRoot) {
		t.Errorf("flipped: %v", err)
	}
}

func TestSuperblock(t *testing.T) {
	uuid, _ := ParseUUID("ffffffff-0000-1111-2222-333333333333")
	p := Params{DataBlocks: 129, Salt: []byte("abc"), UUID: uuid}
	_, hash := format(t, testData(129), p)
	got, err := ReadSuperblock(bytes.NewReader(hash), 0)
	if err != nil || got.DataBlocks != 129 || string(got.Salt) != "abc" || got.UUID != uuid {
		t.Fatalf("read %+v, %v", got, err)
	}
	for _, off := range []int{0, 8, 12, 33, 64, 68, 81, 83, 91, 400, 511} {
		bad := bytes.Clone(hash)
		bad[off] ^= 0x40
		if _, err := ReadSuperblock(bytes.NewReader(bad), 0); err == nil {
			t.Errorf("byte %d flipped: no error", off)
		}
	}
	if _, err := ReadSuperblock(bytes.NewReader(hash[:511]), 0); err == nil || !strings.Contains(err.Error(), "ends before") {
		t.Errorf("short file: %v", err)
	}
}

func FuzzReadSuperblock(f *testing.F) {
	f.Add(Params{DataBlocks: 5, Salt: []byte("x")}.marshalSuperblock())
	f.Add([]byte("verity"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadSuperblock(bytes.NewReader(b), 0)
		if err != nil {
			return
		}
		if !bytes.Equal(p.marshalSuperblock(), b[:superblockSize]) {
			t.Error("read parameters do not give the same superblock")
		}
		if _, err := HashFileSize(p); err != nil {
			t.Error(err)
		}
	})
}

func TestParse(t *testing.T) {
	for _, s := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("g", 64), strings.Repeat("0", 65)} {
		if _, err := ParseRootHash(s); err == nil {
			t.Errorf("root hash %q: no error", s)
		}
	}
	for _, s := range []string{"", "0123456789abcdef0123456789abcdef", "0123456-789ab-cdef-0123-456789abcdef", "z1234567-89ab-cdef-0123-456789abcdef", "01234567-89ab-cdef-0123-456789abcde"} {
		if _, err := ParseUUID(s); err == nil {
			t.Errorf("uuid %q: no error", s)
		}
	}
	if u, err := ParseUUID("01234567-89AB-cdef-0123-456789abcdef"); err != nil || FormatUUID(u) != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("uuid: %v %v", FormatUUID(u), err)
	}
}

func BenchmarkFormat(b *testing.B) {
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Format(b.Context(), bytes.NewReader(data), new(memFile), Params{DataBlocks: uint64(len(data) / BlockSize)}); err != nil {
			b.Fatal(err)
		}
	}
}

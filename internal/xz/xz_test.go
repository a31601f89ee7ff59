package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	ulikunitz "github.com/ulikunitz/xz"

	"tally/internal/testtool"
)

func unpack(b []byte) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(b), MaxDict)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// pack runs the tool, whose writer is the reference.
func pack(t testing.TB, data []byte, options ...string) []byte {
	t.Helper()
	cmd := exec.Command(testtool.Need(t, "xz"), append([]string{"--format=xz", "--stdout", "--threads=1"}, options...)...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz %q: %v", options, err)
	}
	return out
}

// samples are contents that exercise every kind of symbol: text, noise, runs, far and repeated matches.
func samples() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	var words bytes.Buffer
	for words.Len() < 6<<20 { // more than the window of a small dictionary
		fmt.Fprintf(&words, "line %d of %x: %s\n", rnd.IntN(50), rnd.IntN(1000), strings.Repeat("ab", rnd.IntN(40)))
	}
	return map[string][]byte{
		"empty": {},
		"byte":  {7},
		"zeros": make([]byte, 3_000_000),
		"noise": noise,
		"words": words.Bytes(),
		"mixed": bytes.Join([][]byte{noise, words.Bytes()[:200_000], noise[:100_000], noise[50_000:90_000]}, nil),
	}
}

// TestAgainstXz reads what the tool writes, with every option that changes the format.
func TestAgainstXz(t *testing.T) {
	all := []string{
		"-0", "-6", "-9", "-6e", "--check=none", "--check=crc32", "--check=sha256",
		"--lzma2=preset=1,dict=4096", "--lzma2=preset=6,dict=4097", "--lzma2=preset=1,dict=1MiB",
		"--lzma2=preset=3,lc=0,lp=4,pb=4", "--lzma2=preset=3,lc=4,lp=0,pb=0", "--lzma2=preset=3,lc=1,lp=2,pb=1",
		"-1 --block-size=70000", "-1 --threads=2 --block-size=100000", // the latter writes sizes into block headers
	}
	for name, data := range samples() {
		some := all
		switch {
		case name == "words": // long: for windows that must move
			some = []string{"-0", "--lzma2=preset=0,dict=4096,lp=2,lc=2", "--lzma2=preset=0,dict=5MiB", "-1 --threads=2 --block-size=1500000"}
		case name != "mixed":
			some = all[:3]
		}
		for _, options := range some {
			got, err := unpack(pack(t, data, strings.Fields(options)...))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: %d bytes, %v; want %d", name, options, len(got), err, len(data))
			}
		}
	}
}

func TestStreams(t *testing.T) {
	a, b := pack(t, []byte("one ")), pack(t, []byte("two"), "--check=sha256")
	zeros := make([]byte, 8)
	for name, c := range map[string]struct {
		parts [][]byte
		want  string // "" is an error
	}{
		"two streams":     {[][]byte{a, b}, "one two"},
		"padding":         {[][]byte{a, zeros[:4], b, zeros}, "one two"},
		"odd padding":     {[][]byte{a, zeros[:3], b}, ""},
		"odd end":         {[][]byte{a, zeros[:2]}, ""},
		"padding first":   {[][]byte{zeros[:4], a}, ""},
		"something after": {[][]byte{a, []byte("abcdefghijklmnop")}, ""},
		"half a stream":   {[][]byte{a, b[:20]}, ""},
	} {
		got, err := unpack(bytes.Join(c.parts, nil))
		if (err == nil) != (c.want != "") || err == nil && string(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

// TestEveryByte: there is no byte in a file that may be another, and none that may be missing.
func TestEveryByte(t *testing.T) {
	data := []byte(strings.Repeat("the quick brown fox ", 20))
	for _, options := range [][]string{{"--check=crc32"}, {"--check=crc64", "--block-size=150"}, {"--check=sha256", "--threads=2"}} {
		good := pack(t, data, options...)
		if got, err := unpack(good); err != nil || !bytes.Equal(got, data) {
			t.Fatal(err)
		}
		for i := range good {
			for bit := range 8 {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << bit
				if _, err := unpack(bad); err == nil {
					t.Errorf("%s: bit %d of byte %d of %d changed: no error", options, bit, i, len(good))
				}
			}
			if _, err := unpack(good[:i]); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: cut to %d of %d bytes: %v", options, i, len(good), err)
			}
		}
	}
}

// header is a block header of those fields, with a good CRC32.
func header(fields ...byte) []byte {
	b := append([]byte{0}, fields...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b[0] = byte(len(b) / 4)
	crc := crc32.ChecksumIEEE(b)
	return append(b, byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24))
}

func TestRefusals(t *testing.T) {
	stream := pack(t, nil, "--check=none")[:12]
	block := func(header []byte, chunks ...byte) []byte {
		return append(append(bytes.Clone(stream), header...), chunks...)
	}
	good := header(0, filterLZMA2, 1, 0)
	flags := func(a, b byte) []byte {
		crc := crc32.ChecksumIEEE([]byte{a, b})
		return append(append(bytes.Clone(headerMagic), a, b), byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24))
	}
	footer := func(at int, xor byte) []byte { // with a good CRC32
		file := pack(t, []byte("x"))
		end := file[len(file)-12:]
		end[8+at] ^= xor
		binary.LittleEndian.PutUint32(end, crc32.ChecksumIEEE(end[4:10]))
		return file
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":            {nil, "truncated"},
		"gzip":             {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x00\x00"), "starts with"},
		"reserved flags":   {flags(1, 1), "reserved"},
		"reserved check":   {flags(0, 2), "check 0x02 is not supported"},
		"other filter":     {pack(t, []byte("x"), "--x86", "--lzma2"), "want one filter"},
		"delta":            {block(header(0, 3, 1, 0)), "want LZMA2"},
		"no filter":        {block(header(0)), "not supported, want LZMA2"},
		"two properties":   {block(header(0, filterLZMA2, 2, 0)), "want LZMA2"},
		"no property":      {block(header(0, filterLZMA2, 1)), "want LZMA2"},
		"footer's flags":   {footer(0, 1), "not the flags of the header"},
		"footer's check":   {footer(1, 1), "not the flags of the header"},
		"header padding":   {block(header(0, filterLZMA2, 1, 0, 0, 0, 1)), "padding is not zero"},
		"huge dictionary":  {block(header(0, filterLZMA2, 1, 40)), "dictionary of 4294967295 bytes, want at most 67108864"},
		"no dictionary":    {block(header(0, filterLZMA2, 1, 41)), "reserved"},
		"long number":      {block(header(0x40, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)), "malformed number"},
		"padded number":    {block(header(0x40, 0x81, 0, filterLZMA2, 1, 0)), "malformed number"},
		"cut number":       {block(header(0x40, 0xff, 0xff)), "malformed number"},
		"reserved chunk":   {block(good, 3), "control byte 0x03"},
		"no dictionary 2":  {block(good, 2, 0, 0, 'x'), "corrupt"},
		"no properties":    {block(good, 1, 0, 0, 'x', 0x80, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0), "corrupt"},
		"wrong properties": {block(good, 0xe0, 0, 0, 0, 5, 225), "LZMA properties"},
		"lc and lp":        {block(good, 0xe0, 0, 0, 0, 5, 4+9), "LZMA properties"},
		"short chunk":      {block(good, 0xe0, 0, 0, 0, 3, 0x5d, 0, 0, 0, 0), "corrupt"},
		"first byte":       {block(good, 0xe0, 0, 0, 0, 5, 0x5d, 1, 0, 0, 0, 0, 0), "corrupt"},
		"more than chunk":  {block(good, 0xe0, 0xff, 0xff, 0, 5, 0x5d, 0, 0, 0, 0, 0, 0), "corrupt"},
		"match to nothing": {block(good, 0xe0, 0, 9, 0, 9, 0x5d, 0, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff), "corrupt"},
		"longer than said": {block(header(0x80, 1, filterLZMA2, 1, 0), 1, 0, 1, 'x', 'y', 0), "longer than its header"},
		"other size":       {block(header(0x80, 2, filterLZMA2, 1, 0), 1, 0, 0, 'x', 0), "sizes"},
		"other packed":     {block(header(0x40, 9, filterLZMA2, 1, 0), 1, 0, 0, 'x', 0), "sizes"},
		"block padding":    {block(good, 1, 0, 0, 'x', 0, 0, 0, 1), "padding is not zero"},
		"two blocks":       {block(good, 1, 0, 0, 'x', 0, 0, 0, 0, 0, 2), "lists 2 blocks, want 1"},
		"other sizes":      {block(good, 1, 0, 0, 'x', 0, 0, 0, 0, 0, 1, 17, 2), "not the sizes of the blocks"},
	} {
		if got, err := unpack(c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want an error with %q", name, got, err, c.want)
		}
	}
}

// TestMemory: the window is no larger than the dictionary asks for, nor than the contents.
func TestMemory(t *testing.T) {
	data := make([]byte, 40<<20)
	for _, c := range []struct {
		options string
		size    int
		limit   int
	}{{"dict=4096", len(data), 5 << 20}, {"dict=8MiB", len(data), 13 << 20}, {"dict=64MiB", 1000, 1 << 20}} {
		r, err := NewReader(bytes.NewReader(pack(t, data[:c.size], "--lzma2=preset=0,"+c.options)), MaxDict)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); n != int64(c.size) || err != nil {
			t.Fatal(n, err)
		}
		if got := cap(r.block.lzma2.window); got > c.limit {
			t.Errorf("%s: window of %d bytes for %d, want at most %d", c.options, got, c.size, c.limit)
		}
	}
}

func TestReadErrors(t *testing.T) {
	packed := pack(t, []byte("hello"))
	if r, err := NewReader(iotest.OneByteReader(bytes.NewReader(packed)), MaxDict); err != nil {
		t.Error(err)
	} else if err := iotest.TestReader(r, []byte("hello")); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken disk")
	for n := range packed {
		r, err := NewReader(io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(broken)), MaxDict)
		if err == nil {
			_, err = io.ReadAll(r)
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("byte %d: then %v", n, again)
			}
		}
		if !errors.Is(err, broken) {
			t.Errorf("byte %d: %v, want %v", n, err, broken)
		}
	}
}

// FuzzReader holds what we accept against another reader: both must see the same bytes.
func FuzzReader(f *testing.F) {
	vectors, _ := filepath.Glob("testdata/vectors/*.xz")
	for _, file := range vectors {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, text := range []string{"", "hello hello hello hello", strings.Repeat("ab", 5000)} {
		var b bytes.Buffer
		w, err := ulikunitz.NewWriter(&b)
		if err != nil {
			f.Fatal(err)
		}
		io.WriteString(w, text)
		w.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		got, err := io.ReadAll(io.LimitReader(r, 32<<20))
		if err != nil || len(got) == 32<<20 {
			return
		}
		other, err := ulikunitz.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("accepted, but the other reader says %v", err)
		}
		if want, err := io.ReadAll(other); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes; the other reader has %d, %v", len(got), len(want), err)
		}
	})
}

// FuzzLZMA decodes chunks that no check guards: no input may reach outside of the window.
func FuzzLZMA(f *testing.F) {
	f.Add(byte(0x5d), uint16(100), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, props byte, size uint16, packed []byte) {
		packed = packed[:min(len(packed), maxPacked)]
		var d decoder
		d.window, d.far = make([]byte, size), 1<<12
		if !d.properties(props) {
			return
		}
		d.resetState()
		var in [inSize]byte
		copy(in[:], packed)
		if d.decode(&in, len(packed), int(size)) && d.pos != int(size) {
			t.Errorf("%d bytes, want %d", d.pos, size)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	data := samples()["mixed"]
	packed := pack(b, data)
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"tally":     func(r io.Reader) (io.Reader, error) { return NewReader(r, MaxDict) },
		"ulikunitz": func(r io.Reader) (io.Reader, error) { return ulikunitz.NewReader(r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				r, err := open(bytes.NewReader(packed))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); n != int64(len(data)) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

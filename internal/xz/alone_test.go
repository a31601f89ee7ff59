package xz

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// alone compresses data as xz does and puts its size into the header, which xz leaves open.
func alone(t testing.TB, data []byte, options string) []byte {
	t.Helper()
	cmd := exec.Command(testtool.Need(t, "xz"), "--format=lzma", "--stdout", options)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(out[5:], uint64(len(data)))
	return out
}

// mixed is n bytes of noise, runs and repetitions.
func mixed(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for len(b) < n {
		part := make([]byte, 1+r.IntN(5000))
		switch r.IntN(3) {
		case 0:
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		case 1:
			copy(part, b[len(b)/2:])
		}
		b = append(b, part...)
	}
	return b[:n]
}

// TestAloneOfXZ reads what xz writes, of all sizes around the ring's, with several properties.
func TestAloneOfXZ(t *testing.T) {
	data := mixed(1 << 20)
	for _, options := range []string{"--lzma1=preset=0", "--lzma1=preset=6,lc=0,lp=4,pb=0", "--lzma1=preset=6,lc=4,lp=0,pb=4,dict=64KiB"} {
		for _, n := range []int{0, 1, 2, 1000, inSize/2 - 1, inSize, 3 * inSize, len(data)} {
			got, err := UnpackAlone(alone(t, data[:n], options), int64(n))
			if err != nil || !bytes.Equal(got, data[:n]) {
				t.Errorf("%s, %d bytes: %d bytes, %v", options, n, len(got), err)
			}
		}
	}
}

// firmwareLZMA is the LZMA section of Debian's OVMF: 1.7 MB as edk2's encoder writes it, without an end mark.
func firmwareLZMA(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("../../measure/snp/testdata/vectors/ovmf/OVMF.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := NewReader(f, MaxDict)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b.Bytes(), []byte("\x98\x58\x4e\xee\x14\x39\x59\x42\x9d\x6e\xdc\x7b\xd7\x94\x03\xcf"))
	section := b.Bytes()[i-4:]
	return section[24 : int(section[0])|int(section[1])<<8|int(section[2])<<16]
}

// TestAloneOfFirmware compares with xz what edk2's encoder wrote.
func TestAloneOfFirmware(t *testing.T) {
	data := firmwareLZMA(t)
	got, err := UnpackAlone(data, 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testtool.Need(t, "xz"), "--format=lzma", "--decompress", "--stdout")
	cmd.Stdin = bytes.NewReader(data)
	want, err := cmd.Output()
	if err != nil || len(want) < 15<<20 || !bytes.Equal(got, want) {
		t.Errorf("%d bytes; xz has %d, %v", len(got), len(want), err)
	}
}

func TestAloneRefuses(t *testing.T) {
	good := alone(t, []byte(strings.Repeat("a confidential image ", 20)), "--lzma1=preset=6")
	with := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return c
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"short":       {good[:17], "17 bytes, want at least 18"},
		"properties":  {with(0, 225), "properties 0xe1"},
		"open size":   {with(5, 255, 255, 255, 255, 255, 255, 255, 255), "want at most 420"},
		"over limit":  {with(5, 165, 1), "contents of 421 bytes"},
		"fewer bytes": {with(5, 163, 1), "corrupt"},
		"first byte":  {with(13, 1), "corrupt"},
		"truncated":   {good[:len(good)-1], "corrupt"},
		"trailing":    {append(bytes.Clone(good), 0), "corrupt"},
		"flipped":     {with(20, good[20]^1), "corrupt"},
	} {
		got, err := UnpackAlone(c.data, 420)
		if err == nil || got != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d bytes, %v; want %q", name, len(got), err, c.says)
		}
	}
}

func FuzzUnpackAlone(f *testing.F) {
	f.Add(alone(f, mixed(3000), "--lzma1=preset=6"))
	f.Add(firmwareLZMA(f)[:1<<10])
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := UnpackAlone(data, 1<<20)
		if (err == nil) != (got != nil) || len(got) > 1<<20 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func BenchmarkUnpackAlone(b *testing.B) {
	data := firmwareLZMA(b)
	for b.Loop() {
		if _, err := UnpackAlone(data, 32<<20); err != nil {
			b.Fatal(err)
		}
	}
}

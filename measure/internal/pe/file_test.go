package pe

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"strings"
	"testing"
)

// counted counts the bytes read of an image.
type counted struct {
	*bytes.Reader
	n int
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(b, off)
	c.n += n
	return n, err
}

// large is an image of more than a head and several chunks, with sections out of order and bytes behind them.
func large() []byte {
	data := [][]byte{bytes.Repeat([]byte("text"), 60<<10), bytes.Repeat([]byte("data"), 30<<10+1), []byte("small")}
	b := build([]string{".text", ".data", ".x"}, data, []byte("trailing byte"))
	first, second := b[0x80+24+240:], b[0x80+24+280:]
	tmp := slices.Clone(first[:40])
	copy(first[:40], second[:40])
	copy(second[:40], tmp)
	return b
}

// farHeader is an image whose PE header lies behind what is read at first.
func farHeader() []byte {
	b := samples["three"]
	const far = headSize + 0x80
	out := append(slices.Clone(b[:0x80]), make([]byte, far-0x80)...)
	binary.LittleEndian.PutUint32(out[0x3c:], far)
	out = append(out, b[0x80:]...)
	binary.LittleEndian.PutUint32(out[far+24+60:], 0x400+far-0x80)
	for i := range 3 {
		at := out[far+24+240+40*i+20:]
		binary.LittleEndian.PutUint32(at, binary.LittleEndian.Uint32(at)+far-0x80)
	}
	return out
}

// fileDigests are those of b with each of heads, read as a file.
func fileDigests(t testing.TB, r io.ReaderAt, size int64, change ...func([]byte)) ([]string, error) {
	t.Helper()
	f, err := OpenFile(r, size)
	if err != nil {
		return nil, err
	}
	var heads [][]byte
	var hs []hash.Hash
	for _, c := range change {
		h := f.Head()
		c(h)
		heads, hs = append(heads, h), append(hs, sha256.New())
	}
	if _, err := f.Authenticode(heads, hs); err != nil {
		return nil, err
	}
	var all []string
	for _, h := range hs {
		all = append(all, hex.EncodeToString(h.Sum(nil)))
	}
	return all, nil
}

func asIs([]byte) {}

// TestFileIsTheImage: read as it is hashed, an image has the digest of the whole, and is read once for all its heads.
func TestFileIsTheImage(t *testing.T) {
	patched := func(h []byte) { h[0x210] = 0xb0 }
	fewer := func(h []byte) { h[0x86] = 2 } // other parts are covered
	images := map[string][]byte{"large": large(), "far header": farHeader()}
	for name, b := range samples {
		images[name] = b
	}
	for name, b := range images {
		change := []func([]byte){asIs, patched}
		r := &counted{Reader: bytes.NewReader(b)}
		got, err := fileDigests(t, r, int64(len(b)), change...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, c := range change {
			whole := slices.Clone(b)
			c(whole)
			if want := digest(t, whole); got[i] != want {
				t.Errorf("%s: head %d: %s, the whole has %s", name, i, got[i], want)
			}
		}
		if r.n > len(b) && name != "far header" {
			t.Errorf("%s: %d bytes read of %d", name, r.n, len(b))
		}
	}
	b := large()
	got, err := fileDigests(t, bytes.NewReader(b), int64(len(b)), asIs, fewer)
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Clone(b)
	fewer(whole)
	if got[0] != digest(t, b) || got[1] != digest(t, whole) {
		t.Errorf("heads with other sections: %v, want %s and %s", got, digest(t, b), digest(t, whole))
	}
}

func TestFileRefused(t *testing.T) {
	b := large()
	for name, c := range map[string]struct {
		b    []byte
		size int64
		want string
	}{
		"shorter than its size": {b[:len(b)-1], int64(len(b)), "unexpected EOF"},
		"no file":               {nil, 100, "byte 0 of 100"},
		"too large":             {b, MaxSize + 1, "want at most"},
		"no image":              {make([]byte, 100<<10), 100 << 10, "no MZ"},
		"section outside":       {b[:100<<10], 100 << 10, `section ".data"`},
	} {
		if got, err := fileDigests(t, bytes.NewReader(c.b), c.size, asIs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, error %v, want one with %q", name, got, err, c.want)
		}
	}
	f, err := OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Authenticode([][]byte{f.Head()[1:]}, []hash.Hash{sha256.New()}); err == nil {
		t.Error("a head of another size: no error")
	}
	if _, err := f.Authenticode(nil, nil); err == nil {
		t.Error("no hash: no error")
	}
}

package oracles

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	efi "github.com/canonical/go-efilib"

	"tally/internal/petest"
	"tally/measure/internal/pe"
)

// images are the shapes on which Authenticode programs part: odd lengths, gaps between sections, data behind
// them, sections out of order, certificates.
func images() map[string][]byte {
	le := binary.LittleEndian
	const opt = 0x80 + 24
	plain := petest.Image(".text", "code", ".data", string(make([]byte, 700)), ".linux", "kernel")
	gap := bytes.Clone(plain) // 512 bytes between the second section and the third
	third := opt + 240 + 2*40
	le.PutUint32(gap[third+20:], le.Uint32(gap[third+20:])+512)
	gap = append(gap, make([]byte, 512)...)
	swapped := bytes.Clone(plain)
	copy(swapped[opt+240:], plain[opt+280:opt+320])
	copy(swapped[opt+280:], plain[opt+240:opt+280])
	signed := append(bytes.Clone(plain), "certificates here......."...)
	le.PutUint32(signed[opt+112+32:], uint32(len(plain)))
	le.PutUint32(signed[opt+112+36:], 24)
	return map[string][]byte{
		"plain": plain, "one": petest.Image(".text", "x"), "odd": append(bytes.Clone(plain), "odd"...), "trailing": append(bytes.Clone(plain), "12345678"...),
		"gap": gap, "swapped": swapped, "signed": signed,
	}
}

// beside compares our digest with go-efilib's, where both accept the image.
func beside(t *testing.T, name string, b []byte) (both bool) {
	t.Helper()
	im, err := pe.Parse(b)
	if err != nil {
		return false
	}
	want, err := efi.ComputePeImageDigest(crypto.SHA256, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return false
	}
	h := sha256.New()
	im.Authenticode(h)
	if got := h.Sum(nil); !bytes.Equal(got, want) {
		t.Errorf("%s: %x, go-efilib says %x", name, got, want)
	}
	return true
}

func TestAuthenticodeBesideEfilib(t *testing.T) {
	for name, b := range images() {
		if !beside(t, name, b) {
			t.Errorf("%s: refused", name)
		}
	}
}

func FuzzAuthenticode(f *testing.F) {
	for _, b := range images() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { beside(t, "fuzzed", b) })
}

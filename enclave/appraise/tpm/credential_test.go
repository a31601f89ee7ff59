package tpm

import (
	"bytes"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
)

// TestReadEK: the template to the byte, and a modulus of 2048 bits. TPMs have it elsewhere (attest/vtpm, with swtpm).
func TestReadEK(t *testing.T) {
	modulus := bytes.Repeat([]byte{0xff}, 256)
	good := slices.Concat(ekHead, []byte{1, 0}, modulus)
	if k, err := ReadEK(good); err != nil || k.E != 65537 || !bytes.Equal(k.N.Bytes(), modulus) {
		t.Errorf("%v, %v", k, err)
	}
	for i := range ekHead {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := ReadEK(bad); err == nil {
			t.Errorf("byte %d of the template is another", i)
		}
	}
	for name, bad := range map[string][]byte{
		"cut":       good[:len(good)-1],
		"longer":    append(bytes.Clone(good), 1),
		"empty":     nil,
		"template":  ekHead,
		"1024 bits": slices.Concat(ekHead, []byte{0, 128}, modulus[:128]),
		"2040 bits": slices.Concat(ekHead, []byte{1, 0, 0x7f}, modulus[:255]),
		"2056 bits": slices.Concat(ekHead, []byte{1, 1}, modulus, []byte{1}),
		"even":      slices.Concat(ekHead, []byte{1, 0}, modulus[:255], []byte{2}),
	} {
		if _, err := ReadEK(bad); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func TestSplitChallenge(t *testing.T) {
	ek := slices.Concat(ekHead, []byte{1, 0}, bytes.Repeat([]byte{0xff}, 256))
	c, err := NewChallenge(rand.Reader, "000b"+strings.Repeat("5a", 32), ek)
	if err != nil {
		t.Fatal(err)
	}
	// 34 bytes of HMAC, 34 of the encrypted credential; the seed as long as the modulus.
	id, encrypted, err := SplitChallenge(c.Blob)
	if err != nil || len(id) != 68 || len(encrypted) != 256 || len(c.Blob) > MaxChallenge {
		t.Errorf("%d and %d bytes, %v", len(id), len(encrypted), err)
	}
	if c.Opened(nil) || c.Opened(make([]byte, 32)) || !c.Opened(c.secret[:]) {
		t.Error("Opened does not tell the secret from others")
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "one part": {0, 1, 7}, "no identity": {0, 0, 0, 1, 7}, "no seed": {0, 1, 7, 0, 0}, "cut": {0, 1, 7, 0, 2, 7}, "longer": {0, 1, 7, 0, 1, 7, 7},
		"too long": slices.Concat([]byte{1, 0}, make([]byte, 256), []byte{1, 0}, make([]byte, 256)),
	} {
		if _, _, err := SplitChallenge(bad); err == nil {
			t.Errorf("%s: split", name)
		}
	}
	for _, name := range []string{"zz", "000b5"} {
		if _, err := NewChallenge(rand.Reader, name, ek); err == nil {
			t.Errorf("a challenge for the name %q", name)
		}
	}
}

package gpu

import (
	"bytes"
	"crypto/ecdsa"
	"strings"
	"testing"
)

// TestHeaders: request and response each have a version and a code.
func TestHeaders(t *testing.T) {
	b, _ := sample(t)
	for name, c := range map[string]struct {
		at   int
		to   byte
		want string
	}{
		"version of the request": {0, 0x10, "want 11e0"}, "code of the request": {1, 0xe1, "want 11e0"},
		"version of the response": {37, 0x10, "want 1160"}, "code of the response": {38, 0xe0, "want 1160"},
	} {
		bad := bytes.Clone(b)
		bad[c.at] = c.to
		if _, err := ParseReport(bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	long := append(bytes.Clone(b[:len(b)-signatureSize]), make([]byte, MaxReport-len(b)+signatureSize)...)
	if _, err := ParseReport(long); err == nil || !strings.Contains(err.Error(), "want 96") {
		t.Errorf("as long as may be: %v", err)
	}
}

// TestBlocksRefused: a record is blocks of one digest each, and an end to them.
func TestBlocksRefused(t *testing.T) {
	block := func(index, spec, size, value, n int) []byte {
		return append([]byte{byte(index), byte(spec), byte(size), 0, 1, byte(value), 0}, make([]byte, n)...)
	}
	good := func(index int) []byte { return block(index, 1, 51, 48, 48) }
	for name, c := range map[string]struct {
		b    []byte
		n    int
		want string
	}{
		"one":                   {good(1), 1, ""},
		"two":                   {append(good(1), good(2)...), 2, ""},
		"of the highest index":  {good(255), 1, ""},
		"none":                  {nil, 0, "0 blocks"},
		"more than said":        {append(good(1), good(2)...), 1, "55 more bytes"},
		"none said":             {good(1), 0, "0 blocks and 55 more bytes"},
		"fewer than said":       {good(1), 2, "ends too early"},
		"a byte more":           {append(good(1), 0), 1, "1 more bytes"},
		"index 0":               {good(0), 1, "index from 1"},
		"twice":                 {append(good(7), good(7)...), 2, "index 7 twice"},
		"specification":         {block(1, 2, 51, 48, 48), 1, "specification 1"},
		"shorter value":         {block(1, 1, 50, 47, 47), 1, "value of 47 bytes and 0 more"},
		"longer value":          {block(1, 1, 52, 49, 49), 1, "value of 49 bytes and 0 more"},
		"SHA-256":               {block(1, 1, 35, 32, 32), 1, "value of 32 bytes"},
		"byte behind the value": {block(1, 1, 52, 48, 49), 1, "value of 48 bytes and 1 more"},
		"value beyond block":    {block(1, 1, 51, 49, 48), 1, "ends too early"},
		"block beyond record":   {block(1, 1, 52, 48, 48), 1, "ends too early"},
	} {
		err := new(Report).blocks(&reader{b: c.b}, c.n)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestReader: what was too short once gives nothing any more.
func TestReader(t *testing.T) {
	r := &reader{b: []byte{1, 2, 3}}
	if r.take(4) != nil || !r.short || r.take(1) != nil || r.u16() != 0 || len(r.b) != 3 {
		t.Errorf("%+v", r)
	}
	r = &reader{b: []byte{1, 2, 3}}
	if r.u16() != 0x201 || len(r.take(1)) != 1 || r.short || r.take(0) == nil || r.take(1) != nil || !r.short {
		t.Errorf("%+v", r)
	}
}

// TestRawSignature: r and s are 48 bytes each, neither of them zero.
func TestRawSignature(t *testing.T) {
	b, chain := sample(t)
	certs, err := ParseChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	key, r := certs[0].PublicKey.(*ecdsa.PublicKey), Report{signed: b[:len(b)-signatureSize], signature: b[len(b)-signatureSize:]}
	if err := r.VerifySignature(key); err != nil {
		t.Fatal(err)
	}
	good := r.signature
	for name, sig := range map[string][]byte{
		"none": nil, "cut": good[:95], "longer": append(bytes.Clone(good), 0), "zeros": make([]byte, 96), "r is 0": append(make([]byte, 48), good[48:]...),
		"s is 0": append(bytes.Clone(good[:48]), make([]byte, 48)...), "the other way about": append(bytes.Clone(good[48:]), good[:48]...),
		"too large": bytes.Repeat([]byte{0xff}, 96),
	} {
		r.signature = sig
		if r.VerifySignature(key) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

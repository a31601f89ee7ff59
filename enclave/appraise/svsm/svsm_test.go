package svsm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// manifest is the TPMT_PUBLIC of an endorsement key, by the template's bytes in TCG EK Credential Profile 2.5, table 2, and a
// modulus of ones.
func manifest() []byte {
	head, err := hex.DecodeString("0001000b000300b20020" + "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa" + "00060080004300100800" + "000000000100")
	if err != nil {
		panic(err)
	}
	return append(head, bytes.Repeat([]byte{0xff}, 256)...)
}

// TestReportData holds both hashes to CPython's hashlib:
//
//	nonce = sha512(b"\0\x11tally/1 svsm vtpm\0\x22" + bytes.fromhex("000b" + "5a" * 32)).digest()
//	sha512(nonce + manifest).hexdigest()
func TestReportData(t *testing.T) {
	nonce, err := Nonce("000b" + strings.Repeat("5a", 32))
	r := &Report{SNP: make([]byte, ReportSize), Manifest: manifest()}
	if got, want := fmt.Sprintf("%x", nonce), "5503d6a58cfe761e79978745f1a4c94dff7bf93883af58cb3e2274320e11ad2e2776dc3eb9ab6e3906d24662b06db17bc270b4d50f646000f8341ebd55408e33"; err != nil || got != want {
		t.Errorf("nonce %s, %v; want %s", got, err, want)
	}
	if got, want := fmt.Sprintf("%x", r.ReportData(nonce)), "7fb4e1e9e1c314a846ce1563ff393a2637015874ac05d25ac28575fec3660a31d607de61cb022bb1d3627d09a7861e8983f8eb76cf55bb6340f87cbe8fda9068"; got != want {
		t.Errorf("REPORT_7fb4e1e9e1c314a846ce1563ff393a2637015874ac05d25ac28575fec3660a31d607de61cb022bb1d3627d09a7861e8983f8eb76cf55bb6340f87cbe8fda9068 %s, want %s", got, want)
	}
	for _, bad := range []string{"", "5a", strings.Repeat("5a", 35), strings.Repeat("zz", 34)} {
		if _, err := Nonce(bad); err == nil {
			t.Errorf("a nonce for the name %q", bad)
		}
	}
}

func TestEndorsements(t *testing.T) {
	good := &Report{SNP: bytes.Repeat([]byte{7}, ReportSize), Manifest: manifest()}
	for _, certs := range [][]byte{nil, {1, 2, 3}, make([]byte, MaxCertificates)} {
		b, err := Endorsements(good, certs)
		if err != nil {
			t.Fatal(err)
		}
		r, got, err := ParseEndorsements(b)
		if err != nil || !bytes.Equal(r.SNP, good.SNP) || !bytes.Equal(r.Manifest, good.Manifest) || !bytes.Equal(got, certs) {
			t.Errorf("%d bytes of certificates: %d back, %v", len(certs), len(got), err)
		}
	}
	at := func(i int, v byte) []byte { m := manifest(); m[i] = v; return m }
	for name, r := range map[string]*Report{
		"a short report":     {SNP: good.SNP[1:], Manifest: manifest()},
		"a long report":      {SNP: append(slices.Clone(good.SNP), 0), Manifest: manifest()},
		"no manifest":        {SNP: good.SNP},
		"a long manifest":    {SNP: good.SNP, Manifest: append(manifest(), make([]byte, 1<<10)...)},
		"bytes after":        {SNP: good.SNP, Manifest: append(manifest(), 0)},
		"an ECC key":         {SNP: good.SNP, Manifest: at(1, 0x23)},
		"a key that signs":   {SNP: good.SNP, Manifest: at(5, 7)},
		"another policy":     {SNP: good.SNP, Manifest: at(10, 0)},
		"an exponent":        {SNP: good.SNP, Manifest: at(55, 3)},
		"a short modulus":    {SNP: good.SNP, Manifest: at(58, 0x7f)},
		"an even modulus":    {SNP: good.SNP, Manifest: at(313, 0xfe)},
		"modulus's length":   {SNP: good.SNP, Manifest: at(57, 1)},
		"cut in the modulus": {SNP: good.SNP, Manifest: manifest()[:300]},
	} {
		b := slices.Concat([]byte{byte(len(r.SNP) >> 8), byte(len(r.SNP))}, r.SNP, []byte{byte(len(r.Manifest) >> 8), byte(len(r.Manifest))}, r.Manifest)
		if _, _, err := ParseEndorsements(b); err == nil {
			t.Errorf("%s: read", name)
		}
		if _, err := Endorsements(r, nil); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	b, _ := Endorsements(good, make([]byte, MaxCertificates))
	if _, _, err := ParseEndorsements(append(b, 0)); err == nil {
		t.Error("too many certificates: read")
	}
	if _, err := Endorsements(good, make([]byte, MaxCertificates+1)); err == nil {
		t.Error("too many certificates: written")
	}
}

// FuzzParseEndorsements wants whatever is read to be written again as it was.
func FuzzParseEndorsements(f *testing.F) {
	b, err := Endorsements(&Report{SNP: make([]byte, ReportSize), Manifest: manifest()}, []byte{1, 2, 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:1190])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, certs, err := ParseEndorsements(b)
		if err != nil {
			return
		}
		if again, err := Endorsements(r, certs); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}

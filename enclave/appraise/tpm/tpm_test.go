package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// template is by go-tpm, which this package does not use.
func template() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
	}
}

// A fake is a TPM's key without the TPM: it signs what it is told.
type fake struct {
	key *ecdsa.PrivateKey
	pub tpm2.TPMTPublic
}

func newFake(t testing.TB) *fake {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{key, template()}
	f.pub.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: raw[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: raw[33:]}})
	return f
}

// quote signs the PCRs; change edits the statement before it is signed.
func (f *fake) quote(t testing.TB, pcrs map[uint][32]byte, change func(*tpm2.TPMSAttest)) []byte {
	t.Helper()
	h := sha256.New()
	for _, i := range sorted(pcrs) {
		v := pcrs[i]
		h.Write(v[:])
	}
	sel := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(sorted(pcrs)...)}}}
	a := tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, ExtraData: tpm2.TPM2BData{Buffer: Qualifying([64]byte{1})},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{PCRSelect: sel, PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)}})}
	if change != nil {
		change(&a)
	}
	attest := tpm2.Marshal(a)
	sum := sha256.Sum256(attest)
	r, s, err := ecdsa.Sign(rand.Reader, f.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA,
		&tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()}})}
	b, err := Marshal(attest, tpm2.Marshal(sig), tpm2.Marshal(f.pub), pcrs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var somePCRs = map[uint][32]byte{0: {1}, 4: {2}, 23: {3}}

func TestVerify(t *testing.T) {
	f := newFake(t)
	e, err := Verify(f.quote(t, somePCRs, nil))
	if err != nil || len(e.PCR) != 3 || e.PCR[23] != [32]byte{3} || !bytes.Equal(e.Qualifying, Qualifying([64]byte{1})) || len(e.KeyName) != 68 {
		t.Fatalf("%+v, %v", e, err)
	}
	other := newFake(t)
	open := newFake(t)
	open.pub.ObjectAttributes.Restricted = false // may sign what pretends to be a quote
	short := f.quote(t, somePCRs, nil)
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"a key that signs anything": {open.quote(t, somePCRs, nil), "restricted"},
		"another key":               {(&fake{f.key, other.pub}).quote(t, somePCRs, nil), "not the key's"},
		"not by a TPM":              {f.quote(t, somePCRs, func(a *tpm2.TPMSAttest) { a.Magic = 1 }), "quote: "},
		"other PCRs": {f.quote(t, somePCRs, func(a *tpm2.TPMSAttest) {
			a.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{1, 0, 0}}}}})
		}), "PCR 4: in the quote false"},
		"another digest": {f.quote(t, somePCRs, func(a *tpm2.TPMSAttest) {
			q, err := a.Attested.Quote()
			if err != nil {
				t.Fatal(err)
			}
			q.PCRDigest.Buffer[0]++
		}), "not those of the quote"},
		"another bank": {f.quote(t, somePCRs, func(a *tpm2.TPMSAttest) {
			q, err := a.Attested.Quote()
			if err != nil {
				t.Fatal(err)
			}
			q.PCRSelect.PCRSelections[0].Hash = tpm2.TPMAlgSHA1
		}), "want PCRs of the bank SHA-256"},
		"PCR 24":     {func() []byte { b := bytes.Clone(short); b[len(b)-33] = 24; return b }(), "PCR 24 after 4"},
		"descending": {func() []byte { b := bytes.Clone(short); b[len(b)-33] = 4; return b }(), "PCR 4 after 4"},
		"empty":      {nil, "quote: cut short"},
		"oversize":   {make([]byte, MaxEvidence+1), "want at most"},
	} {
		if _, err := Verify(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestMalformed: each structure has one form, also where its key has signed it otherwise.
func TestMalformed(t *testing.T) {
	f := newFake(t)
	split := func(b []byte) (parts [3][]byte, rest []byte) {
		for i := range parts {
			n := int(binary.BigEndian.Uint16(b))
			parts[i], b = b[2:2+n], b[2+n:]
		}
		return parts, b
	}
	parts, pcrs := split(f.quote(t, somePCRs, nil))
	sign := func(attest []byte) (signature []byte) {
		sum := sha256.Sum256(attest)
		r, s, err := ecdsa.Sign(rand.Reader, f.key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		b := []byte{0, 0x18, 0, 0x0b}
		for _, v := range []*big.Int{r, s} {
			b = append(append(b, 0, 32), v.FillBytes(make([]byte, 32))...)
		}
		return b
	}
	attest, signature, key := parts[0], sign(parts[0]), parts[2]
	x, y := key[22:54], key[56:88]
	point := func(x, y []byte) []byte {
		b := append(bytes.Clone(key[:20]), 0, byte(len(x)))
		return append(append(append(b, x...), 0, byte(len(y))), y...)
	}
	signed := func(r, s []byte) []byte {
		b := append([]byte{0, 0x18, 0, 0x0b, 0, byte(len(r))}, r...)
		return append(append(b, 0, byte(len(s))), s...)
	}
	r, s := signature[6:38], signature[40:72]
	zero := []byte{0}
	rsaHead := []byte{0, 1, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 1, 0}
	modulus := bytes.Repeat([]byte{0xff}, 256)
	even, small := bytes.Clone(modulus), bytes.Clone(modulus)
	even[255], small[0] = 0xfe, 0x7f
	for name, c := range map[string]struct {
		attest, signature, key []byte
		want                   string
	}{
		"good":                     {attest, signature, key, ""},
		"long x":                   {attest, signature, point(append(zero, x...), y), "point of P-256"},
		"long y":                   {attest, signature, point(x, append(zero, y...)), "point of P-256"},
		"a byte after the point":   {attest, signature, append(bytes.Clone(key), 0), "point of P-256"},
		"no point":                 {attest, signature, key[:20], "point of P-256"},
		"half a key":               {attest, signature, key[:10], "want an ECC key"},
		"a byte of a key":          {attest, signature, key[:1], "want an ECC key"},
		"not on the curve":         {attest, signature, point(x, x), "key: "},
		"long r":                   {attest, signed(append(zero, r...), s), key, "not in the TPM's form"},
		"long s":                   {attest, signed(r, append(zero, s...)), key, "not in the TPM's form"},
		"a byte after s":           {attest, append(bytes.Clone(signature), 0), key, "not in the TPM's form"},
		"no signature":             {attest, signature[:3], key, "want ECDSA"},
		"zero":                     {attest, signed(zero, zero), key, "not the key's"},
		"a short quote":            {attest[:5], sign(attest[:5]), key, "not a TPM's"},
		"half a quote":             {attest[:50], sign(attest[:50]), key, "bytes left"},
		"a byte after the quote":   {append(bytes.Clone(attest), 0), sign(append(bytes.Clone(attest), 0)), key, "after the last field"},
		"half an RSA key":          {attest, signature, rsaHead[:6], "bytes left"},
		"a byte after an RSA key":  {attest, signature, append(append(bytes.Clone(rsaHead), modulus...), 0), "after the last field"},
		"even modulus":             {attest, signature, append(bytes.Clone(rsaHead), even...), "modulus of 2048"},
		"small modulus":            {attest, signature, append(bytes.Clone(rsaHead), small...), "modulus of 2048"},
		"ECDSA by an RSA key":      {attest, signature, append(bytes.Clone(rsaHead), modulus...), "want RSASSA"},
		"RSASSA by an ECC key":     {attest, append([]byte{0, 0x14, 0, 0x0b, 1, 0}, modulus...), key, "want ECDSA"},
		"a byte after a signature": {attest, append([]byte{0, 0x14, 0, 0x0b, 1, 0}, append(bytes.Clone(modulus), 0)...), append(bytes.Clone(rsaHead), modulus...), "not in the TPM's form"},
	} {
		b := []byte{}
		for _, f := range [][]byte{c.attest, c.signature, c.key} {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
		}
		_, err := Verify(append(b, pcrs...))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, f := range map[string][]byte{"empty": nil, "long": make([]byte, MaxEvidence/4+1)} {
		if _, err := Marshal(f, signature, key, somePCRs); err == nil {
			t.Errorf("%s structure: written", name)
		}
	}
	if err := IsKey(key[:10], new(rsa.PublicKey)); err == nil {
		t.Error("half a key is a key")
	}
}

// FuzzVerify: whatever is accepted is signed by the key in it, which is the seed's only for the seed's quote.
func FuzzVerify(f *testing.F) {
	k := newFake(f)
	good := k.quote(f, somePCRs, nil)
	e, err := Verify(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Verify(b); err == nil && got.KeyName == e.KeyName && (len(got.PCR) != len(e.PCR) || got.PCR[4] != e.PCR[4]) {
			t.Fatalf("accepted %x", b)
		}
	})
}

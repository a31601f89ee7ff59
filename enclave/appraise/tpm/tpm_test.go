package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
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

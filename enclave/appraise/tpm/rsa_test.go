package tpm

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// recorded is a quote recorded on Azure, in the form of this package: signature, quote and PCRs as they were, the key as a
// TPM would describe it.
func recorded(t testing.TB) (attest, signature []byte, key tpm2.TPMTPublic, pcrs map[uint][32]byte) {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "vectors", "az-cvm-vtpm", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := read("quote.bin")
	next := func(size int) []byte {
		n := int(binary.LittleEndian.Uint64(b)) * size
		out := b[8 : 8+n]
		b = b[8+n:]
		return out
	}
	sig, attest, values := next(1), next(1), next(32)
	pcrs = map[uint][32]byte{}
	for i := range uint(24) {
		pcrs[i] = [32]byte(values[32*i:])
	}
	block, _ := pem.Decode(read("akpub.pem"))
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key = tpm2.TPMTPublic{Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048,
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: pub.(*rsa.PublicKey).N.Bytes()})}
	signature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
		&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: sig}})})
	return attest, signature, key, pcrs
}

func TestRecordedRSA(t *testing.T) {
	attest, signature, key, pcrs := recorded(t)
	good, err := Marshal(attest, signature, tpm2.Marshal(key), pcrs)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Verify(good)
	if err != nil {
		t.Fatal(err)
	}
	if string(e.Qualifying) != "challenge" || len(e.PCR) != 24 {
		t.Fatalf("qualifying data %q, %d PCRs", e.Qualifying, len(e.PCR))
	}
	if pub := e.Key.(*rsa.PublicKey); IsKey(tpm2.Marshal(key), pub) != nil || IsKey(tpm2.Marshal(template()), pub) == nil {
		t.Error("IsKey does not know its key")
	}
	for name, c := range map[string]struct {
		change func(k *tpm2.TPMTPublic)
		words  string
	}{
		"may sign anything": {func(k *tpm2.TPMTPublic) { k.ObjectAttributes.Restricted = false }, "restricted"},
		"decrypts":          {func(k *tpm2.TPMTPublic) { k.ObjectAttributes.Decrypt = true }, "restricted"},
		"does not sign":     {func(k *tpm2.TPMTPublic) { k.ObjectAttributes.SignEncrypt = false }, "restricted"},
		"moves":             {func(k *tpm2.TPMTPublic) { k.ObjectAttributes.FixedTPM = false }, "restricted"},
		"imported":          {func(k *tpm2.TPMTPublic) { k.ObjectAttributes.SensitiveDataOrigin = false }, "restricted"},
		"name by SHA-384":   {func(k *tpm2.TPMTPublic) { k.NameAlg = tpm2.TPMAlgSHA384 }, "restricted"},
		"long policy":       {func(k *tpm2.TPMTPublic) { k.AuthPolicy.Buffer = make([]byte, 65) }, "restricted"},
		"PSS": {func(k *tpm2.TPMTPublic) {
			k.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048,
				Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAPSS, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})}})
		}, "RSASSA"},
		"short modulus": {func(k *tpm2.TPMTPublic) {
			k.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: bytes.Repeat([]byte{0xff}, 255)})
		}, "modulus"},
		"another modulus": {func(k *tpm2.TPMTPublic) {
			k.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: bytes.Repeat([]byte{0xff}, 256)})
		}, "not the key's"},
	} {
		_, _, k, _ := recorded(t)
		c.change(&k)
		b, err := Marshal(attest, signature, tpm2.Marshal(k), pcrs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(b); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
	// Of the key only the policy and the attributes of use are nobody's word: they are in its name. Everything else counts.
	keyAt := 2 + len(attest) + 2 + len(signature) + 2
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := Verify(bad); err == nil && !(i >= keyAt+4 && i < keyAt+8) {
			t.Errorf("bit of byte %d (%d in the key): accepted", i, i-keyAt)
		}
	}
}

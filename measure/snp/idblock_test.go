package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// idVector is an ID block that snp-create-id-block of sev-snp-measure made.
type idVector struct {
	Digest     string `json:"launch_digest"`
	IDKey      string `json:"id_key_pem"`
	AuthorKey  string `json:"author_key_pem"`
	Block      []byte `json:"id_block"`
	Auth       []byte `json:"id_auth"`
	IDHash     []byte `json:"id_key_hash"`
	AuthorHash []byte `json:"author_key"`
}

func readIDVector(t testing.TB) (v idVector, b *IDBlock) {
	t.Helper()
	readJSON(t, "id-block.json", &v)
	b = &IDBlock{Policy: DefaultPolicy}
	if err := b.Digest.UnmarshalText([]byte(v.Digest)); err != nil {
		t.Fatal(err)
	}
	return v, b
}

func pemKey(t testing.TB, text string) *ecdsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	k, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestIDBlockBesidePeer: the same block, byte for byte; the peer's signatures verify here; all of the
// authentication structure but the (there random) signatures is equal, and so are the key digests.
func TestIDBlockBesidePeer(t *testing.T) {
	v, b := readIDVector(t)
	if !bytes.Equal(b.Marshal(), v.Block) {
		t.Errorf("block %x, the peer's %x", b.Marshal(), v.Block)
	}
	theirs, err := VerifyIDAuth(b, v.Auth)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := b.Sign(pemKey(t, v.IDKey), pemKey(t, v.AuthorKey))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := VerifyIDAuth(b, auth)
	if err != nil {
		t.Fatal(err)
	}
	if ours.ID != theirs.ID || *ours.Author != *theirs.Author || !bytes.Equal(ours.ID[:], v.IDHash) || !bytes.Equal(ours.Author[:], v.AuthorHash) {
		t.Errorf("keys %s and %s, the peer's %x and %x", ours.ID, ours.Author, v.IDHash, v.AuthorHash)
	}
	for _, sig := range []int{authIDSig, authKeySig} {
		clear(auth[sig:][:sigSize])
		clear(v.Auth[sig:][:sigSize])
	}
	if !bytes.Equal(auth, v.Auth) {
		t.Error("the authentication structure differs from the peer's outside the signatures")
	}
}

// TestIDSignatureBesideOpenSSL lets another implementation check our signature.
func TestIDSignatureBesideOpenSSL(t *testing.T) {
	tool := testtool.Need(t, "openssl")
	v, b := readIDVector(t)
	key := pemKey(t, v.IDKey)
	auth, err := b.Sign(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r, s := reversed(auth[authIDSig:][:48]), reversed(auth[authIDSig+numberSize:][:48])
	sig, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"pub.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "block": b.Marshal(), "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(tool, "dgst", "-sha384", "-verify", "pub.pem", "-signature", "sig", "block")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verified OK") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestIDBlockIsDeterministic: the same inputs give the same 4096 bytes.
func TestIDBlockIsDeterministic(t *testing.T) {
	v, b := readIDVector(t)
	one, err := b.Sign(pemKey(t, v.IDKey), pemKey(t, v.AuthorKey))
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.Sign(pemKey(t, v.IDKey), pemKey(t, v.AuthorKey))
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("two signings differ, %v", err)
	}
}

// TestEveryBitOfIDBlockIsSigned flips one bit a byte of block, key and signature.
func TestEveryBitOfIDBlockIsSigned(t *testing.T) {
	v, b := readIDVector(t)
	flip := func(data []byte, i int) []byte {
		c := bytes.Clone(data)
		c[i] ^= 1
		return c
	}
	raw := b.Marshal()
	if c, err := ParseIDBlock(raw); err != nil || *c != *b {
		t.Fatalf("%+v, %v; want the block %+v", c, err, b)
	}
	for i := range raw {
		if c, err := ParseIDBlock(flip(raw, i)); err == nil {
			if _, err := VerifyIDAuth(c, v.Auth); err == nil {
				t.Errorf("byte %d of the block is not signed", i)
			}
		}
	}
	for _, i := range []int{0, 4, authIDSig, authIDSig + 71, authIDSig + numberSize, authIDKey, authIDKey + 4, authIDKey + 51, authIDKey + 52, authKeySig, authAuthorKey + 4} {
		if _, err := VerifyIDAuth(b, flip(v.Auth, i)); err == nil {
			t.Errorf("byte %d of the authentication is not checked", i)
		}
	}
	// What the firmware wants to be zero, at each end of it.
	for _, i := range []int{8, 63, 64 + 144, 64 + 511, 576 + 148, 576 + 1027, 576 + 1028, 1663, 1664 + 144, 1664 + 511, 2176 + 148, 2176 + 1027, 2176 + 1028, 4095} {
		if _, err := VerifyIDAuth(b, flip(v.Auth, i)); err == nil || !strings.Contains(err.Error(), "reserved") {
			t.Errorf("reserved byte %d of the authentication: %v", i, err)
		}
	}
}

func TestIDBlockRefusals(t *testing.T) {
	v, b := readIDVector(t)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Sign(p256, nil); err == nil || !strings.Contains(err.Error(), "want P-384") {
		t.Errorf("P-256: %v", err)
	}
	if _, err := b.Sign(pemKey(t, v.IDKey), p256); err == nil || !strings.Contains(err.Error(), "author key") {
		t.Errorf("author P-256: %v", err)
	}
	if _, err := (&IDBlock{}).Sign(pemKey(t, v.IDKey), nil); err == nil || !strings.Contains(err.Error(), "bit 17") {
		t.Errorf("no policy: %v", err)
	}
	if _, err := VerifyIDAuth(b, v.Auth[1:]); err == nil {
		t.Error("short authentication: no error")
	}
	for want, block := range map[string][]byte{"95 bytes": v.Block[1:], "97 bytes": append(bytes.Clone(v.Block), 0),
		"version 2": slices.Replace(bytes.Clone(v.Block), 0x50, 0x51, 2), "bit 17": slices.Replace(bytes.Clone(v.Block), 0x5a, 0x5b, 0)} {
		if _, err := ParseIDBlock(block); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// TestIDAuthWithoutAuthor: an author's key or signature without the algorithm that would have it checked is refused.
func TestIDAuthWithoutAuthor(t *testing.T) {
	v, b := readIDVector(t)
	auth, err := b.Sign(pemKey(t, v.IDKey), nil)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := VerifyIDAuth(b, auth); err != nil || keys.Author != nil || !bytes.Equal(keys.ID[:], v.IDHash) {
		t.Errorf("%+v, %v", keys, err)
	}
	for _, i := range []int{authKeySig, authKeySig + sigUsed - 1, authAuthorKey, authAuthorKey + keyUsed - 1} {
		bad := bytes.Clone(auth)
		bad[i] = 1
		if _, err := VerifyIDAuth(b, bad); err == nil || !strings.Contains(err.Error(), "no author's algorithm") {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for want, change := range map[string]func(b []byte) []byte{
		"4095 bytes":         func(b []byte) []byte { return b[1:] },
		"4097 bytes":         func(b []byte) []byte { return append(b, 0) },
		"algorithms 0 and 0": func(b []byte) []byte { b[0] = 0; return b },
		"algorithms 1 and 2": func(b []byte) []byte { b[4] = 2; return b },
		"more than 384 bits": func(b []byte) []byte { b[authIDKey+4+48] = 1; return b },
		"a number of more":   func(b []byte) []byte { b[authIDKey+4+numberSize+71] = 1; return b },
		"curve 3":            func(b []byte) []byte { b[authIDKey] = 3; return b },
		"public key":         func(b []byte) []byte { clear(b[authIDKey+4:][:2*numberSize]); return b },
		"does not verify":    func(b []byte) []byte { clear(b[authIDSig:][:sigSize]); return b },
	} {
		if _, err := VerifyIDAuth(b, change(bytes.Clone(auth))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func FuzzVerifyIDAuth(f *testing.F) {
	v, _ := readIDVector(f)
	f.Add(v.Block, v.Auth)
	f.Fuzz(func(t *testing.T, block, auth []byte) {
		b, err := ParseIDBlock(block)
		if err != nil {
			return
		}
		if !bytes.Equal(b.Marshal(), block) {
			t.Error("a block does not come back")
		}
		VerifyIDAuth(b, auth)
	})
}

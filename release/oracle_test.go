package release_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// plainVerify is a second verifier, written from the specifications and sharing no code with the package:
// encoding/json instead of the strict reader, json.Marshal of sorted maps instead of a format string for
// the leaf, torchwood's policy instead of ours for the checkpoint. It knows the good cases only.
func plainVerify(bundle, pubPEM, policy []byte) error {
	var b struct {
		VerificationMaterial struct {
			TlogEntries []struct {
				LogIndex       string
				InclusionProof struct {
					Hashes     [][]byte
					Checkpoint struct{ Envelope string }
				}
			}
		}
		DsseEnvelope struct {
			Payload     []byte
			PayloadType string
			Signatures  []struct{ Sig []byte }
		}
	}
	if err := json.Unmarshal(bundle, &b); err != nil {
		return err
	}
	block, _ := pem.Decode(pubPEM)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	env := b.DsseEnvelope
	digest := sha256.Sum256([]byte("DSSEv1 " + strconv.Itoa(len(env.PayloadType)) + " " + env.PayloadType + " " + strconv.Itoa(len(env.Payload)) + " " + string(env.Payload)))
	if !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], env.Signatures[0].Sig) {
		return errors.New("signature")
	}
	type m = map[string]any
	leaf, err := json.Marshal(m{"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": m{"hashedRekordV002": m{
		"data": m{"algorithm": "SHA2_256", "digest": digest[:]},
		"signature": m{"content": env.Signatures[0].Sig, "verifier": m{
			"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": m{"rawBytes": block.Bytes},
		}},
	}}})
	if err != nil {
		return err
	}
	trusted, err := torchwood.ParsePolicy(policy)
	if err != nil {
		return err
	}
	entry := b.VerificationMaterial.TlogEntries[0]
	cp, _, err := torchwood.VerifyCheckpoint([]byte(entry.InclusionProof.Checkpoint.Envelope), trusted)
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(entry.LogIndex, 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, h := range entry.InclusionProof.Hashes {
		proof = append(proof, tlog.Hash(h))
	}
	return tlog.CheckRecord(proof, cp.N, cp.Hash, index, tlog.RecordHash(leaf))
}

func TestSecondVerifier(t *testing.T) {
	w := rt.New(t)
	policy, err := os.ReadFile(filepath.Join(w.LogDir, "policy.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		bundle := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: uint64(i + 1)})).Bundle
		if err := plainVerify(bundle, w.Key.Public().PEM(), policy); err != nil {
			t.Errorf("bundle %d: %v", i, err)
		}
	}
	if err := plainVerify(w.Bundle, rt.Key(t).Public().PEM(), policy); err == nil {
		t.Error("the oracle accepts any key")
	}
}

// plainQuorum counts the keys under which some bundle of rebuilds verifies and says, by plain JSON, that exactly the
// subjects of the release were reproduced.
func plainQuorum(bundle []byte, rebuilds [][]byte, keys [][]byte, policy []byte) (n int, err error) {
	type statement struct {
		Subject   any
		Predicate struct{ Result string }
	}
	payload := func(bundle []byte) (s statement, err error) {
		var b struct{ DsseEnvelope struct{ Payload []byte } }
		if err := json.Unmarshal(bundle, &b); err != nil {
			return s, err
		}
		return s, json.Unmarshal(b.DsseEnvelope.Payload, &s)
	}
	want, err := payload(bundle)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		for _, r := range rebuilds {
			got, err := payload(r)
			if err != nil {
				return 0, err
			}
			if plainVerify(r, key, policy) == nil && got.Predicate.Result == "reproduced" && reflect.DeepEqual(got.Subject, want.Subject) {
				n++
				break
			}
		}
	}
	return n, nil
}

// The second verifier and ours come to the same count, whoever said what.
func TestSecondVerifierOfRebuilds(t *testing.T) {
	w := rt.New(t)
	policy, err := os.ReadFile(filepath.Join(w.LogDir, "policy.txt"))
	if err != nil {
		t.Fatal(err)
	}
	fewer := func(r *release.Rebuild) { r.Subject = r.Subject[1:] }
	changes := []func(*release.Rebuild){nil, fewer, nil, fewer, nil}
	var rebuilds, keys [][]byte
	for i, change := range changes {
		k := rt.Key(t)
		rebuilds = append(rebuilds, w.Rebuild(t, k, w.Bundle, change))
		if i != 2 { // a stranger
			keys = append(keys, k.Public().PEM())
			w.Policy.Rebuilders.Keys = append(w.Policy.Rebuilders.Keys, release.Signer{Key: k.Public()})
		}
		n, err := plainQuorum(w.Bundle, rebuilds, keys, policy)
		if err != nil {
			t.Fatal(err)
		}
		r, err := release.Verify(bytes.Join(append([][]byte{w.Bundle}, rebuilds...), nil), w.Policy, rt.Now)
		if err != nil || len(r.Rebuilders) != n {
			t.Errorf("after %d statements: %d counted, the second verifier counts %d, %v", i+1, len(r.Rebuilders), n, err)
		}
	}
	if len(keys) != 4 {
		t.Fatal("a case is missing")
	}
}

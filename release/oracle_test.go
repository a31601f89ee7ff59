package release_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tally/internal/testtool"
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

const cosignModule = "github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5"

// needCosign returns the path of stock cosign: $TALLY_COSIGN, one in PATH, or in CI (where nothing may be
// skipped) one built from its module into the user's cache, once.
func needCosign(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("TALLY_COSIGN"); p != "" {
		return p
	}
	if p, err := exec.LookPath("cosign"); err == nil {
		return p
	}
	if os.Getenv("CI") == "" && os.Getenv("TALLY_CI") == "" {
		t.Skip("SKIPPED: stock cosign is not installed; set TALLY_COSIGN to its path, or TALLY_CI=1 to build it (minutes)")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tallystick", "cosign-v2.6.5")
	bin := filepath.Join(dir, "cosign")
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	cmd := exec.Command(testtool.Need(t, "go"), "install", "-trimpath", cosignModule)
	cmd.Dir = t.TempDir() // outside this module
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building cosign: %v\n%s", err, out)
	}
	return bin
}

// offline returns a command that runs argv in an empty network namespace.
func offline(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	wrap := []string{testtool.Need(t, "unshare"), "--net"}
	if os.Geteuid() != 0 {
		wrap = append(wrap, "--map-root-user")
	}
	if out, err := exec.Command(wrap[0], append(wrap[1:], "true")...).CombinedOutput(); err != nil {
		testtool.Missing(t, fmt.Sprintf("an empty network namespace cannot be made (%v: %s)", err, out))
	}
	argv = append(wrap, argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=secret", "HOME="+t.TempDir())
	return cmd
}

// Stock cosign verifies our bundles with our log's trusted root and no network, refuses what it should,
// and reads our key file.
func TestStockCosign(t *testing.T) {
	cosign := needCosign(t)
	w := rt.New(t)
	bundles := [][]byte{w.Bundle}
	for i := range 4 {
		bundles = append(bundles, w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: uint64(i + 2)})).Bundle)
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	verify := func(bundle []byte, artifact string, more ...string) (string, error) {
		args := []string{
			cosign, "verify-blob-attestation", "--new-bundle-format", "--bundle", file("b.sigstore.json", bundle),
			"--key", file("cosign.pub", w.Key.Public().PEM()), "--trusted-root", filepath.Join(w.LogDir, "trusted_root.json"),
			"--type", "tag:tallystick,2026:release/v1",
		}
		out, err := offline(t, append(append(args, more...), artifact)...).CombinedOutput()
		return string(out), err
	}
	disk := filepath.Join(w.Out, "disk.raw")
	for i, b := range bundles {
		for _, artifact := range []string{disk, filepath.Join(w.Out, "reference-values.json")} {
			if out, err := verify(b, artifact); err != nil || !strings.Contains(out, "Verified OK") {
				t.Fatalf("bundle %d, %s: %v\n%s", i, artifact, err, out)
			}
		}
	}
	other := rt.New(t)
	proof := strings.Replace(string(bundles[4]), `"hashes":["`, `"hashes":["AAAA`, 1)
	for name, run := range map[string]func() (string, error){
		"other file": func() (string, error) { return verify(w.Bundle, file("x", []byte("x"))) },
		"other type": func() (string, error) { return verify(w.Bundle, disk, "--type", "https://example.org/v1") },
		"other log": func() (string, error) {
			return verify(w.Bundle, disk, "--trusted-root", filepath.Join(other.LogDir, "trusted_root.json"))
		},
		"other key": func() (string, error) {
			return verify(w.Bundle, disk, "--key", file("other.pub", other.Key.Public().PEM()))
		},
		"bad proof":  func() (string, error) { return verify([]byte(proof), disk) },
		"not logged": func() (string, error) { return verify(w.Sign(t, w.Key, sign.Options{Sequence: 1}), disk) },
	} {
		if out, err := run(); err == nil {
			t.Errorf("%s: cosign accepts\n%s", name, out)
		}
	}
	key, err := w.Key.Marshal([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := offline(t, cosign, "public-key", "--key", file("cosign.key", key)).Output()
	if err != nil || string(out) != string(w.Key.Public().PEM()) {
		t.Errorf("cosign reads our key file: %v\n%s", err, out)
	}
}

package publish_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A file that is not what was hashed is not served under that hash, and its release is not logged.
func TestFileChanged(t *testing.T) {
	w := rt.New(t)
	out, err := sign.ReadOut(t.Context(), w.Out)
	if err != nil {
		t.Fatal(err)
	}
	bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	if err := os.RemoveAll(filepath.Join(w.LogDir, "by-digest")); err != nil {
		t.Fatal(err)
	}
	try := func(files []sign.File) error {
		l := w.Open(t)
		_, err := publish.Publish(t.Context(), l, publish.Request{Bundle: bundle, Signer: w.Key.Public(), OutDir: w.Out, Files: files})
		return errors.Join(err, l.Close())
	}
	kernel := filepath.Join(w.Out, "vmlinuz")
	for name, damage := range map[string]func() error{
		"changed": func() error { return os.WriteFile(kernel, []byte("Kernel"), 0o644) },
		"gone":    func() error { return os.Remove(kernel) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := try(out.Files()); err == nil || !strings.Contains(err.Error(), "vmlinuz") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, f := range out.Files() {
		if _, err := os.Stat(filepath.Join(w.LogDir, "by-digest", f.Digest.String())); f.Name == "vmlinuz" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is served, %v", f.Name, err)
		}
	}
	if err := os.WriteFile(kernel, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := out.Files()
	if err := try(files[1:]); err == nil {
		t.Error("published without one of the files")
	}
	if err := try(append(files[:len(files):len(files)], files[0])); err == nil {
		t.Error("published with a file more")
	}
	if err := try(append([]sign.File{files[1]}, files[1:]...)); err == nil {
		t.Error("published with one file twice, and another missing")
	}
	if i := nextIndex(t, w); i != 1 {
		t.Errorf("next index %d, want 1", i)
	}
}

// certified is the bundle signed by the key of a certificate that nobody vouches for.
func certified(t *testing.T, bundle []byte) []byte {
	t.Helper()
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	if b.Certificate, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key); err != nil {
		t.Fatal(err)
	}
	b.Timestamps = [][]byte{{1}}
	digest := sha256.Sum256(b.Envelope.PAE())
	if b.Envelope.Signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
		t.Fatal(err)
	}
	return rt.Marshal(t, b)
}

// What lies in the place of a publication that was begun is finished only if it is that: else what was given is published.
func TestPendingOther(t *testing.T) {
	w, other := rt.New(t), rt.Key(t)
	bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := release.ParseBundle(w.Sign(t, other, sign.Options{Sequence: 2}))
	if err != nil {
		t.Fatal(err)
	}
	forged.Hint = b.Hint
	pending := filepath.Join(w.LogDir, ".pending", release.PayloadDigest(b).String()+"-"+w.Key.Public().ID().String())
	clean := t.TempDir()
	if err := os.CopyFS(clean, os.DirFS(w.LogDir)); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"another release": w.Sign(t, w.Key, sign.Options{Sequence: 3}), "another's signature": rt.Marshal(t, forged),
		"a certificate's": certified(t, bundle), "no bundle": []byte("x"),
	} {
		if err := errors.Join(os.RemoveAll(w.LogDir), os.CopyFS(w.LogDir, os.DirFS(clean)), os.WriteFile(pending, data, 0o644)); err != nil {
			t.Fatal(err)
		}
		p := w.Publish(t, bundle)
		if r, err := release.Verify(p.Bundle, w.Policy, rt.Now); err != nil || r.Payload != release.PayloadDigest(b) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A release of which something could not be written is not called published; the next time finishes it.
func TestPublishUnwritten(t *testing.T) {
	w := rt.New(t)
	bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	payload, signer := release.PayloadDigest(b).String(), w.Key.Public()
	index := filepath.Join(w.LogDir, "names", "minimal@0.1.0")
	before, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		".pending/" + payload + "-" + signer.ID().String(), "by-digest/" + payload,
		publish.BundlePath(release.LeafHash(release.LeafBody(&b.Envelope, signer))), "releases/" + payload + "-" + signer.ID().String(),
		"names/minimal@0.1.0",
	} {
		place := filepath.Join(w.LogDir, name)
		if now, err := os.ReadFile(index); string(now) != string(before) { // until the release is there its name leads to the one before
			t.Errorf("%s: the name leads to %s, %v", name, now, err)
		}
		if place == index {
			if err := os.Remove(index); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(place, 0o755); err != nil {
			t.Fatal(err)
		}
		if p, err := w.TryPublish(t.Context(), t, bundle, signer); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
		if err := os.RemoveAll(place); err != nil {
			t.Fatal(err)
		}
	}
	for _, again := range []bool{false, true} { // finished; and found
		p := w.Publish(t, bundle)
		if now, err := os.ReadFile(index); p.Index != 1 || err != nil || string(now) != payload+"\n" {
			t.Errorf("again %v: %+v, the name leads to %s, %v", again, p, now, err)
		}
	}
	w.Publish(t, w.Bundle)
	if now, err := os.ReadFile(index); err != nil || string(now) != payload+"\n" {
		t.Errorf("the earlier release took the name back: %s, %v", now, err)
	}
}

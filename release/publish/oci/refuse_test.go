package oci_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A manifest that changed after it was signed is not pushed: the tag would be that of other files.
func TestPushChangedManifest(t *testing.T) {
	w, req := ociWorld(t)
	r := repository(inProcess(t, true))
	manifest := filepath.Join(w.Out, release.OCIManifest)
	data, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := r.Push(t.Context(), req); err == nil || !strings.Contains(err.Error(), "not what was signed") {
		t.Errorf("changed: %+v, %v", p, err)
	}
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	if p, err := r.Push(t.Context(), req); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %+v, %v", p, err)
	}
	if got, err := r.Resolve(t.Context(), r.Repository+":0.1.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tag leads to %s, %v", got, err)
	}
}

// Only a logged channel statement that its signer signed gets a channel's tag, and an earlier one does not come back.
func TestChannelRefused(t *testing.T) {
	w := rt.New(t)
	host := inProcess(t, true)
	r, key := repository(host), w.Key.Public()
	unlogged, err := sign.Channel(release.NewChannel(w.Predicate(t, 1, w.Bundle)), w.Key)
	if err != nil {
		t.Fatal(err)
	}
	first := w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	for name, c := range map[string]struct {
		bundle []byte
		signer release.PublicKey
	}{
		"not logged": {rt.Marshal(t, unlogged), key}, "no bundle": {first[:100], key}, "another signer": {first, rt.Key(t).Public()},
		"a release": {w.Bundle, key}, "no key": {first, release.PublicKey{}},
	} {
		if at, err := r.Channel(t.Context(), c.bundle, c.signer); err == nil {
			t.Errorf("%s: %s", name, at)
		}
	}
	if there, err := r.HasChannel(t.Context(), "stable"); there || err != nil {
		t.Errorf("refused, and there: %v, %v", there, err)
	}
	second := w.Channel(t, w.Key, w.Predicate(t, 2, w.Bundle))
	for range 2 { // the same again is no step back
		if _, err := r.Channel(t.Context(), second, key); err != nil {
			t.Error(err)
		}
	}
	// Who cannot see which statement is there does not replace it.
	broken := httptest.NewServer(refusing(host, func(req *http.Request) bool {
		return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/")
	}))
	defer broken.Close()
	if at, err := repository(strings.TrimPrefix(broken.URL, "http://")).Channel(t.Context(), first, key); err == nil {
		t.Errorf("behind what cannot be read: %s", at)
	}
	// What is no statement of the channel is nobody's step.
	foreign := w.Predicate(t, 9, w.Bundle)
	foreign.Name = "other"
	for name, at := range map[string][]byte{"another name's": w.Channel(t, w.Key, foreign), "a release": w.Bundle, "no bundle": []byte("x")} {
		put(t, host, "_channel.stable", release.Digest{}, release.MediaType, at)
		if _, err := r.Channel(t.Context(), second, key); err != nil {
			t.Errorf("over %s: %v", name, err)
		}
	}
	if got, err := r.Channel(t.Context(), first, key); err == nil {
		t.Errorf("stepped back: %s", got)
	}
}

// refusing passes on to a registry what it does not refuse.
func refusing(host string, refuse func(*http.Request) bool) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if refuse(req) {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(rw, req)
	})
}

// What a registry did not take is not called pushed.
func TestRegistryRefuses(t *testing.T) {
	w, req := ociWorld(t)
	bundle := w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	blob := func(data []byte) string { return fmt.Sprintf("digest=sha256%%3A%x", sha256.Sum256(data)) }
	push := func(r string) error { _, err := repository(r).Push(t.Context(), req); return err }
	channel := func(r string) error { _, err := repository(r).Channel(t.Context(), bundle, w.Key.Public()); return err }
	for name, c := range map[string]struct {
		do   func(host string) error
		part string // of what it does not take
	}{
		"config":             {push, blob(sign.EmptyConfig)},
		"bundle":             {push, blob(w.Bundle)},
		"manifest":           {push, "/manifests/0.1.0"},
		"referrer":           {push, "/manifests/sha256:"},
		"channel's config":   {channel, blob(sign.EmptyConfig)},
		"channel's bundle":   {channel, blob(bundle)},
		"channel's manifest": {channel, "/manifests/_channel.stable"},
	} {
		var refused atomic.Bool
		srv := httptest.NewServer(refusing(inProcess(t, true), func(req *http.Request) bool {
			hit := req.Method == http.MethodPut && strings.Contains(req.URL.String(), c.part)
			if hit {
				refused.Store(true)
			}
			return hit
		}))
		if err := c.do(strings.TrimPrefix(srv.URL, "http://")); err == nil || !refused.Load() {
			t.Errorf("%s: %v, refused %v", name, err, refused.Load())
		}
		srv.Close()
	}
}

// A bundle by a certificate's key must have that key's signature, whoever is named with it.
func TestPushCertified(t *testing.T) {
	w, req := ociWorld(t)
	r := repository(inProcess(t, true))
	b, err := release.ParseBundle(w.Bundle)
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
	req.Bundle = rt.Marshal(t, b) // still signed by w.Key
	if p, err := r.Push(t.Context(), req); err == nil {
		t.Errorf("signed by another key than the certificate's: %+v", p)
	}
	digest := sha256.Sum256(b.Envelope.PAE())
	if b.Envelope.Signature, err = ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
		t.Fatal(err)
	}
	req.Bundle = rt.Marshal(t, b)
	if _, err := r.Push(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	want := publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)}
	if _, err := r.Fetch(t.Context(), want); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nobody's certificate: %v", err)
	}
	want.By.Certified = func(*release.Bundle) bool { return true }
	if _, err := r.Fetch(t.Context(), want); err != nil {
		t.Errorf("a certificate that counts: %v", err)
	}
	b.Certificate = []byte("x")
	req.Bundle = rt.Marshal(t, b)
	if p, err := r.Push(t.Context(), req); err == nil {
		t.Errorf("no certificate: %+v", p)
	}
}

// A repository that has no such name, or a label that no release has, is refused before anything is asked for.
func TestNoRepository(t *testing.T) {
	w := rt.New(t)
	_, s := rt.Payload(t, w.Bundle)
	r := repository("127.0.0.1:1")
	r.Transport = untouched{t}
	for _, x := range []publish.Want{{Version: "../0.1.0"}, {Version: "0.1.0", Channel: "../stable"}, {Channel: "../stable"}, {Version: "../0.1.0", Channel: "stable"}} {
		if _, err := r.Fetch(t.Context(), x); err == nil {
			t.Errorf("%+v: fetched", x)
		}
	}
	if got, err := r.Rebuilds(t.Context(), s, party(w.Key)); err != nil || got != nil { // of a release that no registry has
		t.Errorf("rebuilds: %q, %v", got, err)
	}
	r.Repository = "UPPER case"
	channel := w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	for name, do := range map[string]func() error{
		"fetch":       func() error { _, err := r.Fetch(t.Context(), publish.Want{Version: "0.1.0"}); return err },
		"rebuilds":    func() error { _, err := r.Rebuilds(t.Context(), s, party(w.Key)); return err },
		"blob":        func() error { _, err := r.Blob(t.Context(), release.Digest{1}); return err },
		"revocations": func() error { _, err := r.Revocations(t.Context()); return err },
		"channel":     func() error { _, err := r.Channel(t.Context(), channel, w.Key.Public()); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "want HOST") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type untouched struct{ t *testing.T }

func (u untouched) RoundTrip(r *http.Request) (*http.Response, error) {
	u.t.Errorf("asked for %s", r.URL)
	return nil, errors.New("not here")
}

package oci_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// put stores a manifest with such layers: beside the image that is its subject, or, with a tag, there.
func put(t *testing.T, host, tag string, image release.Digest, media string, layers ...[]byte) {
	t.Helper()
	repo, err := name.NewRepository(host + "/acme/enclave")
	if err != nil {
		t.Fatal(err)
	}
	describe := func(media types.MediaType, data []byte) map[string]any {
		l := static.NewLayer(data, media)
		if err := remote.WriteLayer(repo, l); err != nil {
			t.Fatal(err)
		}
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"mediaType": media, "digest": d.String(), "size": len(data)}
	}
	m := map[string]any{"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "config": describe("application/vnd.oci.empty.v1+json", sign.EmptyConfig)}
	list := []any{}
	for _, data := range layers {
		list = append(list, describe(types.MediaType(media), data))
	}
	m["layers"] = list
	if tag == "" {
		m["subject"] = map[string]any{"mediaType": types.OCIManifestSchema1, "digest": "sha256:" + image.String(), "size": 1}
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if tag == "" {
		tag = fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+host+"/v2/acme/enclave/manifests/"+tag, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", string(types.OCIManifestSchema1))
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
}

// pushed is a registry with a release, and the image that it is about.
func pushed(t *testing.T) (*rt.World, string, release.Digest) {
	t.Helper()
	w, req := ociWorld(t)
	host := inProcess(t, true)
	if _, err := repository(host).Push(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	_, s := rt.Payload(t, w.Bundle)
	image, _ := s.Image()
	return w, host, image
}

// What stands beside the image and is no bundle about it, or in another form than a bundle has, is passed over,
// whoever signed what is in it.
func TestPassedOver(t *testing.T) {
	w, host, image := pushed(t)
	plain := w.Statement(t, sign.Options{Sequence: 7})
	other := w.Statement(t, sign.Options{Sequence: 8})
	for i, sub := range other.Subject {
		if sub.Name == release.OCIManifest {
			other.Subject[i].Digest.SHA256 = release.Digest{1}
		}
	}
	bundle := func(s *release.Statement) []byte {
		b, err := sign.Sign(s, w.Key)
		if err != nil {
			t.Fatal(err)
		}
		return rt.Marshal(t, b)
	}
	put(t, host, "", image, release.MediaType, bundle(other))                                    // about another image
	put(t, host, "", image, release.MediaType, []byte("no bundle"))                              //
	put(t, host, "", image, release.MediaType)                                                   // no layer
	put(t, host, "", image, release.MediaType, bundle(plain), []byte("x"))                       // two layers
	put(t, host, "", image, "application/json", bundle(plain))                                   // another type
	put(t, host, "", image, release.MediaType, w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))) // a channel statement
	put(t, host, "", image, release.MediaType, w.Rebuild(t, w.Key, w.Bundle, nil))               // a rebuild
	r, want := repository(host), publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)}
	if got, err := r.Fetch(t.Context(), want); err != nil || !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(w.Bundle)) {
		t.Errorf("another release, %v", err)
	}
	_, s := rt.Payload(t, w.Bundle)
	if got, err := r.Rebuilds(t.Context(), s, party(w.Key)); err != nil || lines(got) != 1 {
		t.Errorf("%d rebuilds, %v", lines(got), err)
	}
	put(t, host, "", image, release.MediaType, bundle(plain)) // and this is one
	if got, err := r.Fetch(t.Context(), want); err != nil || !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(bundle(plain))) {
		t.Errorf("not the later release, %v", err)
	}
}

// What rebuilders said together has a limit, in number and in size; one statement that is too large is none.
func TestManyRebuilds(t *testing.T) {
	w, host, image := pushed(t)
	_, s := rt.Payload(t, w.Bundle)
	r, by, large := repository(host), rt.Key(t), rt.Key(t)
	said := func(k *sign.Key, version, size int) []byte {
		b, err := sign.Rebuild(rt.RebuildOf(t, w.Bundle, func(r *release.Rebuild) { r.Predicate.Tally.Version = fmt.Sprint(version) }), k)
		if err != nil {
			t.Fatal(err)
		}
		data := rt.Marshal(t, b)
		return append(data, bytes.Repeat([]byte(" "), max(0, size-len(data)))...)
	}
	check := func(k *sign.Key, n int, want string) {
		t.Helper()
		got, err := r.Rebuilds(t.Context(), s, party(k))
		if want == "" && (err != nil || lines(got) != n) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d statements, %v, want %d, %q", lines(got), err, n, want)
		}
	}
	for i := range 48 {
		put(t, host, "", image, release.MediaType, said(by, i, 0))
	}
	check(by, 48, "")
	put(t, host, "", image, release.MediaType, said(by, 48, 0))
	check(by, 0, "more than 48 rebuild statements")
	put(t, host, "", image, release.MediaType, said(large, 0, release.MaxRebuildBundle+1))
	check(large, 0, "")
	left := publish.MaxRebuilds
	for i := 1; left > 0; i++ {
		n := min(left, release.MaxRebuildBundle)
		put(t, host, "", image, release.MediaType, said(large, i, n))
		left -= n
		if left == 0 {
			check(large, i, "")
			put(t, host, "", image, release.MediaType, said(large, i+1, 0))
			check(large, 0, "bytes together")
		}
	}
}

// The list of what refers to an image has a limit, and what it says that has no SHA-256 is passed over.
func TestManyReferrers(t *testing.T) {
	w, host, image := pushed(t)
	want := publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)}
	for n, refused := range map[int]bool{256: false, 257: true} {
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			if !strings.Contains(req.URL.Path, "/referrers/") {
				proxy.ServeHTTP(rw, req)
				return
			}
			rec := httptest.NewRecorder()
			proxy.ServeHTTP(rec, req)
			var list map[string]any
			if err := json.Unmarshal(rec.Body.Bytes(), &list); err != nil {
				t.Error(err)
			}
			manifests := list["manifests"].([]any)
			for len(manifests) < n {
				manifests = append([]any{map[string]any{"mediaType": types.OCIManifestSchema1, "digest": "sha512:" + strings.Repeat("ab", 64), "size": 1}}, manifests...)
			}
			list["manifests"] = manifests
			rw.Header().Set("Content-Type", string(types.OCIImageIndex))
			if err := json.NewEncoder(rw).Encode(list); err != nil {
				t.Error(err)
			}
		}))
		got, err := repository(strings.TrimPrefix(srv.URL, "http://")).Fetch(t.Context(), want)
		srv.Close()
		if refused && (err == nil || !strings.Contains(err.Error(), "want at most 256")) || !refused && (err != nil || !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(w.Bundle))) {
			t.Errorf("%d referrers of %s: %v", n, image, err)
		}
	}
}

// A channel that is there and cannot be read, or calls nothing current, is not taken for one that is not there.
func TestChannelUnreadable(t *testing.T) {
	w, host, _ := pushed(t)
	r := repository(host)
	revoking := w.Predicate(t, 1)
	revoking.Channel, revoking.Revoked = "empty", []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	if _, err := r.Channel(t.Context(), w.Channel(t, w.Key, revoking), w.Key.Public()); err != nil {
		t.Fatal(err)
	}
	put(t, host, "_channel.stable", release.Digest{}, "application/json", []byte("{}"))
	put(t, host, "_channel.revoked", release.Digest{}, "application/json", []byte("{}"))
	for name, x := range map[string]publish.Want{
		"version": {Version: "0.1.0", Channel: "stable"}, "channel": {Channel: "stable"}, "nothing current": {Channel: "empty"}, "nothing to choose by": {},
	} {
		x.Name, x.By = "minimal", party(w.Key)
		if got, err := r.Fetch(t.Context(), x); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if there, err := r.HasChannel(t.Context(), "stable"); err == nil {
		t.Errorf("stable: %v", there)
	}
	if got, err := r.Revocations(t.Context()); err == nil {
		t.Errorf("revocations: %d bytes", len(got))
	}
}

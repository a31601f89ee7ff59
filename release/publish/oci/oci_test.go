package oci_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"

	"tally/internal/testtool"
	"tally/release"
	"tally/release/publish"
	"tally/release/publish/oci"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// ociWorld is a world whose first release is signed with its OCI manifest, and the request that pushes it.
func ociWorld(t *testing.T) (*rt.World, publish.Request) {
	t.Helper()
	w := rt.New(t)
	if err := sign.WriteOCI(t.Context(), w.Out); err != nil {
		t.Fatal(err)
	}
	w.Bundle = w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	return w, request(t, w, w.Bundle)
}

func request(t *testing.T, w *rt.World, bundle []byte) publish.Request {
	t.Helper()
	out, err := sign.ReadOut(t.Context(), w.Out)
	if err != nil {
		t.Fatal(err)
	}
	return publish.Request{Bundle: bundle, Signer: w.Key.Public(), OutDir: w.Out, Files: out.Files()}
}

func repository(host string) *oci.Registry {
	return &oci.Registry{Repository: host + "/acme/enclave", Keychain: authn.NewMultiKeychain(), Transport: http.DefaultTransport}
}

// inProcess is go-containerregistry's registry, with the referrers API or without.
func inProcess(t *testing.T, referrers bool) string {
	srv := httptest.NewServer(registry.New(registry.Logger(stdlog.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers)))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// registries start a registry each, and return its host.
var registries = map[string]func(*testing.T) string{
	"referrers":       func(t *testing.T) string { return inProcess(t, true) },
	"referrers tag":   func(t *testing.T) string { return inProcess(t, false) },
	"docker-registry": func(t *testing.T) string { return testtool.Registry(t) },
}

func TestRegistry(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, req := ociWorld(t)
			host := start(t)
			r := repository(host)
			want := publish.Want{Name: "minimal", Version: "0.1.0", By: publish.Party{Keys: []release.PublicKey{rt.Key(t).Public(), w.Key.Public()}}}
			if _, err := r.Fetch(t.Context(), want); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("before: %v", err)
			}
			p, err := r.Push(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			again, err := r.Push(t.Context(), req)
			if err != nil || *again != *p || p.Tag != "0.1.0" {
				t.Errorf("again: %+v, first %+v, %v", again, p, err)
			}
			got, err := r.Fetch(t.Context(), want)
			if err != nil || !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(w.Bundle)) {
				t.Fatalf("fetched %d bytes, %v", len(got), err)
			}
			checkManifest(t, host, w, p)
			want.By.Keys = want.By.Keys[:1]
			if _, err := r.Fetch(t.Context(), want); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no bundle by any") {
				t.Errorf("another signer: %v", err)
			}
			want.Version = ""
			if _, err := r.Fetch(t.Context(), want); err == nil {
				t.Error("fetched no version")
			}
		})
	}
}

// checkManifest reads the tagged manifest as any client does, and a layer through it.
func checkManifest(t *testing.T, host string, w *rt.World, p *oci.Pushed) {
	t.Helper()
	get := func(path string) []byte {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/v2/acme/enclave/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		return data
	}
	manifest := get("manifests/" + p.Tag)
	if want, err := os.ReadFile(filepath.Join(w.Out, release.OCIManifest)); err != nil || !bytes.Equal(manifest, want) {
		t.Errorf("tagged manifest is not %s, %v", release.OCIManifest, err)
	}
	var m struct {
		Layers []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, l := range m.Layers {
		name := l.Annotations["org.opencontainers.image.title"]
		want, err := os.ReadFile(filepath.Join(w.Out, name))
		if err != nil || !bytes.Equal(get("blobs/"+l.Digest), want) {
			t.Errorf("%s: another content, %v", name, err)
		}
		files++
	}
	if s := w.Statement(t, sign.Options{Sequence: 1}); files != len(s.Subject)-1 {
		t.Errorf("%d layers for %d subjects", files, len(s.Subject))
	}
}

func TestPushRefuses(t *testing.T) {
	plain := rt.New(t)
	w, req := ociWorld(t)
	r := repository(inProcess(t, true))
	bad := func(name, want string, req publish.Request) {
		t.Helper()
		if p, err := r.Push(t.Context(), req); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", name, p, err, want)
		}
	}
	bad("no OCI manifest", "sign with --oci", request(t, plain, plain.Bundle))
	bad("not logged", "publish it to a log first", request(t, w, w.Sign(t, w.Key, sign.Options{Sequence: 2})))
	other := req
	other.Signer = plain.Key.Public()
	bad("another signer", "identity", other)
	fewer := req
	fewer.Files = req.Files[1:]
	bad("a file less", "files for", fewer)
	down := repository("127.0.0.1:1")
	if _, err := down.Push(t.Context(), req); err == nil || !strings.Contains(err.Error(), "registry: push") {
		t.Errorf("no registry: %v", err)
	}
	if _, err := repository("UPPER case").Push(t.Context(), req); err == nil || !strings.Contains(err.Error(), "want HOST") {
		t.Errorf("no repository: %v", err)
	}
	remote := &oci.Registry{Repository: "192.0.2.1:80/acme/enclave", Keychain: authn.NewMultiKeychain(), Transport: refuseTLS{}}
	if _, err := remote.Push(t.Context(), req); err == nil || strings.Contains(err.Error(), "sent") {
		t.Errorf("plain HTTP to another machine: %v", err)
	}
	// A file that changed after it was hashed: the registry computes its digest itself.
	if err := os.WriteFile(filepath.Join(w.Out, "vmlinuz"), []byte("other!"), 0o644); err != nil {
		t.Fatal(err)
	}
	bad("changed file", "push vmlinuz", req)
}

type refuseTLS struct{}

func (refuseTLS) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		return nil, errors.New("no TLS here")
	}
	return nil, errors.New("sent")
}

func TestTag(t *testing.T) {
	for version, want := range map[string]string{
		"0.1.0": "0.1.0", "1.0+deb~1": "1.0_deb_1", ".x": "_x", "-x": "_x", "ä": "__", strings.Repeat("a", 200): strings.Repeat("a", 128),
	} {
		if got := oci.Tag(version); got != want {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}

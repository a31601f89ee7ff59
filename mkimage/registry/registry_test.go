package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"tally/mkimage/lock"
	"tally/mkimage/oci"
	"tally/mkimage/oci/ocitest"
	"tally/mkimage/registry"
	"tally/mkimage/spec"
)

var ctx = context.Background()

// fetcher returns one that asks registries with the credentials of a docker configuration.
func fetcher(t *testing.T, config string) *lock.Fetcher {
	t.Helper()
	dir := t.TempDir()
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("HOME", dir)
	client := lock.Client()
	return &lock.Fetcher{Store: lock.NewStore(t.TempDir()), Client: client, Sleep: func(context.Context, time.Duration) error { return nil },
		Registry: registry.New(authn.DefaultKeychain, client.Transport).Repository, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// lockImage does what `tally lock` does for one registry image.
func lockImage(f *lock.Fetcher, image string) (*lock.Lock, error) {
	s := &spec.Spec{Root: []spec.Source{{OCI: &spec.OCI{Image: image}}}}
	k := &lock.Lock{Arch: "amd64"}
	return k, (&lock.Indexer{Fetcher: f, Arch: "amd64", Now: time.Unix(0, 0)}).Images(ctx, s, k)
}

// check pins an image, fetches it, and compares every blob with the layout it was pushed from.
func check(t *testing.T, f *lock.Fetcher, l *ocitest.Layout, image string) {
	t.Helper()
	k, err := lockImage(f, image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.All(ctx, k); err != nil {
		t.Fatal(err)
	}
	objects := k.OCI[0].Objects()
	if len(objects) != 4 {
		t.Fatalf("%d blobs, want index, manifest, configuration, layer", len(objects))
	}
	for _, o := range objects {
		got, err := f.Store.Read(o)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(oci.Layout(l.Dir).Path(oci.Digest(o.SHA256)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("blob %s differs: %v", o.SHA256, err)
		}
	}
	f.Places.Offline = true
	if k2, err := lockImage(f, image); err != nil || !k2.OCI[0].Equal(k.OCI[0]) {
		t.Errorf("from the store alone: %v", err)
	}
	if err := f.All(ctx, k); err != nil {
		t.Errorf("offline, with everything there: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	l, d := newImage(t)
	const secret = "user:correct horse"
	for _, c := range []struct {
		name   string
		guard  guard
		config func(host string) string
	}{
		{"token for anybody", guard{token: "t0"}, func(string) string { return "" }},
		{"basic", guard{basic: secret}, func(h string) string { return basicAuth(h, secret) }},
		{"token for a user", guard{token: "t1", user: secret}, func(h string) string { return basicAuth(h, secret) }},
		{"token that expires", guard{token: "t2", user: secret, expire: 4}, func(h string) string { return basicAuth(h, secret) }},
		{"identity token", guard{token: "t3", user: "identity"}, func(h string) string { return fmt.Sprintf(`{"auths":{%q:{"identitytoken":"identity"}}}`, h) }},
		{"registry token", guard{token: "t4", user: "nobody"}, func(h string) string { return fmt.Sprintf(`{"auths":{%q:{"registrytoken":"t4"}}}`, h) }},
		{"credential helper", guard{basic: secret}, func(h string) string { return fmt.Sprintf(`{"credHelpers":{%q:"tally-test"}}`, h) }},
		{"credential store", guard{basic: secret}, func(string) string { return `{"credsStore":"tally-test"}` }},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := start(t, l, &c.guard)
			f := fetcher(t, c.config(host))
			helper := filepath.Join(t.TempDir(), "docker-credential-tally-test")
			if err := os.WriteFile(helper, []byte("#!/bin/sh\nread host\necho '{\"ServerURL\":\"'$host'\",\"Username\":\"user\",\"Secret\":\"correct horse\"}'\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", filepath.Dir(helper)+":"+os.Getenv("PATH"))
			check(t, f, l, host+"/team/app@"+d.String())
			for _, s := range c.guard.scopes {
				if s != "repository:team/app:pull" {
					t.Errorf("asked for the scope %q", s)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	l, d := newImage(t)
	for _, c := range []struct {
		name   string
		guard  guard
		config func(host string) string
		want   string
	}{
		{"no credentials", guard{basic: "a:b"}, func(string) string { return "" }, "401"},
		{"wrong credentials", guard{basic: "a:b"}, func(h string) string { return basicAuth(h, "a:c") }, "401"},
		{"no token", guard{token: "t", user: "a:b"}, func(h string) string { return basicAuth(h, "a:c") }, "401"},
		{"credentials of another host", guard{basic: "a:b"}, func(string) string { return basicAuth("127.0.0.1:1", "a:b") }, "401"},
		{"damaged configuration", guard{basic: "a:b"}, func(string) string { return "{" }, "credentials for "},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := start(t, l, &c.guard)
			_, err := lockImage(fetcher(t, c.config(host)), host+"/team/app@"+d.String())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestWrongAnswers: a registry that answers with other bytes, or has not what is asked for.
func TestWrongAnswers(t *testing.T) {
	l, d := newImage(t)
	g := &guard{token: "t"}
	host := start(t, l, g)
	inner := g.inner
	var lie string
	g.inner = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if lie != "" && strings.Contains(r.URL.Path, lie) {
			fmt.Fprint(w, "other bytes")
			return
		}
		inner.ServeHTTP(w, r)
	})
	f := fetcher(t, "")
	lie = "/manifests/"
	if _, err := lockImage(f, host+"/team/app@"+d.String()); err == nil || !strings.Contains(err.Error(), "answers with other bytes") {
		t.Errorf("a manifest of other bytes: %v", err)
	}
	lie = ""
	k, err := lockImage(f, host+"/team/app@"+d.String())
	if err != nil {
		t.Fatal(err)
	}
	lie = "/blobs/"
	var gone *lock.GoneError
	if err := f.All(ctx, k); !errors.As(err, &gone) || !strings.Contains(err.Error(), host) {
		t.Errorf("a layer of other bytes: %v", err)
	}
	if f.Store.Has(k.OCI[0].Layers[0].SHA256, k.OCI[0].Layers[0].Size) {
		t.Error("wrong bytes are in the store")
	}
	lie = ""
	if _, err := lockImage(f, host+"/team/other@"+d.String()); err != nil {
		t.Errorf("the same digest elsewhere is in the store: %v", err)
	}
	if _, err := lockImage(f, host+"/team/app@sha256:"+strings.Repeat("0", 64)); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a digest that is not there: %v", err)
	}
	f.Places.Offline = true
	if err := f.All(ctx, k); !errors.As(err, &gone) || !strings.Contains(err.Error(), "offline") {
		t.Errorf("offline: %v", err)
	}
	f.Places.Offline, f.Registry = false, nil
	if err := f.All(ctx, k); !errors.As(err, &gone) || !strings.Contains(err.Error(), lock.ErrNoRegistry.Error()) {
		t.Errorf("no registry: %v", err)
	}
}

// TestLayerResumes: a layer whose transfer breaks off is taken up where it stopped.
func TestLayerResumes(t *testing.T) {
	l := ocitest.New(t.TempDir())
	d := l.Image("amd64", ocitest.Packed(ocitest.Tar(ocitest.File("a", strings.Repeat("0123456789", 50000))), "")).ID()
	g := &guard{token: "t"}
	host := start(t, l, g)
	inner, ranges := g.inner, []string{}
	g.inner = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			inner.ServeHTTP(w, r)
			return
		}
		ranges = append(ranges, r.Header.Get("Range"))
		name := oci.Layout(l.Dir).Path(must(oci.ParseDigest(filepath.Base(r.URL.Path))))
		data, _ := os.ReadFile(name)
		w.Header().Set("ETag", `"`+filepath.Base(name)+`"`)
		if r.Header.Get("Range") == "" && len(data) > 100000 {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			w.Write(data[:100000])
			return // the server breaks off
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
	f := fetcher(t, "")
	if _, err := lockImage(f, host+"/x/y@"+d.String()); err == nil {
		t.Fatal("the repository x/y should not have the manifest")
	}
	k, err := lockImage(f, host+"/team/app@"+d.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.All(ctx, k); err != nil {
		t.Fatal(err)
	}
	if got := ranges[len(ranges)-1]; got != "bytes=100000-" {
		t.Errorf("asked for %q, want the rest", ranges)
	}
}

func must(d oci.Digest, err error) oci.Digest {
	if err != nil {
		panic(err)
	}
	return d
}

// TestNoPlainHTTP: credentials and requests go to other machines over TLS alone.
func TestNoPlainHTTP(t *testing.T) {
	var schemes []string
	c := registry.New(authn.NewMultiKeychain(), roundTrip(func(r *http.Request) (*http.Response, error) {
		schemes = append(schemes, r.URL.Scheme)
		return nil, errors.New("no such host")
	}))
	for _, repository := range []string{"10.0.0.1:5000/app", "registry.local/app", "registry.example/app"} {
		if _, _, err := c.Repository(ctx, repository); err == nil {
			t.Errorf("%s: no error", repository)
		}
	}
	for _, s := range schemes {
		if s != "https" {
			t.Errorf("asked over %s", s)
		}
	}
	if len(schemes) == 0 {
		t.Error("nothing was asked")
	}
	if _, _, err := c.Repository(ctx, "app"); err == nil {
		t.Error("a repository without a host: no error")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

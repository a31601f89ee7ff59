package oci_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/internal/testtool"
	"tally/release"
	"tally/release/publish"
	"tally/release/publish/oci"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func party(keys ...*sign.Key) (by publish.Party) {
	for _, k := range keys {
		by.Keys = append(by.Keys, k.Public())
	}
	return by
}

func lines(data []byte) int {
	if len(data) == 0 {
		return 0
	}
	return bytes.Count(data, []byte("\n")) + 1
}

// Rebuild statements stand beside the release, whoever attached them; the named ones come along and are counted.
func TestRebuilds(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, req := ociWorld(t)
			r := repository(start(t))
			a, b, stranger := rt.Key(t), rt.Key(t), rt.Key(t)
			byA, byB, byStranger := w.Rebuild(t, a, w.Bundle, nil), w.Rebuild(t, b, w.Bundle, nil), w.Rebuild(t, stranger, w.Bundle, nil)
			_, s := rt.Payload(t, w.Bundle)
			if _, err := r.Rebuild(t.Context(), byA, a.Public()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("before the release is there: %v", err)
			}
			if got, err := r.Rebuilds(t.Context(), s, party(a)); err != nil || got != nil {
				t.Errorf("before: %q, %v", got, err)
			}
			if _, err := r.Push(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			attach := func(k *sign.Key, bundle []byte) string {
				t.Helper()
				ref, err := r.Rebuild(t.Context(), bundle, k.Public())
				if err != nil {
					t.Fatal(err)
				}
				return ref
			}
			if ref := attach(a, byA); ref != attach(a, byA) {
				t.Error("twice is not once")
			}
			attach(b, byB)
			attach(stranger, byStranger)
			got, err := r.Rebuilds(t.Context(), s, party(a, b))
			if err != nil || lines(got) != 2 {
				t.Fatalf("%d statements, %v", lines(got), err)
			}
			fetched, err := r.Fetch(t.Context(), publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)})
			if err != nil {
				t.Fatal(err)
			}
			p := *w.Policy
			p.Rebuilders = release.RebuilderPolicy{Need: 2, Keys: []release.Signer{{Key: a.Public()}, {Key: b.Public()}}}
			if res, err := release.Verify(append(fetched, got...), &p, rt.Now); err != nil || len(res.Rebuilders) != 2 {
				t.Errorf("%v", err)
			}
			// One who got other bytes is heard from the registry alone.
			differs := w.Rebuild(t, b, w.Bundle, func(r *release.Rebuild) {
				r.Predicate.Result = release.Differs
				r.Predicate.Differences = []release.Difference{{Name: "disk.raw", Status: "MISSING", Want: &release.Digest{1}}}
			})
			attach(b, differs)
			if got, err = r.Rebuilds(t.Context(), s, party(a, b)); err != nil || lines(got) != 3 {
				t.Fatalf("%d statements, %v", lines(got), err)
			}
			var refusal *release.Error
			if _, err := release.Verify(append(fetched, got...), &p, rt.Now); !errors.As(err, &refusal) || refusal.Reason != release.Mismatch {
				t.Errorf("mismatch: %v", err)
			}
		})
	}
}

// What says of itself that it is too large for a bundle is none, and stands in nobody's way.
func TestLargeReferrer(t *testing.T) {
	t.Parallel()
	w, req := ociWorld(t)
	host := inProcess(t, true)
	r := repository(host)
	if _, err := r.Push(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	_, s := rt.Payload(t, w.Bundle)
	image, _ := s.Image()
	for size, want := range map[int]string{release.MaxBundle: "", release.MaxBundle + 1: "found"} {
		m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:%x","size":2},`+
			`"layers":[{"mediaType":%q,"digest":"sha256:%064d","size":%d}],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":1}}`,
			sha256.Sum256(sign.EmptyConfig), release.MediaType, 1, size, image)
		url := fmt.Sprintf("http://%s/v2/acme/enclave/manifests/sha256:%x", host, sha256.Sum256(m))
		send := func(method string) {
			t.Helper()
			put, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(m))
			if err != nil {
				t.Fatal(err)
			}
			put.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			resp, err := http.DefaultClient.Do(put)
			if err != nil || resp.StatusCode/100 != 2 {
				t.Fatal(resp, err)
			}
			resp.Body.Close()
		}
		send(http.MethodPut)
		got, err := r.Fetch(t.Context(), publish.Want{Name: "minimal", Version: "0.1.0", By: party(w.Key)})
		if (err == nil) != (want == "found") || err == nil && !bytes.Equal(bytes.TrimSpace(got), bytes.TrimSpace(w.Bundle)) {
			t.Errorf("a layer of %d bytes: %v", size, err) // one that is not there, and could have been a bundle, is not passed over
		}
		send(http.MethodDelete)
	}
}

func TestRebuildRefused(t *testing.T) {
	plain, a := rt.New(t), rt.Key(t)
	w, _ := ociWorld(t)
	r := repository(inProcess(t, true))
	unlogged, err := sign.Rebuild(rt.RebuildOf(t, w.Bundle, nil), a)
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		bundle []byte
		signer release.PublicKey
	}{
		"publish it to a log first": {rt.Marshal(t, unlogged), a.Public()},
		"which no registry has":     {plain.Rebuild(t, a, plain.Bundle, nil), a.Public()},
		"none of the 1":             {w.Rebuild(t, a, w.Bundle, nil), w.Key.Public()},
		"predicateType":             {w.Bundle, w.Key.Public()},
		"unexpected EOF":            {nil, a.Public()},
	} {
		if _, err := r.Rebuild(t.Context(), c.bundle, c.signer); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The latest statement of a channel says which release is fetched; revocations come by their own channel.
func TestChannels(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, req := ociWorld(t)
			r := repository(start(t))
			if _, err := r.Push(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			want := publish.Want{Name: "minimal", Channel: "stable", By: party(w.Key)}
			if _, err := r.Fetch(t.Context(), want); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("before: %v", err)
			}
			if there, err := r.HasChannel(t.Context(), "stable"); err != nil || there {
				t.Errorf("before: %v, %v", there, err)
			}
			channel := func(p release.ChannelPredicate, k *sign.Key) ([]byte, error) {
				t.Helper()
				bundle := w.Channel(t, k, p)
				_, err := r.Channel(t.Context(), bundle, k.Public())
				return bundle, err
			}
			first, err := channel(w.Predicate(t, 1, w.Bundle), w.Key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Fetch(t.Context(), want)
			if err != nil || !bytes.HasSuffix(got, first) {
				t.Fatalf("%v", err)
			}
			p := *w.Policy
			p.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}
			if _, err := release.Verify(got, &p, rt.Now); err != nil {
				t.Error(err)
			}
			if there, err := r.HasChannel(t.Context(), "stable"); err != nil || !there {
				t.Errorf("%v, %v", there, err)
			}
			// By version, with the statement of the channel and without.
			byVersion := want
			byVersion.Version = "0.1.0"
			if got, err := r.Fetch(t.Context(), byVersion); err != nil || !bytes.HasSuffix(got, first) {
				t.Errorf("by version: %v", err)
			}
			byVersion.Channel = "other"
			if got, err := r.Fetch(t.Context(), byVersion); err != nil || lines(bytes.TrimSpace(got)) != 1 {
				t.Errorf("a channel that is not there: %v", err)
			}
			// The same files released again: the channel says which release, a version means the later one.
			newer := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})).Bundle
			if _, err := r.Push(t.Context(), request(t, w, newer)); err != nil {
				t.Fatal(err)
			}
			byVersion.Channel = ""
			for what, c := range map[string]struct {
				w    publish.Want
				want []byte
			}{"channel": {want, w.Bundle}, "version": {byVersion, newer}} {
				if got, err := r.Fetch(t.Context(), c.w); err != nil || !bytes.HasPrefix(got, bytes.TrimSpace(c.want)) {
					t.Errorf("%s: another release, %v", what, err)
				}
			}
			// A key that the statement names signs the next one.
			next := rt.Key(t)
			q := w.Predicate(t, 2, w.Bundle)
			q.Signers = []release.NamedSigner{release.NameSigner(release.Signer{Key: next.Public()})}
			if _, err := channel(q, w.Key); err != nil {
				t.Fatal(err)
			}
			pub, err := w.TryPublish(t.Context(), t, w.Sign(t, next, sign.Options{Sequence: 4}), next.Public())
			if err != nil {
				t.Fatal(err)
			}
			named := request(t, w, pub.Bundle)
			named.Signer = next.Public()
			if _, err := r.Push(t.Context(), named); err != nil {
				t.Fatal(err)
			}
			q = w.Predicate(t, 3, pub.Bundle)
			q.Signers = []release.NamedSigner{release.NameSigner(release.Signer{Key: next.Public()})}
			if _, err := channel(q, w.Key); err != nil {
				t.Fatal(err)
			}
			if got, err = r.Fetch(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			if _, err := release.Verify(got, &p, rt.Now); err != nil {
				t.Errorf("named signer: %v", err)
			}
			// An earlier statement does not come back.
			if _, err := r.Channel(t.Context(), first, w.Key.Public()); err == nil || !strings.Contains(err.Error(), "has statement 3 of channel minimal@stable, which is later than 1") {
				t.Errorf("back: %v", err)
			}
			revocations(t, w, r, got)
		})
	}
}

func revocations(t *testing.T, w *rt.World, r *oci.Registry, file []byte) {
	t.Helper()
	if got, err := r.Revocations(t.Context()); err != nil || got != nil {
		t.Errorf("before: %q, %v", got, err)
	}
	k := rt.Key(t)
	parts, err := release.Split(file)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := rt.Payload(t, parts[0])
	q := w.Predicate(t, 1)
	q.Channel, q.Revoked = publish.RevokedChannel, []release.Revocation{{Statement: d, Since: rt.Now}}
	if _, err := r.Channel(t.Context(), w.Channel(t, k, q), k.Public()); err != nil {
		t.Fatal(err)
	}
	got, err := r.Revocations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := *w.Policy
	p.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}
	p.Revokers = []release.Signer{{Key: k.Public()}}
	var refusal *release.Error
	if _, err := release.Verify(slices.Concat(file, []byte("\n"), got), &p, rt.Now); !errors.As(err, &refusal) || refusal.Reason != release.Revoked {
		t.Errorf("revoked: %v", err)
	}
}

func TestResolve(t *testing.T) {
	w, req := ociWorld(t)
	host := inProcess(t, true)
	r := repository(host)
	p, err := r.Push(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	_, s := rt.Payload(t, w.Bundle)
	want, _ := s.Image()
	for _, ref := range []string{p.Image, host + "/acme/enclave:0.1.0"} {
		if got, err := r.Resolve(t.Context(), ref); err != nil || got != want {
			t.Errorf("%s: %s, %v", ref, got, err)
		}
	}
	for ref, want := range map[string]string{
		"": "want HOST", "UPPER": "want HOST", host + "/acme/enclave": "want HOST", host + "/acme/enclave:0.2.0": "does not exist",
		host + "/acme/enclave@sha512:" + strings.Repeat("ab", 64): "sha256:",
	} {
		if got, err := r.Resolve(t.Context(), ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v, want %q", ref, got, err, want)
		}
	}
}

// Every subject but the manifest itself is a blob, and nothing else is.
func TestBlob(t *testing.T) {
	w, req := ociWorld(t)
	r := repository(testtool.Registry(t))
	if _, err := r.Push(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for _, f := range req.Files {
		rc, err := r.Blob(t.Context(), f.Digest)
		if f.Name == release.OCIManifest {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", f.Name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		got, err := io.ReadAll(rc)
		want, werr := os.ReadFile(filepath.Join(w.Out, f.Name))
		if err := errors.Join(err, werr, rc.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: another content, %v", f.Name, err)
		}
	}
	if _, err := r.Blob(t.Context(), release.Digest{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

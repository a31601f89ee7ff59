package publish_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func TestPublish(t *testing.T) {
	w := rt.New(t)
	b, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil {
		t.Fatal(err)
	}
	bundles := filepath.Join(w.LogDir, "bundles")
	for _, sub := range s.Subject {
		f, err := publish.OpenByDigest(sub.Digest.SHA256, bundles)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sign.HashCopy(t.Context(), io.Discard, f)
		if err != nil || got != sub.Digest.SHA256 {
			t.Errorf("%s: stored with SHA-256 %s, want %s (%v)", sub.Name, got, sub.Digest.SHA256, err)
		}
		f.Close()
	}
	leaf := release.LeafHash(release.LeafBody(&b.Envelope, w.Key.Public()))
	stored, err := os.ReadFile(filepath.Join(bundles, leaf.String()+".sigstore.json"))
	if err != nil || !bytes.Equal(stored, w.Bundle) {
		t.Errorf("bundle of the leaf: %v, equal %v", err, bytes.Equal(stored, w.Bundle))
	}
	_, err = publish.OpenByDigest(release.Digest{}, bundles, w.LogDir)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "by-digest") {
		t.Errorf("absent digest: %v", err)
	}
}

func TestPublishTwice(t *testing.T) {
	w := rt.New(t)
	p := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 1}))
	if !p.Already || !bytes.Equal(p.Bundle, w.Bundle) {
		t.Errorf("second time: already %v, same bundle %v", p.Already, bytes.Equal(p.Bundle, w.Bundle))
	}
	if p = w.Publish(t, w.Bundle); !p.Already { // the complete bundle is as good as the unlogged
		t.Error("complete bundle published anew")
	}
	if p = w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})); p.Already || p.Index != 1 {
		t.Errorf("another release: already %v, index %d", p.Already, p.Index)
	}
}

// kill restores what a process leaves that dies between two steps of publishing sequence 2.
func TestPublishAfterKill(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, w *rt.World, b *release.Bundle, name string)
		index int64
	}{
		{"after the files", func(*testing.T, *rt.World, *release.Bundle, string) {}, 1},
		{"after pending", leavePending, 1},
		{"after the append", func(t *testing.T, w *rt.World, b *release.Bundle, name string) {
			leavePending(t, w, b, name)
			appendLeaf(t, w, b)
		}, 1},
		{"pending cut short", func(t *testing.T, w *rt.World, b *release.Bundle, name string) {
			leavePending(t, w, b, name)
			path := filepath.Join(w.LogDir, ".pending", name)
			if err := os.Truncate(path, 100); err != nil {
				t.Fatal(err)
			}
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := rt.New(t)
			bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
			b, err := release.ParseBundle(bundle)
			if err != nil {
				t.Fatal(err)
			}
			c.leave(t, w, b, release.PayloadDigest(b).String()+"-"+w.Key.Public().ID().String())
			p := w.Publish(t, bundle)
			if p.Index != c.index || p.Size != c.index+1 {
				t.Errorf("index %d in a tree of %d, want %d and one more", p.Index, p.Size, c.index)
			}
			if _, err := release.Verify(p.Bundle, w.Policy, rt.Now); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(filepath.Join(w.LogDir, ".pending")); err != nil || len(left) != 0 {
				t.Errorf("left pending: %v, %v", left, err)
			}
			if p = w.Publish(t, bundle); !p.Already {
				t.Error("published again")
			}
		})
	}
}

func leavePending(t *testing.T, w *rt.World, b *release.Bundle, name string) {
	if err := os.WriteFile(filepath.Join(w.LogDir, ".pending", name), rt.Marshal(t, b), 0o644); err != nil {
		t.Fatal(err)
	}
}

func appendLeaf(t *testing.T, w *rt.World, b *release.Bundle) {
	l := w.Open(t)
	defer l.Close()
	if _, err := l.Append(t.Context(), release.LeafBody(&b.Envelope, w.Key.Public())); err != nil {
		t.Fatal(err)
	}
}

func TestPublishRefuses(t *testing.T) {
	w := rt.New(t)
	other := rt.Key(t)
	bundle := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	if _, err := w.TryPublish(t.Context(), t, bundle, other.Public()); err == nil || !strings.Contains(err.Error(), "identity") {
		t.Errorf("another signer: %v", err)
	}
	if _, err := w.TryPublish(t.Context(), t, bundle[:len(bundle)-10], w.Key.Public()); err == nil {
		t.Error("truncated bundle published")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.TryPublish(ctx, t, bundle, w.Key.Public()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Another build under the same signature.
	values := filepath.Join(w.Out, release.ReferenceValues)
	data, err := os.ReadFile(values)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(values, bytes.Replace(data, []byte("00"), []byte("01"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.TryPublish(t.Context(), t, bundle, w.Key.Public()); err == nil || !strings.Contains(err.Error(), `file "reference-values.json" has SHA-256`) {
		t.Errorf("another build: %v", err)
	}
	if p := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})); p.Index != 1 {
		t.Errorf("a refused release entered the log: next index %d, want 1", p.Index)
	}
}

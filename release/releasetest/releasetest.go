// Package releasetest makes small releases for tests: a directory that looks like a build's output, keys,
// and a log, all in temporary directories. It is for tests only.
package releasetest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	"tally/release/releasetest/smallout"
	"tally/release/sign"
)

// Epoch is the image's epoch in seconds; Now is a time at which the releases are valid.
const Epoch = smallout.Epoch

// Now is an hour after Epoch.
var Now = time.Unix(Epoch+3600, 0).UTC()

// A World is a maintainer with a key, a log and one published release.
type World struct {
	Out    string // OUT
	Key    *sign.Key
	LogDir string
	LogKey string // private key file
	Log    release.LogKey
	Bundle []byte // published
	Policy *release.Policy
}

// New builds and publishes a release.
func New(t testing.TB) *World {
	t.Helper()
	dir := t.TempDir()
	w := &World{Out: Out(t), LogDir: filepath.Join(dir, "pub"), LogKey: filepath.Join(dir, "pub.key")}
	w.Key = Key(t)
	var err error
	w.Log, err = log.Create(t.Context(), w.LogDir, log.CreateOptions{
		Origin: "log.tally.example", KeyFile: w.LogKey, Rand: rand.Reader, Now: Now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Policy = &release.Policy{Signers: []release.Signer{{Key: w.Key.Public()}}, Log: release.LogPolicy{Key: w.Log, Unwitnessed: true}}
	w.Bundle = w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 1})).Bundle
	return w
}

// Key makes a signing key.
func Key(t testing.TB) *sign.Key {
	t.Helper()
	k, err := sign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Statement is the statement about w.Out.
func (w *World) Statement(t testing.TB, opt sign.Options) *release.Statement {
	t.Helper()
	out, err := sign.ReadOut(t.Context(), w.Out)
	if err != nil {
		t.Fatal(err)
	}
	s, err := out.Statement(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Sign returns the unlogged bundle of w.Out.
func (w *World) Sign(t testing.TB, k sign.Signer, opt sign.Options) []byte {
	t.Helper()
	b, err := sign.Sign(w.Statement(t, opt), k)
	if err != nil {
		t.Fatal(err)
	}
	return Marshal(t, b)
}

// Marshal is b.Marshal for tests.
func Marshal(t testing.TB, b *release.Bundle) []byte {
	t.Helper()
	data, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Open opens the log; the caller closes it.
func (w *World) Open(t testing.TB) *log.Log {
	t.Helper()
	l, err := log.Open(t.Context(), w.LogDir, w.LogKey, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Publish publishes a bundle of w.Out signed by w.Key.
func (w *World) Publish(t testing.TB, bundle []byte) *publish.Published {
	t.Helper()
	p, err := w.TryPublish(t.Context(), t, bundle, w.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TryPublish is Publish for a test that expects an error.
func (w *World) TryPublish(ctx context.Context, t testing.TB, bundle []byte, signer release.PublicKey) (*publish.Published, error) {
	t.Helper()
	out, err := sign.ReadOut(ctx, w.Out)
	if err != nil {
		return nil, err
	}
	l := w.Open(t)
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	return publish.Publish(ctx, l, publish.Request{Bundle: bundle, Signer: signer, OutDir: w.Out, Files: out.Files()})
}

// Out writes a directory that looks like what `tally build` and `tally measure image` leave.
func Out(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := WriteOut(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// WriteOut is Out in a directory of the caller's.
func WriteOut(dir string) error { return smallout.Write(dir) }

// Channel signs with k and publishes a channel statement, and returns its bundle.
func (w *World) Channel(t testing.TB, k sign.Signer, p release.ChannelPredicate) []byte {
	t.Helper()
	b, err := sign.Channel(release.NewChannel(p), k)
	if err != nil {
		t.Fatal(err)
	}
	return w.PublishChannel(t, Marshal(t, b), k.Public())
}

// PublishChannel publishes a signed channel statement and returns its bundle.
func (w *World) PublishChannel(t testing.TB, bundle []byte, signer release.PublicKey) []byte {
	t.Helper()
	l := w.Open(t)
	pub, err := publish.Channel(t.Context(), l, bundle, signer)
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return pub.Bundle
}

// Predicate is a channel statement that calls the bundles current, issued at Now for a week.
func (w *World) Predicate(t testing.TB, sequence uint64, bundles ...[]byte) release.ChannelPredicate {
	t.Helper()
	p := release.ChannelPredicate{Name: "minimal", Channel: "stable", Sequence: sequence, IssuedAt: Now, ValidUntil: Now.AddDate(0, 0, 7)}
	for _, data := range bundles {
		d, s := Payload(t, data)
		p.Current = append(p.Current, release.CurrentRelease{Statement: d, Version: s.Predicate.Release.Version, Sequence: s.Predicate.Release.Sequence})
	}
	return p
}

// Payload is the digest and the statement of a release's bundle.
func Payload(t testing.TB, bundle []byte) (release.Digest, *release.Statement) {
	t.Helper()
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return release.PayloadDigest(b), s
}

// Rebuild signs with k and publishes in w's log what a rebuilder says about the bundle of a release.
func (w *World) Rebuild(t testing.TB, k *sign.Key, bundle []byte, change func(*release.Rebuild)) []byte {
	t.Helper()
	b, err := sign.Rebuild(RebuildOf(t, bundle, change), k)
	if err != nil {
		t.Fatal(err)
	}
	l := w.Open(t)
	pub, err := publish.Rebuild(t.Context(), l, Marshal(t, b), k.Public())
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return pub.Bundle
}

// RebuildOf is a statement that the release of the bundle was reproduced, after change.
func RebuildOf(t testing.TB, bundle []byte, change func(*release.Rebuild)) *release.Rebuild {
	t.Helper()
	d, s := Payload(t, bundle)
	rel := s.Predicate.Release
	r := &release.Rebuild{Type: release.StatementType, Subject: s.Subject, PredicateType: release.RebuildType, Predicate: release.RebuildPredicate{
		Release: release.RebuiltRelease{Statement: d, Name: rel.Name, Version: rel.Version, Sequence: rel.Sequence},
		Result:  release.Reproduced, Inputs: s.Predicate.Inputs, Tally: release.TallyBuild{Version: "devel", Commit: strings.Repeat("ab", 20)},
		Checked: []release.CheckedInput{
			{Kind: "file", Name: "init", SHA256: release.Digest{1}, Verified: "hash"},
			{Kind: "package", Name: "libc6", Version: "2.41-12", SHA256: release.Digest{2}, Verified: "index"},
		},
	}}
	if change != nil {
		change(r)
	}
	return r
}

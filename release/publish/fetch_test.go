package publish_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func openSource(t *testing.T, place string) log.Source {
	t.Helper()
	src, err := log.OpenSource(place, nil)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func party(keys ...*sign.Key) (by publish.Party) {
	for _, k := range keys {
		by.Keys = append(by.Keys, k.Public())
	}
	return by
}

// A version means the release that was published last under it, a channel the one that its statement calls current.
func TestFetch(t *testing.T) {
	w, next := rt.New(t), rt.Key(t)
	pub, err := w.TryPublish(t.Context(), t, w.Sign(t, next, sign.Options{Sequence: 3}), next.Public())
	if err != nil {
		t.Fatal(err)
	}
	latest := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	say := func(channel string, signers []release.NamedSigner, current ...[]byte) []byte {
		p := w.Predicate(t, 1, current...)
		p.Channel, p.Signers, p.Revoked = channel, signers, []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
		return w.Channel(t, w.Key, p)
	}
	stable := say("stable", nil, w.Bundle)
	say("empty", nil)
	named := say("named", []release.NamedSigner{release.NameSigner(release.Signer{Key: next.Public()})}, pub.Bundle)
	say("unnamed", nil, pub.Bundle)
	src, by := openSource(t, w.LogDir), party(w.Key)
	for name, c := range map[string]struct {
		w       publish.Want
		release []byte // nil: absent
		channel []byte
	}{
		"version":                  {publish.Want{Version: "0.1.0", By: by}, latest, nil},
		"channel":                  {publish.Want{Channel: "stable", By: by}, w.Bundle, stable},
		"both":                     {publish.Want{Version: "0.1.0", Channel: "stable", By: by}, latest, stable},
		"the second signer":        {publish.Want{Version: "0.1.0", By: party(next, w.Key)}, latest, nil},
		"a named signer":           {publish.Want{Channel: "named", By: by}, pub.Bundle, named},
		"no such channel":          {publish.Want{Version: "0.1.0", Channel: "other", By: by}, latest, nil},
		"no such channel to go by": {publish.Want{Channel: "other", By: by}, nil, nil},
		"no such version":          {publish.Want{Version: "0.3.0", By: by}, nil, nil},
		"nobody's":                 {publish.Want{Version: "0.1.0"}, nil, nil},
		"another's":                {publish.Want{Version: "0.1.0", By: party(next)}, nil, nil},
		"one that nobody named":    {publish.Want{Channel: "unnamed", By: by}, nil, nil},
	} {
		c.w.Name = "minimal"
		got, err := publish.Fetch(t.Context(), src, c.w)
		if c.release == nil {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			continue
		}
		if want := slices.Concat(c.release, []byte("\n"), c.channel); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v", name, len(got), len(want), err)
		}
	}
	for name, x := range map[string]publish.Want{"nothing current": {Name: "minimal", Channel: "empty", By: by}, "neither version nor channel": {Name: "minimal", By: by}} {
		if got, err := publish.Fetch(t.Context(), src, x); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// Only a channel statement names signers.
func TestNamedSigners(t *testing.T) {
	w, k := rt.New(t), rt.Key(t)
	p := w.Predicate(t, 1, w.Bundle)
	p.Signers = []release.NamedSigner{release.NameSigner(release.Signer{Key: k.Public()})}
	if got := publish.NamedSigners(w.Channel(t, w.Key, p)); len(got) != 1 || got[0].ID() != k.Public().ID() {
		t.Errorf("%v", got)
	}
	for _, data := range [][]byte{nil, w.Bundle} {
		if got := publish.NamedSigners(data); got != nil {
			t.Errorf("%d bytes name %v", len(data), got)
		}
	}
}

// untouched is a place that nobody may ask.
type untouched struct{ t *testing.T }

func (untouched) String() string { return "untouched" }

func (u untouched) Read(_ context.Context, name string, _ int64) ([]byte, error) {
	u.t.Errorf("asked for %q", name)
	return nil, fs.ErrNotExist
}

func (u untouched) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	_, err := u.Read(ctx, name, 0)
	return nil, err
}

// A name that leads elsewhere is refused before anything is asked for.
func TestFetchNames(t *testing.T) {
	src := untouched{t}
	for _, x := range []publish.Want{
		{Version: "0.1.0", Channel: "stable"}, {Name: "../minimal", Version: "0.1.0", Channel: "stable"},
		{Name: "minimal", Version: "../0.1.0", Channel: "stable"}, {Name: "minimal", Version: "../0.1.0"},
		{Name: "minimal", Version: "0.1.0", Channel: "../stable"}, {Name: "minimal", Channel: "../stable"},
	} {
		if _, err := publish.Fetch(t.Context(), src, x); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	for _, name := range []string{"", "../minimal"} {
		if _, err := publish.Revocations(t.Context(), src, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("revocations of %q: %v", name, err)
		}
	}
}

// What is there and cannot be read, or is not what it should be, is never taken for absent.
func TestFetchDamaged(t *testing.T) {
	w, other := rt.New(t), rt.Key(t)
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	payload, _ := rt.Payload(t, w.Bundle)
	released := filepath.Join("releases", payload.String()+"-"+other.Public().ID().String())
	byVersion := publish.Want{Name: "minimal", Version: "0.1.0", Channel: "stable", By: party(other, w.Key)}
	byChannel := byVersion
	byChannel.Version = ""
	if _, err := publish.Fetch(t.Context(), openSource(t, w.LogDir), byVersion); err != nil {
		t.Fatal(err)
	}
	text := []byte(payload.String() + "\n")
	for name, c := range map[string]struct {
		file string
		data []byte
		w    publish.Want
	}{
		"channel too large":       {publish.ChannelPath("minimal@stable"), make([]byte, release.MaxChannelBundle+1), byVersion},
		"channel is none":         {publish.ChannelPath("minimal@stable"), w.Bundle, byChannel},
		"channel is no bundle":    {publish.ChannelPath("minimal@stable"), text, byChannel},
		"version is no digest":    {"names/minimal@0.1.0", []byte("x\n"), byVersion},
		"version too large":       {"names/minimal@0.1.0", append(text, '\n'), byVersion},
		"publication is none":     {released, []byte("x\n"), byVersion},
		"publication too large":   {released, append(text, '\n'), byVersion},
		"publication of no leaf":  {released, text, byVersion},
		"revocations too large":   {publish.ChannelPath("minimal@revoked"), make([]byte, release.MaxChannelBundle+1), publish.Want{}},
		"other channel too large": {publish.ChannelPath("minimal@other"), make([]byte, release.MaxChannelBundle+1), publish.Want{}},
	} {
		dir := filepath.Join(t.TempDir(), "pub")
		if err := errors.Join(os.CopyFS(dir, os.DirFS(w.LogDir)), os.WriteFile(filepath.Join(dir, c.file), c.data, 0o644)); err != nil {
			t.Fatal(err)
		}
		src := openSource(t, dir)
		var err error
		switch name {
		case "revocations too large":
			_, err = publish.Revocations(t.Context(), src, "minimal")
		case "other channel too large":
			_, err = publish.HasChannel(t.Context(), src, "minimal", "other")
		default:
			_, err = publish.Fetch(t.Context(), src, c.w)
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) != (name == "publication of no leaf") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHasChannel(t *testing.T) {
	w := rt.New(t)
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	src := openSource(t, w.LogDir)
	for channel, want := range map[string]bool{"stable": true, "other": false} {
		if there, err := publish.HasChannel(t.Context(), src, "minimal", channel); err != nil || there != want {
			t.Errorf("%s: %v, %v", channel, there, err)
		}
	}
	if got, err := publish.Revocations(t.Context(), src, "minimal"); err != nil || got != nil {
		t.Errorf("no revocations: %q, %v", got, err)
	}
	p := w.Predicate(t, 1)
	p.Channel, p.Revoked = publish.RevokedChannel, []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	revoked := w.Channel(t, w.Key, p)
	if got, err := publish.Revocations(t.Context(), src, "minimal"); err != nil || !bytes.Equal(got, bytes.TrimSpace(revoked)) {
		t.Errorf("revocations: %d bytes, %v", len(got), err)
	}
}

// A party's keys count for what a key signed, and its word on certificates for what a certificate's key signed.
func TestSigned(t *testing.T) {
	w := rt.New(t)
	parse := func() *release.Bundle {
		b, err := release.ParseBundle(w.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	forged, hint, certified := parse(), parse(), parse()
	forged.Envelope.Payload = append(forged.Envelope.Payload, ' ')
	hint.Hint = release.PublicKey{}.Hint()
	certified.Certificate = []byte{1}
	says := func(yes bool) func(*release.Bundle) bool { return func(*release.Bundle) bool { return yes } }
	by := party(rt.Key(t), w.Key)
	for name, c := range map[string]struct {
		p    publish.Party
		b    *release.Bundle
		want bool
	}{
		"its key":                       {by, parse(), true},
		"nobody":                        {publish.Party{}, parse(), false},
		"another key":                   {party(rt.Key(t)), parse(), false},
		"another payload":               {by, forged, false},
		"no key":                        {publish.Party{Keys: []release.PublicKey{{}}}, hint, false},
		"a key that is not the hint's":  {by, hint, false},
		"certificates, but it has none": {publish.Party{Certified: says(true)}, parse(), false},
		"a certificate beside its key":  {by, certified, false},
		"a certificate that counts":     {publish.Party{Certified: says(true)}, certified, true},
		"a certificate that does not":   {publish.Party{Keys: by.Keys, Certified: says(false)}, certified, false},
	} {
		if got := c.p.Signed(c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

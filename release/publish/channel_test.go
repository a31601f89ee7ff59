package publish_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func tryChannel(t *testing.T, w *rt.World, k *sign.Key, p release.ChannelPredicate) (*publish.Published, error) {
	t.Helper()
	b, err := sign.Channel(release.NewChannel(p), k)
	if err != nil {
		t.Fatal(err)
	}
	l := w.Open(t)
	pub, err := publish.Channel(t.Context(), l, rt.Marshal(t, b), w.Key.Public())
	return pub, errors.Join(err, l.Close())
}

func TestChannelFollows(t *testing.T) {
	w := rt.New(t)
	first := w.Predicate(t, 5, w.Bundle)
	first.MinimumSequence = 1
	first.Revoked = []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	p, err := tryChannel(t, w, w.Key, first)
	if err != nil {
		t.Fatal(err)
	}
	latest := filepath.Join(w.LogDir, publish.ChannelPath("minimal@stable"))
	stored, err := os.ReadFile(latest)
	if err != nil || !bytes.Equal(stored, p.Bundle) {
		t.Fatalf("latest statement: %v", err)
	}
	// Killed before the index was written: the second time writes it.
	if err := os.Remove(latest); err != nil {
		t.Fatal(err)
	}
	if again, err := tryChannel(t, w, w.Key, first); err != nil || again.Index != p.Index || !again.Already {
		t.Errorf("second time: %+v, %v", again, err)
	}
	if _, err := os.Stat(latest); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		edit func(p *release.ChannelPredicate)
		want string
	}{
		"same sequence":  {func(p *release.ChannelPredicate) { p.Sequence, p.ValidUntil = 5, p.ValidUntil.Add(time.Hour) }, "does not follow 5"},
		"lower sequence": {func(p *release.ChannelPredicate) { p.Sequence = 4 }, "does not follow 5"},
		"lower minimum":  {func(p *release.ChannelPredicate) { p.MinimumSequence = 0 }, "below the earlier 1"},
		"older":          {func(p *release.ChannelPredicate) { p.IssuedAt = p.IssuedAt.Add(-time.Second) }, "issued before"},
		"forgiven":       {func(p *release.ChannelPredicate) { p.Revoked = nil }, "for ever"},
	} {
		next := first
		next.Sequence = 6
		c.edit(&next)
		if _, err := tryChannel(t, w, w.Key, next); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	next := first
	next.Sequence = 6
	if _, err := tryChannel(t, w, rt.Key(t), next); err == nil || !strings.Contains(err.Error(), "identity") {
		t.Errorf("another signer: %v", err)
	}
	if p, err = tryChannel(t, w, w.Key, next); err != nil || p.Index != 2 {
		t.Errorf("%+v, %v: a refused statement entered the log", p, err)
	}
	// The first again: published, and not the latest any more.
	if p, err = tryChannel(t, w, w.Key, first); err != nil || !p.Already {
		t.Error(err)
	}
	if c, err := publish.LatestChannel(w.LogDir, "minimal@stable"); err != nil || c.Predicate.Sequence != 6 {
		t.Errorf("latest %+v, %v", c, err)
	}
}

// A statement that was begun is found by its channel, and one that is in the log gets its bundle though others have come since.
// One that was never logged does not enter it any more.
func TestChannelBegun(t *testing.T) {
	w := rt.New(t)
	first, second := w.Predicate(t, 1, w.Bundle), w.Predicate(t, 2, w.Bundle)
	other := first
	other.ValidUntil = first.ValidUntil.Add(time.Hour)
	file := func(p release.ChannelPredicate) (string, []byte, *release.Bundle) {
		b, err := sign.Channel(release.NewChannel(p), w.Key)
		if err != nil {
			t.Fatal(err)
		}
		return ".pending/" + release.PayloadDigest(b).String() + "-" + w.Key.Public().ID().String(), rt.Marshal(t, b), b
	}
	name1, data1, b1 := file(first)
	name2, data2, b2 := file(second)
	name3, data3, _ := file(other)
	for name, data := range map[string][]byte{name1: data1, name2: data2, name1[:len(name1)-1]: data1, ".pending/busy": nil, name3[:74] + name1[74:]: data1} {
		if err := os.WriteFile(filepath.Join(w.LogDir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	begun, err := publish.BegunChannel(w.LogDir, "minimal@stable")
	if err != nil || len(begun) != 2 || begun[0].Path != name1 || begun[1].Path != name2 || begun[0].Signer != w.Key.Public().ID() || !bytes.Equal(begun[1].Payload, b2.Envelope.Payload) {
		t.Fatalf("%+v, %v", begun, err)
	}
	if begun, err := publish.BegunChannel(w.LogDir, "minimal@other"); err != nil || len(begun) != 0 {
		t.Errorf("of another channel: %+v, %v", begun, err)
	}
	l := w.Open(t) // the first's leaf alone
	if _, err := l.Append(t.Context(), release.LeafBody(&b1.Envelope, w.Key.Public())); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err := tryChannel(t, w, w.Key, second); err != nil || p.Index != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	p, err := tryChannel(t, w, w.Key, first)
	if err != nil || p.Index != 1 {
		t.Fatalf("late: %+v, %v", p, err)
	}
	if stored, err := os.ReadFile(filepath.Join(w.LogDir, p.Path)); err != nil || !bytes.Equal(stored, p.Bundle) {
		t.Errorf("its bundle: %v", err)
	}
	if c, err := publish.LatestChannel(w.LogDir, "minimal@stable"); err != nil || c.Predicate.Sequence != 2 {
		t.Errorf("latest %+v, %v", c, err)
	}
	if err := os.WriteFile(filepath.Join(w.LogDir, name3), data3, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tryChannel(t, w, w.Key, other); !errors.Is(err, publish.ErrOvertaken) || !strings.Contains(err.Error(), "does not follow 2") || nextIndex(t, w) != 3 {
		t.Errorf("never logged: %v", err)
	}
}

func TestIndexes(t *testing.T) {
	w := rt.New(t)
	d, _ := rt.Payload(t, w.Bundle)
	text, err := os.ReadFile(filepath.Join(w.LogDir, "names", "minimal@0.1.0"))
	if err != nil || string(text) != d.String()+"\n" {
		t.Errorf("%q, %v", text, err)
	}
	if ok, err := publish.Holds(w.LogDir, d); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := publish.Holds(w.LogDir, release.Digest{}); ok || err != nil {
		t.Error(ok, err)
	}
	odd := filepath.Join(t.TempDir(), "log[1]*") // a name like another
	if err := os.CopyFS(odd, os.DirFS(w.LogDir)); err != nil {
		t.Fatal(err)
	}
	if ok, err := publish.Holds(odd, d); !ok || err != nil {
		t.Errorf("in %s: %v, %v", odd, ok, err)
	}
	if c, err := publish.LatestChannel(w.LogDir, "minimal@stable"); c != nil || err != nil {
		t.Error(c, err)
	}
	dir := filepath.Join(w.LogDir, "channels")
	if err := os.WriteFile(filepath.Join(dir, "minimal@stable.sigstore.json"), w.Bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := publish.LatestChannel(w.LogDir, "minimal@stable"); err == nil {
		t.Error("a release passes for a channel statement")
	}
}

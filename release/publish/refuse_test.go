package publish_test

import (
	"errors"
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

func tryRebuild(t *testing.T, w *rt.World, bundle []byte, signer release.PublicKey) (*publish.Published, error) {
	t.Helper()
	l := w.Open(t)
	p, err := publish.Rebuild(t.Context(), l, bundle, signer)
	return p, errors.Join(err, l.Close())
}

func signedRebuild(t *testing.T, w *rt.World, k *sign.Key, version string) []byte {
	t.Helper()
	b, err := sign.Rebuild(rt.RebuildOf(t, w.Bundle, func(r *release.Rebuild) { r.Predicate.Tally.Version = version }), k)
	if err != nil {
		t.Fatal(err)
	}
	return rt.Marshal(t, b)
}

// nextIndex publishes a release and says which leaf it got.
func nextIndex(t *testing.T, w *rt.World) int64 {
	t.Helper()
	return w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 99})).Index
}

// What its signer did not sign, or what is of another kind, does not enter the log.
func TestRefusedUnlogged(t *testing.T) {
	w, a := rt.New(t), rt.Key(t)
	channel, err := sign.Channel(release.NewChannel(w.Predicate(t, 1, w.Bundle)), w.Key)
	if err != nil {
		t.Fatal(err)
	}
	said := signedRebuild(t, w, a, "1")
	for name, c := range map[string]struct {
		bundle []byte
		signer release.PublicKey
	}{
		"no bundle":      {said[:len(said)-10], a.Public()},
		"another signer": {said, w.Key.Public()},
		"no key":         {said, release.PublicKey{}},
		"a release":      {w.Bundle, w.Key.Public()},
		"a channel":      {rt.Marshal(t, channel), w.Key.Public()},
	} {
		if p, err := tryRebuild(t, w, c.bundle, c.signer); err == nil {
			t.Errorf("%s as a rebuild: %+v", name, p)
		}
	}
	for name, bundle := range map[string][]byte{"no bundle": w.Bundle[:100], "a release": w.Bundle} {
		l := w.Open(t)
		p, err := publish.Channel(t.Context(), l, bundle, w.Key.Public())
		if err == nil {
			t.Errorf("%s as a channel statement: %+v", name, p)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := w.TryPublish(t.Context(), t, rt.Marshal(t, channel), w.Key.Public()); err == nil {
		t.Errorf("a channel statement as a release: %+v", p)
	}
	if i := nextIndex(t, w); i != 1 {
		t.Errorf("next index %d, want 1", i)
	}
}

// An earlier publication of which something is damaged is not published anew: the log would have it twice.
func TestDamagedPublication(t *testing.T) {
	w, a := rt.New(t), rt.Key(t)
	rebuild := signedRebuild(t, w, a, "1")
	said, err := tryRebuild(t, w, rebuild, a.Public())
	if err != nil {
		t.Fatal(err)
	}
	predicate := w.Predicate(t, 1, w.Bundle)
	channel, err := tryChannel(t, w, w.Key, predicate)
	if err != nil {
		t.Fatal(err)
	}
	again := map[string]func() error{
		w.Publish(t, w.Bundle).Path: func() error {
			_, err := w.TryPublish(t.Context(), t, w.Bundle, w.Key.Public())
			return err
		},
		said.Path: func() error { _, err := tryRebuild(t, w, rebuild, a.Public()); return err },
		channel.Path: func() error { // and nothing says which statement is the latest
			if err := os.RemoveAll(filepath.Join(w.LogDir, publish.ChannelPath("minimal@stable"))); err != nil {
				t.Fatal(err)
			}
			_, err := tryChannel(t, w, w.Key, predicate)
			return err
		},
	}
	for path, publishAgain := range again {
		if err := publishAgain(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(w.LogDir, path)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := release.ParseBundle(data)
		if err != nil {
			t.Fatal(err)
		}
		b.Entry = nil
		found, err := filepath.Glob(filepath.Join(w.LogDir, "releases", release.PayloadDigest(b).String()+"-*"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		index, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		for name, damage := range map[string]func() error{
			"bundle gone":      func() error { return os.Remove(file) },
			"bundle cut short": func() error { return os.WriteFile(file, data[:100], 0o644) },
			"bundle unlogged":  func() error { return os.WriteFile(file, rt.Marshal(t, b), 0o644) },
			"no leaf":          func() error { return os.WriteFile(found[0], []byte("x\n"), 0o644) },
			"no file":          func() error { return errors.Join(os.Remove(found[0]), os.Mkdir(found[0], 0o755)) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if err := publishAgain(); err == nil {
				t.Errorf("%s: %s: published", path, name)
			}
			if err := errors.Join(os.RemoveAll(found[0]), os.WriteFile(found[0], index, 0o644), os.WriteFile(file, data, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if i := nextIndex(t, w); i != 3 {
		t.Errorf("next index %d, want 3", i)
	}
}

// Without the latest statement nobody knows what the next one must follow.
func TestDamagedChannel(t *testing.T) {
	w := rt.New(t)
	p := w.Predicate(t, 5, w.Bundle)
	other := p
	other.Channel, other.Sequence = "other", 1
	w.Channel(t, w.Key, p)
	foreign := w.Channel(t, w.Key, other)
	latest := filepath.Join(w.LogDir, publish.ChannelPath("minimal@stable"))
	p.Sequence = 6
	for name, damage := range map[string]func() error{
		"another channel's": func() error { return os.WriteFile(latest, foreign, 0o644) },
		"no bundle":         func() error { return os.WriteFile(latest, []byte("x"), 0o644) },
		"a release":         func() error { return os.WriteFile(latest, w.Bundle, 0o644) },
		"no file":           func() error { return errors.Join(os.Remove(latest), os.Mkdir(latest, 0o755)) },
	} {
		if err := errors.Join(os.RemoveAll(latest), damage()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if c, err := publish.LatestChannel(w.LogDir, "minimal@stable"); err == nil {
			t.Errorf("%s: latest is %+v", name, c)
		}
		if _, err := tryChannel(t, w, w.Key, p); err == nil {
			t.Errorf("%s: published", name)
		}
	}
	if i := nextIndex(t, w); i != 3 {
		t.Errorf("next index %d, want 3", i)
	}
}

// The statement that is the latest may be published again; one that died before it came to be the latest is made that.
func TestChannelAgain(t *testing.T) {
	w := rt.New(t)
	latest := filepath.Join(w.LogDir, publish.ChannelPath("minimal@stable"))
	p := w.Predicate(t, 1, w.Bundle)
	first := w.Channel(t, w.Key, p)
	if again, err := tryChannel(t, w, w.Key, p); err != nil || !again.Already {
		t.Errorf("the latest again: %+v, %v", again, err)
	}
	p.Sequence = 2
	second := w.Channel(t, w.Key, p)
	if err := os.WriteFile(latest, first, 0o644); err != nil { // killed between log and index
		t.Fatal(err)
	}
	if again, err := tryChannel(t, w, w.Key, p); err != nil || !again.Already {
		t.Errorf("after a kill: %+v, %v", again, err)
	}
	if got, err := os.ReadFile(latest); err != nil || string(got) != string(second) {
		t.Errorf("the latest is not the second, %v", err)
	}
}

// What a rebuilder said is kept, whatever lies in the index, and there is room for 32 statements about a release.
func TestRebuildIndex(t *testing.T) {
	w, a := rt.New(t), rt.Key(t)
	payload, _ := rt.Payload(t, w.Bundle)
	index := filepath.Join(w.LogDir, "rebuilds", payload.String()+"-"+a.Public().ID().String())
	lines := func(n int) []byte { return []byte(strings.Repeat(payload.String()+"\n", n)) }
	for name, bad := range map[string][]byte{"no leaf": []byte("x\n"), "full": lines(32), "more than full": lines(33)} {
		if err := os.WriteFile(index, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := tryRebuild(t, w, signedRebuild(t, w, a, "1"), a.Public()); err == nil {
			t.Errorf("%s: published", name)
		}
		if got, err := os.ReadFile(index); err != nil || string(got) != string(bad) {
			t.Errorf("%s: index is %.100q, %v", name, got, err)
		}
	}
	if err := os.WriteFile(index, lines(31), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := tryRebuild(t, w, signedRebuild(t, w, a, "1"), a.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(index); err != nil || string(got) != string(lines(31))+p.Leaf.String()+"\n" {
		t.Errorf("index ends with %q, %v", got[max(0, len(got)-65):], err)
	}
}

// A release whose name or version would lead out of the directory has no index by name.
func TestOddNames(t *testing.T) {
	w := rt.New(t)
	for i, odd := range []func(r *release.Release){
		func(r *release.Release) { r.Version = "/../../../../out" },
		func(r *release.Release) { r.Name = "../../out" },
	} {
		s := w.Statement(t, sign.Options{Sequence: uint64(i + 2)})
		odd(&s.Predicate.Release)
		b, err := sign.Sign(s, w.Key)
		if err != nil {
			t.Fatal(err)
		}
		if p := w.Publish(t, rt.Marshal(t, b)); p.Already || p.Index != int64(i+1) {
			t.Errorf("%+v", p)
		}
	}
	names, err := os.ReadDir(filepath.Join(w.LogDir, "names"))
	if err != nil || len(names) != 1 || names[0].Name() != "minimal@0.1.0" {
		t.Errorf("names %v, %v", names, err)
	}
	around, err := filepath.Glob(filepath.Join(w.LogDir, "..", "out*"))
	if more, merr := filepath.Glob(filepath.Join(w.LogDir, "..", "..", "out*")); err != nil || merr != nil || len(around)+len(more) != 0 {
		t.Errorf("outside: %v, %v", around, more)
	}
}

package monitor_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/monitor"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A bundle from another history is seen whenever it comes: under a leaf that never had one, that lost it, or that is
// read again.
func TestForkComesLate(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	twin := copyLog(t, w)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	third := w.Sign(t, w.Key, sign.Options{Sequence: 3})
	honest := w.Publish(t, third)
	twin.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 9}))
	forged := twin.Publish(t, third).Bundle
	w.Channel(t, w.Key, w.Predicate(t, 1, honest.Bundle)) // the log goes on: another tree than the bundle's
	path := filepath.Join(w.LogDir, honest.Path)
	put := func(data []byte) { // nil: nothing
		t.Helper()
		err := os.RemoveAll(path)
		if data != nil {
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	forked := func(r *monitor.Report) {
		t.Helper()
		if a := r.Alerts; len(a) > 0 && (*a[0].Index != 2 || !strings.HasSuffix(a[0].Text, "which is not a prefix of the log")) {
			t.Errorf("%+v", a)
		} else if len(a) > 0 {
			checkEvidence(t, w, a[0].Evidence)
		}
	}
	v := newWatch(t, w)
	v.o.Run = nil
	put(nil)
	v.round(t, monitor.Unexpected, monitor.NoBundle)
	put(forged)
	forked(v.round(t, release.LogFork, monitor.Unexpected))
	v.round(t) // once
	v.o.Full = true
	forked(v.round(t, release.LogFork))
	put(nil)
	v.round(t, monitor.NoBundle)
	v.o.Full = false
	put(forged)
	forked(v.round(t, release.LogFork))
	v.round(t)
	// One in the place of a bundle that did not hold.
	v.o.Dir = filepath.Join(t.TempDir(), "state")
	put([]byte("{"))
	v.round(t, monitor.Unexpected, release.BadBundle)
	put(forged)
	forked(v.round(t, release.LogFork, monitor.Unexpected))
	v.round(t)
	// Nor is what comes back in the place of a bundle that was lost taken as it is.
	put(nil)
	v.o.Full = true
	v.round(t, monitor.NoBundle)
	v.o.Full = false
	put([]byte("{"))
	v.round(t, release.BadBundle)
}

// What cannot be read is no verdict, and nothing is remembered of the round.
func TestUnreadableBundle(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	path := filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(must(release.ParseBundle(w.Bundle)).Entry.Body)))
	v := newWatch(t, w)
	fails := func() {
		t.Helper()
		m := must(monitor.Open(v.o))
		if r, err := m.Round(t.Context()); err == nil {
			t.Errorf("%+v", r)
		}
	}
	for _, before := range [][]release.Reason{nil, {monitor.NoBundle}} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if before != nil {
			v.round(t, before...)
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		fails()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, w.Bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := v.round(t); len(r.Releases) != 1 || len(v.ran) != 1 {
		t.Errorf("%+v", r)
	}
}

// Nor is the channel statement that names a signer: a log that is away for a moment makes nobody a stranger.
func TestUnreadableChannel(t *testing.T) {
	t.Parallel()
	w, fresh := rt.New(t), rt.Key(t)
	w.Policy.Channel = release.ChannelPolicy{Name: "stable", MaxAge: time.Hour}
	v := newWatch(t, w)
	v.o.Run = nil
	p := w.Predicate(t, 1, w.Bundle)
	p.Signers = []release.NamedSigner{release.NameSigner(release.Signer{Key: fresh.Public()})}
	w.Channel(t, w.Key, p)
	if _, err := w.TryPublish(t.Context(), t, w.Sign(t, fresh, sign.Options{Sequence: 2}), fresh.Public()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.LogDir, publish.ChannelPath("minimal@stable"))
	whole := must(os.ReadFile(path))
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if r, err := must(monitor.Open(v.o)).Round(t.Context()); err == nil {
		t.Errorf("%+v", r)
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, whole, 0o644)); err != nil {
		t.Fatal(err)
	}
	if r := v.round(t, monitor.Unexpected); len(r.Releases) != 2 {
		t.Errorf("%+v", r)
	}
}

// A round that reads everything reads a leaf once, also one that had no bundle.
func TestFullReadsOnce(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	path := filepath.Join(w.LogDir, filepath.FromSlash(publish.BundlePath(release.LeafHash(must(release.ParseBundle(w.Bundle)).Entry.Body))))
	v := newWatch(t, w)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	v.round(t, monitor.NoBundle)
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	v.o.Full = true
	v.round(t, release.BadBundle)
}

// A round that is not full takes up what holds by now. What is wrong with the others it says no more, nor what it cannot prove.
func TestUnheldComesLate(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	appendAll(t, w, 300) // past the tile of the bundle's tree
	path := filepath.Join(w.LogDir, filepath.FromSlash(publish.BundlePath(release.LeafHash(must(release.ParseBundle(w.Bundle)).Entry.Body))))
	tile := filepath.Join(w.LogDir, "tile", "0", "000")
	whole := must(os.ReadFile(tile))
	v := newWatch(t, w)
	bad := []release.Reason{release.BadBundle}
	bare := slices.Repeat([]release.Reason{monitor.NoBundle}, 101)
	for i, c := range []struct {
		bundle []byte // nil: none
		proof  bool
		want   []release.Reason
		told   int
	}{
		{[]byte("<html>"), true, bad, 0},
		{[]byte("<html>"), true, nil, 0},
		{nil, true, nil, 0},
		{w.Bundle, false, nil, 0},
		{w.Bundle, true, nil, 1},
		{w.Bundle, true, nil, 0},
	} {
		err := errors.Join(os.RemoveAll(path), os.RemoveAll(tile))
		if c.bundle != nil {
			err = errors.Join(err, os.WriteFile(path, c.bundle, 0o644))
		}
		if c.proof {
			err = errors.Join(err, os.WriteFile(tile, whole, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
		if r := v.round(t, append(slices.Clone(c.want), bare...)...); len(r.Releases) != c.told || r.Again != 0 {
			t.Errorf("round %d: %d releases, %d again", i, len(r.Releases), r.Again)
		}
	}
	if !slices.Equal(v.ran, []string{"minimal0.1.01"}) {
		t.Errorf("ran %v", v.ran)
	}
}

// A bundle that comes late shows a tree that must be the log's; when the log no longer has what would prove it, that is said.
func TestLateWithoutProof(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	appendAll(t, w, 300) // past the tile of the bundle's tree
	path := filepath.Join(w.LogDir, filepath.FromSlash(publish.BundlePath(release.LeafHash(must(release.ParseBundle(w.Bundle)).Entry.Body))))
	v := newWatch(t, w)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	must(must(monitor.Open(v.o)).Round(t.Context()))
	if err := errors.Join(os.Remove(filepath.Join(w.LogDir, "tile", "0", "000")), os.WriteFile(path, w.Bundle, 0o644)); err != nil {
		t.Fatal(err)
	}
	r, err := must(monitor.Open(v.o)).Round(t.Context())
	if err != nil || r.Alerts[0].Reason != release.NoProof || *r.Alerts[0].Index != 0 || !strings.Contains(r.Alerts[0].Text, "tile/0/000") || r.Alerts[1].Reason != monitor.NoBundle {
		t.Errorf("%+v, %v", r, err)
	}
}

// A full tile is compared with the leaves under it, as the one that still grows is.
func TestDamagedFullTile(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	appendAll(t, w, 300)
	path := filepath.Join(w.LogDir, "tile", "0", "000")
	data := must(os.ReadFile(path))
	data[0] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := newWatch(t, w).round(t, monitor.Damaged); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, "hash 0 of tile 0 of level 0") {
		t.Errorf("%+v", r)
	}
}

// Garbage in a bundle's place until the leaf is judged, and the bundle itself there later: a full round tells what it says, once.
func TestBundleComesLate(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	s := w.Statement(t, sign.Options{Sequence: 2})
	s.Predicate.Release.Version = "0.2.0"
	revoked := w.Predicate(t, 1, w.Publish(t, rt.Marshal(t, must(sign.Sign(s, w.Key)))).Bundle)
	first := must(release.ParseBundle(w.Bundle))
	revoked.Revoked = []release.Revocation{{Statement: sha256.Sum256(first.Envelope.Payload), Reason: "bad", Since: rt.Now}}
	w.Channel(t, w.Key, revoked)
	var paths []string
	for i := range 2 {
		entries := must(os.ReadFile(filepath.Join(w.LogDir, "tile/entries/000.p/3")))
		for range i + 1 {
			entries = entries[2+int(entries[0])<<8+int(entries[1]):]
		}
		paths = append(paths, filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(entries[2:2+int(entries[0])<<8+int(entries[1])]))))
	}
	var whole [][]byte
	for _, p := range paths {
		whole = append(whole, must(os.ReadFile(p)))
		if err := os.WriteFile(p, []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.round(t, release.BadBundle, release.BadBundle)
	for i, p := range paths {
		if err := os.WriteFile(p, whole[i], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.o.Full = true
	if r := v.round(t, release.Revoked); len(r.Releases) != 1 || len(r.Channels) != 1 || len(v.ran) != 2 {
		t.Errorf("%+v, ran %v", r, v.ran)
	}
	if r := v.round(t); len(r.Releases)+len(r.Channels) != 0 || len(v.ran) != 2 {
		t.Errorf("told twice: %+v, ran %v", r, v.ran)
	}
}

// So does what no round could miss by its name: a second release of a version, a rebuild, a second statement of a channel's
// sequence. Whatever stood in the bundles' place meanwhile, and nothing, too; a signer's time is weighed then.
func TestSecondComesLate(t *testing.T) {
	t.Parallel()
	w, rebuilder := rt.New(t), rt.Key(t)
	p := *w.Policy
	p.Rebuilders = release.RebuilderPolicy{Keys: []release.Signer{{Key: rebuilder.Public()}}}
	v := newWatch(t, w)
	v.o.Policy = &p
	channel := w.Predicate(t, 1, w.Bundle)
	w.Channel(t, w.Key, channel)
	v.round(t)
	var paths []string
	var whole [][]byte
	hide := func(bundle []byte) {
		paths = append(paths, filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(must(release.ParseBundle(bundle)).Entry.Body))))
		whole = append(whole, bundle)
	}
	put := func(data ...[]byte) { // nothing: none
		t.Helper()
		for i, path := range paths {
			os.Remove(path)
			if data == nil {
				continue
			}
			if err := os.WriteFile(path, data[i%len(data)], 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	hide(w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle)
	hide(w.Rebuild(t, rebuilder, w.Bundle, func(r *release.Rebuild) {
		r.Predicate.Result = release.Differs
		r.Predicate.Differences = []release.Difference{{Name: "disk.raw", Status: "MISSING", Want: &release.Digest{1}}}
	}))
	unpublish(t, w)
	channel.ValidUntil = channel.ValidUntil.Add(time.Hour)
	hide(w.Channel(t, w.Key, channel))
	put([]byte("{"))
	bad := []release.Reason{release.BadBundle, release.BadBundle, release.BadBundle}
	none := []release.Reason{monitor.NoBundle, monitor.NoBundle, monitor.NoBundle}
	told := []release.Reason{release.Expired, monitor.Unexpected, release.Mismatch, release.Expired, release.Rollback}
	v.round(t, bad...)
	v.round(t)
	quiet := func(reasons ...release.Reason) {
		t.Helper()
		if r := v.round(t, reasons...); len(r.Releases)+len(r.Channels)+len(r.Rebuilds) != 0 || len(v.ran) != 1 {
			t.Errorf("told: %+v, ran %v", r, v.ran)
		}
	}
	v.o.Full = true
	quiet(bad...)
	before := v.o.Dir
	for _, gone := range []bool{false, true} {
		v.o.Dir, v.ran, v.o.Full = filepath.Join(t.TempDir(), "state"), v.ran[:1], true
		if err := os.CopyFS(v.o.Dir, os.DirFS(before)); err != nil {
			t.Fatal(err)
		}
		if gone { // what was garbage is nothing for a while, and looked for in every round from then on
			put()
			quiet(none...)
			v.o.Full = false
			quiet(none...)
		}
		put(whole...)
		p.Signers = []release.Signer{{Key: w.Key.Public(), NotAfter: rt.Now}}
		if r := v.round(t, told...); len(r.Releases) != 1 || len(r.Channels) != 1 || len(r.Rebuilds) != 1 || len(v.ran) != 2 {
			t.Errorf("gone %v: %+v, ran %v", gone, r, v.ran)
		}
		p.Signers = w.Policy.Signers
		v.o.Full = true
		v.round(t)
		if len(v.ran) != 2 {
			t.Errorf("ran %v", v.ran)
		}
		put([]byte("{"))
	}
}

// Without a policy a leaf's key is the one that its bundle has of it: of none in this log, or of another leaf, it is nobody's.
func TestKeyOfAnotherLeaf(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	other := rt.Key(t)
	p, err := w.TryPublish(t.Context(), t, w.Sign(t, other, sign.Options{Sequence: 2}), other.Public())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.LogDir, p.Path)
	bare := must(release.ParseBundle(p.Bundle))
	bare.Entry = nil
	for text, data := range map[string][]byte{"no entry of this log": rt.Marshal(t, bare), "is that of leaf": w.Bundle, "": p.Bundle} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		v := newWatch(t, w)
		v.o.Run, v.o.Policy = nil, &release.Policy{Log: w.Policy.Log}
		want := map[string]release.Reason{"no entry of this log": release.BadIdentity, "is that of leaf": release.BadInclusion, "": monitor.Unexpected}[text]
		if r := v.round(t, want); len(r.Alerts) == 1 && !strings.Contains(r.Alerts[0].Text, text) || text == "" && r.Releases[1].Signer != other.Public().ID() {
			t.Errorf("%+v", r)
		}
	}
}

// When no more evidence is kept, or none can be, the fork is said all the same, and that, too.
func TestForkWithoutEvidence(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	twin := copyLog(t, w)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	third := w.Sign(t, w.Key, sign.Options{Sequence: 3})
	w.Publish(t, third)
	twin.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 9}))
	forged := twin.Publish(t, third)
	v := newWatch(t, w)
	v.o.Run = nil
	v.round(t, monitor.Unexpected, monitor.Unexpected)
	v.at(t, twin.LogDir)
	first := v.round(t, release.LogFork).Alerts[0].Evidence
	dir, id, _ := strings.Cut(strings.TrimSuffix(first, ".txt"), "evidence"+string(filepath.Separator))
	id, _, _ = strings.Cut(id, "-")
	dir = filepath.Join(dir, "evidence")
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.txt", id, i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	said := func(want string) {
		t.Helper()
		if r := v.round(t, release.LogFork); len(r.Alerts) == 1 && (r.Alerts[0].Evidence != "" || !strings.Contains(r.Alerts[0].Text, "; keeping the evidence: ") || !strings.Contains(r.Alerts[0].Text, want)) {
			t.Errorf("%+v, want %q", r.Alerts, want)
		}
	}
	said("has 100 forks of log log.tally.example already")
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	said("not a directory")
	if err := os.WriteFile(filepath.Join(w.LogDir, forged.Path), forged.Bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	v.at(t, w.LogDir)
	v.o.Full = true
	said("not a directory") // of a bundle's tree
}

package state_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
	"tally/release/state"
)

func open(t testing.TB, dir string, w *rt.World) *state.State {
	t.Helper()
	s, err := state.Open(dir, w.Log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verify(t testing.TB, w *rt.World, bundle []byte) *release.Result {
	t.Helper()
	r, err := release.Verify(bundle, w.Policy, rt.Now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What a revocation key takes back is remembered, of whatever release it is.
func TestRememberRevocations(t *testing.T) {
	w, revoker := rt.New(t), rt.Key(t)
	w.Policy.Revokers = []release.Signer{{Key: revoker.Public()}}
	p := w.Predicate(t, 1)
	p.Channel = "revoked"
	p.Revoked = []release.Revocation{{Statement: release.Digest{7}, Reason: "leaks", Since: rt.Now}}
	dir := filepath.Join(t.TempDir(), "st")
	if err := open(t, dir, w).Remember(verify(t, w, append(append([]byte{}, w.Bundle...), w.Channel(t, revoker, p)...))); err != nil {
		t.Fatal(err)
	}
	open(t, dir, w).Fill(w.Policy)
	if m := w.Policy.Memory; m.Revoked[release.Digest{7}] != "leaks" || len(m.Channels) != 0 {
		t.Errorf("memory %+v", m)
	}
}

// Without the log's word no tree counts as contained in another.
func TestNothingIsProvedUnasked(t *testing.T) {
	w := rt.New(t)
	dir := filepath.Join(t.TempDir(), "st")
	for _, bundle := range [][]byte{w.Bundle, w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle} {
		s := open(t, dir, w)
		s.Fill(w.Policy)
		if err := s.Remember(verify(t, w, bundle)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, w).Fill(w.Policy)
	if seen := w.Policy.Log.Seen; len(seen) != 2 || seen[0].Proved || seen[1].Proved {
		t.Errorf("%d trees: %+v", len(seen), seen)
	}
}

func TestRemember(t *testing.T) {
	w := rt.New(t)
	dir := filepath.Join(t.TempDir(), "st")
	first := w.Bundle
	second := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	p := w.Predicate(t, 7, second)
	d, _ := rt.Payload(t, first)
	p.Revoked = []release.Revocation{{Statement: d, Reason: "old", Since: rt.Now}}
	c := w.Channel(t, w.Key, p)
	s := open(t, dir, w)
	if err := s.Remember(verify(t, w, first)); err != nil {
		t.Fatal(err)
	}
	if err := s.Remember(verify(t, w, append(append([]byte{}, second...), c...))); err != nil {
		t.Fatal(err)
	}
	open(t, dir, w).Fill(w.Policy)
	if n := len(w.Policy.Log.Seen); n != 3 {
		t.Errorf("%d trees remembered, want 3", n)
	}
	m := w.Policy.Memory
	if m.Releases["minimal"] != 2 || m.Channels["minimal@stable"].Sequence != 7 || m.Revoked[d] != "old" {
		t.Errorf("memory %+v", m)
	}
	if _, err := release.Verify(first, w.Policy, rt.Now); err == nil || !strings.HasPrefix(err.Error(), "revoked:") {
		t.Errorf("revoked release: %v", err)
	}
	// What is remembered never goes back.
	older := w.Predicate(t, 8, second)
	r := verify(t, w, append(append([]byte{}, second...), c...))
	r.Channel = release.NewChannel(older)
	r.Channel.Predicate.Sequence = 6
	r.Statement.Predicate.Release.Sequence = 1
	if err := s.Remember(r); err != nil {
		t.Fatal(err)
	}
	open(t, dir, w).Fill(w.Policy)
	if m := w.Policy.Memory; m.Releases["minimal"] != 2 || m.Channels["minimal@stable"].Sequence != 7 {
		t.Errorf("went back: %+v", m)
	}
}

// refused verifies under the policy with what dir remembers, remembers what came of it, and wants that reason.
func refused(t *testing.T, dir string, w *rt.World, reason string, parts ...[]byte) {
	t.Helper()
	s := open(t, dir, w)
	s.Fill(w.Policy)
	r, err := release.Verify(slices.Concat(parts...), w.Policy, rt.Now)
	if err == nil || !strings.HasPrefix(err.Error(), reason+":") {
		t.Errorf("%v, want %s", err, reason)
	}
	if err := s.Remember(r); err != nil {
		t.Fatal(err)
	}
}

// Who was refused a release for a revocation or a newer channel statement is not given it later by somebody who leaves
// that out and has an older one, which is still of its time.
func TestRememberRefusals(t *testing.T) {
	w, revoker := rt.New(t), rt.Key(t)
	first := w.Bundle
	second := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	d, _ := rt.Payload(t, first)
	w.Policy.Channel = release.ChannelPolicy{Name: "stable", MaxAge: 48 * time.Hour}
	w.Policy.Revokers = []release.Signer{{Key: revoker.Public()}}
	before := w.Channel(t, w.Key, w.Predicate(t, 1, first))
	after := w.Channel(t, w.Key, w.Predicate(t, 2, second))
	takenBack := w.Predicate(t, 3, second)
	takenBack.Revoked = []release.Revocation{{Statement: d, Reason: "leaks", Since: rt.Now}}
	revoked := w.Channel(t, w.Key, takenBack)
	takenBack.Channel, takenBack.Sequence, takenBack.Current = "revoked", 1, nil
	byOther := w.Channel(t, revoker, takenBack)
	for name, c := range map[string]struct {
		shown  [][]byte
		reason string // the first time, and the second without what was shown
		again  string
	}{
		"revoked by the channel":        {[][]byte{first, revoked}, "revoked", "revoked"},
		"revoked by a revocation key":   {[][]byte{first, before, byOther}, "revoked", "revoked"},
		"no longer current":             {[][]byte{first, after}, "rollback", "rollback"},
		"refused before it was weighed": {[][]byte{second, before}, "channel", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "st")
			refused(t, dir, w, c.reason, c.shown...)
			s := open(t, dir, w)
			s.Fill(w.Policy)
			if len(w.Policy.Log.Seen) != 0 || len(w.Policy.Memory.Releases) != 0 {
				t.Errorf("of a refused release there is remembered %+v", w.Policy)
			}
			if c.again != "" {
				refused(t, dir, w, c.again, first, before)
				return
			}
			if _, err := release.Verify(slices.Concat(first, before), w.Policy, rt.Now); err != nil {
				t.Error(err)
			}
		})
	}
	// A thief of the channel's key revokes what he likes, and not for ever.
	stolen := w.Predicate(t, 4, second)
	stolen.Channel = "stolen"
	stolen.Revoked = []release.Revocation{{Statement: release.Digest{1}, Since: rt.Now}}
	thief := w.Channel(t, w.Key, stolen)
	takenBack.Sequence = 2
	takenBack.Revoked = append(takenBack.Revoked, release.Revocation{Statement: w.Key.Public().ID(), Kind: release.RevokedKey, Since: rt.Now})
	dir := filepath.Join(t.TempDir(), "st")
	refused(t, dir, w, "revoked", first, thief, w.Channel(t, revoker, takenBack))
	open(t, dir, w).Fill(w.Policy)
	if _, ok := w.Policy.Memory.Revoked[release.Digest{1}]; ok || len(w.Policy.Memory.Revoked) != 2 {
		t.Errorf("revoked %v, want what the revocation key says alone", w.Policy.Memory.Revoked)
	}
}

func TestNothingIsRememberedWithoutDirectory(t *testing.T) {
	w := rt.New(t)
	s := open(t, "", w)
	if err := s.Remember(verify(t, w, w.Bundle)); err != nil {
		t.Fatal(err)
	}
	if path, err := s.KeepEvidence([]string{"a", "b"}); path != "" || err != nil {
		t.Errorf("%q, %v", path, err)
	}
	if _, err := state.Open(t.TempDir(), release.LogKey{}); err != nil {
		t.Error(err)
	}
}

// Two verifications at once lose nothing.
func TestConcurrentRemember(t *testing.T) {
	w := rt.New(t)
	dir := t.TempDir()
	results := []*release.Result{verify(t, w, w.Bundle)}
	for i := range 4 {
		results = append(results, verify(t, w, w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: uint64(i) + 2})).Bundle))
	}
	var wg sync.WaitGroup
	for _, r := range results {
		s := open(t, dir, w)
		wg.Go(func() {
			if err := s.Remember(r); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(open(t, dir, w).Trees()); n != len(results) {
		t.Errorf("%d trees, want %d", n, len(results))
	}
}

func TestAudit(t *testing.T) {
	w := rt.New(t)
	dir := t.TempDir()
	s := open(t, dir, w)
	r := verify(t, w, w.Bundle)
	c := release.NewChannel(w.Predicate(t, 3, w.Bundle))
	if err := s.RememberAudit(r.Trees[0], state.Said{Channels: map[release.Digest]*release.Channel{{9}: c}}); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, w)
	s.Fill(w.Policy)
	if s.Audited() != 1 || w.Policy.Log.Seen[0].Proved || w.Policy.Memory.Channels["minimal@stable"].Payload != (release.Digest{9}) {
		t.Errorf("audited %d, %+v", s.Audited(), w.Policy.Memory)
	}
}

// Two verifications at once are each shown another history, and each has its proof. The next one sees that they are two.
func TestForkShownAtOnce(t *testing.T) {
	w := rt.New(t)
	twin := *w
	twin.LogDir = filepath.Join(t.TempDir(), "pub")
	if err := os.CopyFS(twin.LogDir, os.DirFS(w.LogDir)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := open(t, dir, w).Remember(verify(t, w, w.Bundle)); err != nil {
		t.Fatal(err)
	}
	one, other := open(t, dir, w), open(t, dir, w)
	sequence := uint64(1)
	shown := func(s *state.State, in *rt.World, leaves int) func() error {
		var last []byte
		for range leaves {
			sequence++
			last = in.Publish(t, in.Sign(t, in.Key, sign.Options{Sequence: sequence})).Bundle
		}
		p := *w.Policy
		s.Fill(&p)
		p.Log.View = view(t, in)
		r, err := release.Verify(last, &p, rt.Now)
		if err != nil || !r.Proved {
			t.Fatalf("proved %v: %v", r.Proved, err)
		}
		return func() error { return s.Remember(r) }
	}
	first, second := shown(one, w, 1), shown(other, &twin, 2)
	if err := errors.Join(first(), second()); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]*rt.World{"the one": w, "the other": &twin} {
		for range 3 { // both longer than anything seen
			sequence++
			in.Publish(t, in.Sign(t, in.Key, sign.Options{Sequence: sequence}))
		}
		p := *w.Policy
		open(t, dir, w).Fill(&p)
		p.Log.View = view(t, in)
		if _, err := release.VerifyLog(&p.Log, rt.Now); err == nil || !strings.HasPrefix(err.Error(), "log-fork:") {
			t.Errorf("%s history: %v, want log-fork", name, err)
		}
	}
}

func view(t *testing.T, w *rt.World) *release.LogView {
	t.Helper()
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := log.ReadView(t.Context(), src, w.Log)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What a later tree was proved to contain need not be proved again, but for that tree.
func TestProved(t *testing.T) {
	w := rt.New(t)
	dir := t.TempDir()
	for n := range uint64(3) {
		bundle := w.Bundle
		if n > 0 {
			bundle = w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: n + 1})).Bundle
		}
		s, p := open(t, dir, w), *w.Policy
		s.Fill(&p)
		p.Log.View = view(t, w)
		r, err := release.Verify(bundle, &p, rt.Now)
		if err == nil {
			err = s.Remember(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		open(t, dir, w).Fill(&p)
		for i, seen := range p.Log.Seen {
			if want := i < len(p.Log.Seen)-1; seen.Proved != want || seen.Tree.N != int64(i)+1 {
				t.Errorf("after %d: tree of %d leaves, proved %v", n+1, seen.Tree.N, seen.Proved)
			}
		}
	}
}

func TestDamagedFile(t *testing.T) {
	w := rt.New(t)
	dir := t.TempDir()
	if err := open(t, dir, w).Remember(verify(t, w, w.Bundle)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "log.tally.example-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"cut": {"}\n", ""}, "key": {`"origin"`, `"orijin"`}, "schema": {"state/v1", "state/v2"}, "other log": {`"log.tally.example"`, `"log2.tally.example"`},
		"tail": {"\n}\n", "\n}\nx"}, "checkpoint": {`example\n1\n`, `example\n2\n`}, "list": {`"releases": {`, `"releases": null, "channels": {`},
		"no releases": {"\"releases\": {\n    \"minimal\": 1\n  }", `"releases": null`}, "no channels": {`"channels": {}`, `"channels": null`}, "no revocations": {`"revoked": {}`, `"revoked": null`},
		"fewer than no leaves": {`"audited": 0`, `"audited": -1`},
	} {
		bad := strings.Replace(string(good), edit[0], edit[1], 1)
		if bad == string(good) {
			t.Fatalf("%s: nothing changed in %s", name, good)
		}
		if err := os.WriteFile(files[0], []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := state.Open(dir, w.Log); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLargeFile(t *testing.T) {
	w := rt.New(t)
	dir := t.TempDir()
	if err := open(t, dir, w).Remember(verify(t, w, w.Bundle)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], append(bytes.Repeat([]byte(" "), 64<<20+1-len(good)), good...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(dir, w.Log); err == nil || !strings.Contains(err.Error(), "larger than 67108864 bytes") {
		t.Error(err)
	}
}

// A directory that cannot be written is an error: who believes that something is remembered must not be wrong.
func TestCannotRemember(t *testing.T) {
	w := rt.New(t)
	file := filepath.Join(t.TempDir(), "file")
	none := open(t, file, w)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := verify(t, w, w.Bundle)
	s := open(t, t.TempDir(), w)
	dir := t.TempDir()
	damaged := open(t, dir, w)
	if err := damaged.Remember(r); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := damaged.Remember(r); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("over a file that was damaged meanwhile: %v", err)
	}
	if path, err := s.KeepEvidence([]string{"one"}); path != "" || err != nil {
		t.Errorf("evidence of one note: %q, %v", path, err)
	}
	path, err := s.KeepEvidence([]string{"a\n", "b\n"})
	if data, rerr := os.ReadFile(path); err != nil || rerr != nil || string(data) != "a\n\nb\n" {
		t.Errorf("evidence %q: %v, %v", data, err, rerr)
	}
	if err := none.Remember(r); err == nil {
		t.Error("remembered in a file that is no directory")
	}
	if err := none.RememberAudit(r.Trees[0], state.Said{}); err == nil {
		t.Error("remembered an audit in a file that is no directory")
	}
	if _, err := none.KeepEvidence([]string{"a", "b"}); err == nil {
		t.Error("kept evidence in a file that is no directory")
	}
}

func FuzzState(f *testing.F) {
	w := rt.New(f)
	dir := f.TempDir()
	if err := open(f, dir, w).Remember(verify(f, w, w.Bundle)); err != nil {
		f.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	good, err := os.ReadFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":"tally.log-state/v1","origin":"log.tally.example","trees":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(files[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := state.Open(dir, w.Log)
		if err != nil {
			return
		}
		p := *w.Policy
		s.Fill(&p)
		for _, seen := range p.Log.Seen {
			if seen.Tree.N != 1 {
				t.Errorf("remembers a tree of %d leaves that the log never signed", seen.Tree.N)
			}
		}
		release.Verify(w.Bundle, &p, rt.Now.Add(time.Hour))
	})
}

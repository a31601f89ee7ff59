package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	"tally/release/monitor"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A watch is a monitor with the options that a test changes.
type watch struct {
	o   monitor.Options
	ran []string // versions with the size of the bundle at hand
}

func newWatch(t testing.TB, w *rt.World) *watch {
	v := &watch{}
	v.o = monitor.Options{
		Dir: filepath.Join(t.TempDir(), "state"), Policy: w.Policy, Now: func() time.Time { return rt.Now },
		Run: func(_ context.Context, r monitor.Release, bundle string) error {
			data, err := os.ReadFile(bundle)
			if err != nil {
				return err
			}
			if _, err := release.Verify(data, w.Policy, rt.Now); err != nil {
				return err
			}
			v.ran = append(v.ran, fmt.Sprint(r.Name, r.Version, r.Sequence))
			return nil
		},
	}
	v.at(t, w.LogDir)
	return v
}

func (v *watch) at(t testing.TB, place string) {
	t.Helper()
	var err error
	if v.o.Source, err = log.OpenSource(place, http.DefaultClient); err != nil {
		t.Fatal(err)
	}
}

// round opens the monitor anew, looks once and tells of it; reasons are those of the alerts that are wanted.
func (v *watch) round(t *testing.T, reasons ...release.Reason) *monitor.Report {
	t.Helper()
	m, err := monitor.Open(v.o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Round(t.Context())
	if err := errors.Join(err, m.Told(r)); err != nil {
		t.Fatal(err)
	}
	var got []release.Reason
	for _, a := range r.Alerts {
		got = append(got, a.Reason)
		if !slices.Contains(monitor.Reasons(), a.Reason) {
			t.Errorf("reason %q is not among the known ones", a.Reason)
		}
	}
	if !slices.Equal(got, reasons) {
		t.Errorf("alerts %v, want %v: %+v", got, reasons, r.Alerts)
	}
	return r
}

func TestRound(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	srv := httptest.NewServer(log.Handler(w.LogDir))
	defer srv.Close()
	for _, place := range []string{w.LogDir, srv.URL} {
		v := newWatch(t, w)
		v.at(t, place)
		r := v.round(t)
		if r.Size != 2 || r.Audited != 2 || r.Fresh != 2 || len(r.Releases) != 1 || r.Releases[0].Name != "minimal" || r.Releases[0].Index != 0 ||
			len(r.Channels) != 1 || r.Channels[0].Name != "minimal@stable" {
			t.Errorf("first round: %+v", r)
		}
		if r = v.round(t); r.Size != 2 || r.Fresh != 0 || len(r.Releases)+len(r.Channels) != 0 {
			t.Errorf("second round: %+v", r)
		}
		if !slices.Equal(v.ran, []string{"minimal0.1.01"}) {
			t.Errorf("ran %q", v.ran)
		}
		if left, err := os.ReadDir(filepath.Join(v.o.Dir, "queue")); err != nil || len(left) != 0 {
			t.Errorf("left in the queue: %v, %v", left, err)
		}
	}
}

// appendAll puts leaves into the log that no publisher would.
func appendAll(t testing.TB, w *rt.World, n int) {
	t.Helper()
	l, err := log.OpenBulk(t.Context(), w.LogDir, w.LogKey, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, "%500d", i)
	}
	if err := errors.Join(l.AppendAll(t.Context(), bodies), l.Close()); err != nil {
		t.Fatal(err)
	}
}

// The log grows past several tiles between rounds.
func TestGrows(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	for _, n := range []int{300, 5, 300} {
		appendAll(t, w, n)
		m, err := monitor.Open(v.o)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := m.Round(t.Context()); err != nil || r.Fresh != int64(n) || r.Bare != int(r.Size)-1 || len(r.Alerts) != 101 || *r.Alerts[99].Index != 100 ||
			r.Alerts[100].Text != fmt.Sprintf("%d more leaves have no bundle: nobody can tell what was logged; the first is leaf 101, the last leaf %d", r.Bare-100, r.Bare) {
			t.Fatalf("%d alerts, %d bare, size %d, %v", len(r.Alerts), r.Bare, r.Size, err)
		}
	}
}

func TestNoBundle(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	b, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(b.Entry.Body)))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r := v.round(t, monitor.NoBundle); r.Bare != 1 || *r.Alerts[0].Index != 0 || len(r.Releases) != 0 {
		t.Errorf("%+v", r)
	}
	v.round(t, monitor.NoBundle)
	// It comes while the monitor waits, and then it is a release like any other.
	v.o.Wait = 20 * time.Second
	time.AfterFunc(300*time.Millisecond, func() { // whole at once, as a publisher puts it there
		os.WriteFile(path+".new", w.Bundle, 0o644)
		os.Rename(path+".new", path)
	})
	if r := v.round(t); r.Bare != 0 || len(r.Releases) != 1 || len(v.ran) != 1 {
		t.Errorf("%+v, ran %v", r, v.ran)
	}
	v.round(t)
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	other := rt.Key(t)
	if _, err := w.TryPublish(t.Context(), t, w.Sign(t, other, sign.Options{Sequence: 2}), other.Public()); err != nil {
		t.Fatal(err)
	}
	if r := v.round(t, release.BadIdentity); *r.Alerts[0].Index != 1 || len(r.Releases) != 0 {
		t.Errorf("%+v", r)
	}
	v.round(t) // once
	// Without a policy of signers it is a release.
	free := *w.Policy
	free.Signers, v.o.Run = nil, nil
	v.o.Policy, v.o.Dir = &free, filepath.Join(t.TempDir(), "free")
	if r := v.round(t, monitor.Unexpected); len(r.Releases) != 2 || r.Releases[1].Signer != other.Public().ID() {
		t.Errorf("%+v", r)
	}
}

// An old key that was stolen: what it signs now is seen, what it signed before the monitor came is not judged.
func TestExpiredSigner(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	p := *w.Policy
	p.Signers = []release.Signer{{Key: w.Key.Public(), NotAfter: rt.Now}}
	v.o.Policy = &p
	v.round(t)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	v.round(t, release.Expired, monitor.Unexpected)
	p.Signers = []release.Signer{{Key: w.Key.Public(), NotBefore: rt.Now.Add(1)}}
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3}))
	v.round(t, release.NotYetValid, monitor.Unexpected)
}

func TestUnexpectedAndRevoked(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	second := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	if r := v.round(t, monitor.Unexpected); !strings.Contains(r.Alerts[0].Text, "0.1.0 is released a second time") || len(r.Releases) != 1 {
		t.Errorf("%+v", r)
	}
	p := w.Predicate(t, 7, second)
	d, _ := rt.Payload(t, w.Bundle)
	p.Revoked = []release.Revocation{{Statement: d, Reason: "bad day", Since: rt.Now}}
	w.Channel(t, w.Key, p)
	if r := v.round(t, release.Revoked); !strings.Contains(r.Alerts[0].Text, `"bad day"`) {
		t.Errorf("%+v", r)
	}
	v.round(t) // once
	// An older statement, logged by a publisher that lost its directory's index.
	if err := os.Remove(filepath.Join(w.LogDir, publish.ChannelPath("minimal@stable"))); err != nil {
		t.Fatal(err)
	}
	w.Channel(t, w.Key, w.Predicate(t, 6, w.Bundle))
	v.round(t, release.Rollback, release.Rollback) // the sequence, and the revoked one is current
}

// copyLog copies the log's directory: the same key can then sign two histories.
func copyLog(t *testing.T, w *rt.World) *rt.World {
	dir := filepath.Join(t.TempDir(), "pub")
	if err := os.CopyFS(dir, os.DirFS(w.LogDir)); err != nil {
		t.Fatal(err)
	}
	c := *w
	c.LogDir = dir
	return &c
}

func TestForks(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	old, twin := copyLog(t, w), copyLog(t, w)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	third := w.Sign(t, w.Key, sign.Options{Sequence: 3})
	honest := w.Publish(t, third)
	twin.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 9}))
	forged := twin.Publish(t, third)
	if honest.Index != 2 || forged.Index != 2 {
		t.Fatal("the test's logs are not what it means")
	}
	v := newWatch(t, w)
	v.o.Run = nil
	v.round(t, monitor.Unexpected, monitor.Unexpected)
	before := remembered(t, v)
	for place, want := range map[string]release.Reason{twin.LogDir: release.LogFork, old.LogDir: release.LogStale} {
		v.at(t, place)
		for range 2 { // every time
			r := v.round(t, want)
			if want == release.LogFork {
				checkEvidence(t, w, r.Alerts[0].Evidence)
			}
		}
	}
	if remembered(t, v) != before {
		t.Error("a fork changed what is remembered")
	}
	// The log as it was, but one bundle carries a proof from the other history.
	if err := os.WriteFile(filepath.Join(w.LogDir, honest.Path), forged.Bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	v.at(t, w.LogDir)
	v.round(t) // seen before, and not read again
	v.o.Dir = filepath.Join(t.TempDir(), "new")
	r := v.round(t, monitor.Unexpected, release.LogFork, monitor.Unexpected)
	checkEvidence(t, w, r.Alerts[1].Evidence)
}

func remembered(t *testing.T, v *watch) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(v.o.Dir, "*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return string(all)
}

// checkEvidence wants two checkpoints in the file that the log signed.
func checkEvidence(t *testing.T, w *rt.World, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	origin := w.Log.Origin() + "\n"
	notes := strings.SplitAfter(string(data), "\n\n")
	if strings.Count(string(data), origin) < 2 || len(notes) < 3 {
		t.Fatalf("evidence:\n%s", data)
	}
	second := strings.LastIndex(string(data), "\n"+origin)
	for _, note := range []string{string(data[:second]), string(data[second+1:])} {
		if _, err := w.Log.OpenCheckpoint([]byte(note)); err != nil {
			t.Errorf("%v in\n%s", err, note)
		}
	}
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		edit func([]byte) []byte
		want string
	}{
		"hash tile":    {"tile/0/000.p/2", func(b []byte) []byte { b[40] ^= 1; return b }, "hash 1 of tile 0 of level 0"},
		"short tile":   {"tile/0/000.p/2", func(b []byte) []byte { return b[:63] }, "63 bytes, want 64"},
		"entry":        {"tile/entries/000.p/2", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "hash 1 of tile 0 of level 0"},
		"entry cut":    {"tile/entries/000.p/2", func(b []byte) []byte { return b[:len(b)-1] }, "leaf 1 of 2 is cut short"},
		"entry longer": {"tile/entries/000.p/2", func(b []byte) []byte { return append(b, 0) }, "1 bytes after 2 leaves"},
		"entries gone": {"tile/entries/000.p/2", nil, "tile/entries/000.p/2"},
		"tile gone":    {"tile/0/000.p/2", nil, "tile/0/000.p/2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := rt.New(t)
			w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
			path := filepath.Join(w.LogDir, filepath.FromSlash(c.file))
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			whole := slices.Clone(data)
			if c.edit == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, c.edit(data), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			v := newWatch(t, w)
			if r := v.round(t, monitor.Damaged); !strings.Contains(r.Alerts[0].Text, c.want) || len(r.Releases) != 0 || len(v.ran) != 0 {
				t.Errorf("%+v, ran %v; want %q", r, v.ran, c.want)
			}
			if err := os.WriteFile(path, whole, 0o644); err != nil {
				t.Fatal(err)
			}
			if r := v.round(t, monitor.Unexpected); len(r.Releases) != 2 {
				t.Errorf("mended: %+v", r)
			}
		})
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	good := v.o.Run
	ctx, cancel := context.WithCancel(t.Context())
	v.o.Run = func(context.Context, monitor.Release, string) error { cancel(); return errors.New("killed") }
	m, err := monitor.Open(v.o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Round(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted command: %v", err)
	}
	v.o.Run = nil // it waits for a monitor that has a command
	v.round(t)
	v.o.Run = good
	v.round(t)
	if len(v.ran) != 1 {
		t.Errorf("not run again: %v", v.ran)
	}
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	v.o.Run = func(context.Context, monitor.Release, string) error { return errors.New("bytes differ") }
	if r := v.round(t, monitor.Unexpected, monitor.Command); !strings.Contains(r.Alerts[1].Text, "bytes differ") {
		t.Errorf("%+v", r)
	}
	v.round(t) // not again
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	v.round(t)
	file, err := filepath.Glob(filepath.Join(v.o.Dir, "*.monitor.json"))
	if err != nil || len(file) != 1 {
		t.Fatal(file, err)
	}
	data, err := os.ReadFile(file[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{`"size": 1`, `"size": -1`}, {"{", `{"more":1,`}, {"/v1", "/v2"}, {"\n}", "\n}{}"}, {`"root": "`, `"root": "A`}, {"log.tally.example", "log.tally.exomple"}} {
		if err := os.WriteFile(file[0], []byte(strings.Replace(string(data), c[0], c[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := monitor.Open(v.o); err == nil || !strings.Contains(err.Error(), "audits the log from its beginning") {
			t.Errorf("%q: %v", c[1], err)
		}
	}
	// A log that is not there is no verdict.
	v.o.Dir = t.TempDir()
	v.at(t, t.TempDir())
	m, err := monitor.Open(v.o)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := m.Round(t.Context()); err == nil {
		t.Errorf("%+v", r)
	}
	for _, o := range []monitor.Options{{Dir: v.o.Dir, Policy: new(release.Policy)}, {Policy: w.Policy}} {
		if _, err := monitor.Open(o); err == nil {
			t.Errorf("opened with %+v", o)
		}
	}
}

// Rebuild statements are signed by whom the policy names as rebuilders, and by nobody else.
func TestRebuilds(t *testing.T) {
	t.Parallel()
	w := rt.New(t)
	v := newWatch(t, w)
	rebuilder := rt.Key(t)
	p := *w.Policy
	p.Rebuilders = release.RebuilderPolicy{Keys: []release.Signer{{Key: rebuilder.Public()}}}
	v.o.Policy = &p
	v.round(t)
	w.Rebuild(t, rebuilder, w.Bundle, nil)
	if r := v.round(t); len(r.Rebuilds) != 1 || r.Rebuilds[0].Result != release.Reproduced || r.Rebuilds[0].Signer != rebuilder.Public().ID() {
		t.Errorf("%+v", r)
	}
	w.Rebuild(t, rebuilder, w.Bundle, func(r *release.Rebuild) {
		r.Predicate.Result, r.Predicate.Differences = release.Differs, []release.Difference{{Name: "extra", Status: "EXTRA", Got: &release.Digest{1}}}
	})
	if r := v.round(t, release.Mismatch); len(r.Rebuilds) != 1 {
		t.Errorf("%+v", r)
	}
	w.Rebuild(t, w.Key, w.Bundle, nil)
	v.round(t, release.BadIdentity)
}

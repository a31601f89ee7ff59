package publish_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// die does what a publisher did that was killed on its way: its bundle is pending, and, if logged says so, in the log.
func die(t *testing.T, w *rt.World, data []byte, signer release.PublicKey, id release.Digest, logged bool) (pending, bundle string) {
	t.Helper()
	b, err := release.ParseBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	pending = filepath.Join(w.LogDir, ".pending", release.PayloadDigest(b).String()+"-"+id.String())
	if err := errors.Join(os.WriteFile(pending, data, 0o644), os.WriteFile(filepath.Join(w.LogDir, ".pending", "busy"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	body := release.LeafBody(&b.Envelope, signer)
	if logged {
		l := w.Open(t)
		_, err := l.Append(t.Context(), body)
		if err := errors.Join(err, l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return pending, filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(body)))
}

func finishBegun(t *testing.T, w *rt.World, but release.Digest) map[string]publish.Finished {
	t.Helper()
	l := w.Open(t)
	all, err := publish.FinishBegun(t.Context(), l, but)
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	out := map[string]publish.Finished{}
	for _, f := range all {
		out[filepath.Join(w.LogDir, f.Path)] = f
	}
	return out
}

// What was logged and not stored is stored by whoever publishes next, without its signer; what was not logged stays.
func TestFinishBegun(t *testing.T) {
	w, rebuilder := rt.New(t), rt.Key(t)
	if all := finishBegun(t, w, release.Digest{}); len(all) != 0 {
		t.Errorf("nothing was begun, and finished: %v", all)
	}
	key, id := w.Key.Public(), w.Key.Public().ID()
	second := w.Sign(t, w.Key, sign.Options{Sequence: 2})
	pending, stored := die(t, w, second, key, id, true)
	rb, err := sign.Rebuild(rt.RebuildOf(t, w.Bundle, nil), rebuilder)
	if err != nil {
		t.Fatal(err)
	}
	pendingRebuild, storedRebuild := die(t, w, rt.Marshal(t, rb), rebuilder.Public(), rebuilder.Public().ID(), true)
	data := certified(t, w.Sign(t, w.Key, sign.Options{Sequence: 3}))
	cb, err := release.ParseBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	ck, err := cb.CertificateKey()
	if err != nil {
		t.Fatal(err)
	}
	pendingCertified, storedCertified := die(t, w, data, ck, release.Digest{9}, true)
	never, _ := die(t, w, w.Sign(t, w.Key, sign.Options{Sequence: 4}), key, id, false)
	ch, err := sign.Channel(release.NewChannel(w.Predicate(t, 1, w.Bundle)), w.Key)
	if err != nil {
		t.Fatal(err)
	}
	channel, _ := die(t, w, rt.Marshal(t, ch), key, id, true)
	garbage := filepath.Join(w.LogDir, ".pending", release.Digest{1}.String()+"-"+id.String())
	if err := os.WriteFile(garbage, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	payload, _ := rt.Payload(t, second)
	if f, ok := finishBegun(t, w, payload)[pending]; ok {
		t.Errorf("what is about to be published: %+v", f)
	}

	all := finishBegun(t, w, release.Digest{})
	if f := all[pending]; f.Err != nil || f.Index != 1 {
		t.Errorf("release: %+v", f)
	}
	for _, file := range []string{stored, storedRebuild, storedCertified} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	for _, file := range []string{pending, pendingRebuild, pendingCertified} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s stays", file)
		}
	}
	for file, want := range map[string]string{never: "never logged", channel: "channel minimal@stable", garbage: "bundle"} {
		if _, err := os.Stat(file); err != nil || all[file].Err == nil || !strings.Contains(all[file].Err.Error(), want) {
			t.Errorf("%s: %v, %+v", file, err, all[file])
		}
	}
	if len(all) != 4 { // the rebuild and the certified one were finished the first time
		t.Errorf("%+v", all)
	}
	released, _ := rt.Payload(t, w.Bundle)
	if _, err := os.Stat(filepath.Join(w.LogDir, "rebuilds", released.String()+"-"+rebuilder.Public().ID().String())); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := release.Verify(got, w.Policy, rt.Now); err != nil || r.Payload != payload {
		t.Error(err)
	}
	if again := w.Publish(t, second); !again.Already || !bytes.Equal(again.Bundle, got) || again.Index != 1 {
		t.Errorf("published again: %+v", again)
	}
}

// A release that is finished late takes its name from those before it, and from none after it.
func TestFinishBegunName(t *testing.T) {
	w := rt.New(t)
	index := filepath.Join(w.LogDir, "names", "minimal@0.1.0")
	for sequence := uint64(2); sequence <= 4; sequence += 2 {
		late := w.Sign(t, w.Key, sign.Options{Sequence: sequence})
		want, _ := rt.Payload(t, late)
		pending, _ := die(t, w, late, w.Key.Public(), w.Key.Public().ID(), true)
		if sequence == 4 {
			next := w.Sign(t, w.Key, sign.Options{Sequence: sequence + 1})
			want, _ = rt.Payload(t, next)
			w.Publish(t, next)
		}
		if f := finishBegun(t, w, release.Digest{})[pending]; f.Err != nil {
			t.Error(f.Err)
		}
		if text, err := os.ReadFile(index); err != nil || string(text) != want.String()+"\n" {
			t.Errorf("sequence %d: the name leads to %s, %v", sequence, text, err)
		}
	}
}

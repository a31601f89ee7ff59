package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/publish"
	"tally/release/sign"
)

// TestPublishFinishesOthers: a release whose publication died after its leaf was logged is finished by the next publication of
// another one, of whatever kind and by whomever; what was not logged is named, and stays.
func TestPublishFinishesOthers(t *testing.T) {
	t.Setenv("COSIGN_PASSWORD", "x")
	w, dir := newFetchWorld(t), t.TempDir()
	begin := func(sequence uint64, logged bool) (stored, pending string) {
		data := w.Sign(t, w.Key, sign.Options{Sequence: sequence})
		b, err := release.ParseBundle(data)
		if err != nil {
			t.Fatal(err)
		}
		pending = filepath.Join(w.LogDir, ".pending", release.PayloadDigest(b).String()+"-"+w.Key.Public().ID().String())
		if err := os.WriteFile(pending, data, 0o644); err != nil {
			t.Fatal(err)
		}
		body := release.LeafBody(&b.Envelope, w.Key.Public())
		if logged {
			l := w.Open(t)
			_, err := l.Append(t.Context(), body)
			if err := errors.Join(err, l.Close()); err != nil {
				t.Fatal(err)
			}
		}
		return filepath.Join(w.LogDir, publish.BundlePath(release.LeafHash(body))), pending
	}
	_, never := begin(9, false)
	put := func(name string, data []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	pub, third, other := put("key.pub", w.Key.Public().PEM()), put("three.json", w.Sign(t, w.Key, sign.Options{Sequence: 3})), filepath.Join(dir, "other")
	if code, _, talk := run(t, "release", "keygen", "-o", other); code != exitOK {
		t.Fatal(talk)
	}
	for i, args := range [][]string{
		{"release", "publish", third, w.Out, "--signer", pub},
		{"release", "channel", "minimal@beta", "--key", other + ".key", "--current", third},
	} {
		stored, pending := begin(uint64(20+i), true)
		code, out, talk := run(t, append(args, "--log", w.LogDir, "--log-key", w.LogKey)...)
		_, serr := os.Stat(stored)
		_, perr := os.Stat(pending)
		if code != exitOK || serr != nil || !errors.Is(perr, os.ErrNotExist) || !strings.Contains(talk, pending+" of an earlier run is finished, at index ") ||
			!strings.Contains(talk, never+" of an earlier run is not finished and stays: was begun and never logged") {
			t.Errorf("%q: exit %d, %v, %v\n%s%s", args, code, serr, perr, out, talk)
		}
	}
	if _, err := os.Stat(never); err != nil {
		t.Error(err)
	}
}

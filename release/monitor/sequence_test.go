package monitor_test

import (
	"testing"
	"time"

	"tally/release"
	"tally/release/monitor"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// Versions and sequences come once; the same words by another signer are no news.
func TestSequences(t *testing.T) {
	t.Parallel()
	w, second := rt.New(t), rt.Key(t)
	w.Policy.Signers = append(w.Policy.Signers, release.Signer{Key: second.Public()})
	v := newWatch(t, w)
	v.o.Run = nil
	v.round(t)
	publish := func(k *sign.Key, version string, sequence uint64) []byte {
		t.Helper()
		s := w.Statement(t, sign.Options{Sequence: sequence})
		s.Predicate.Release.Version = version
		p, err := w.TryPublish(t.Context(), t, rt.Marshal(t, must(sign.Sign(s, k))), k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return p.Bundle
	}
	look := func(releases, channels int, reasons ...release.Reason) {
		t.Helper()
		if r := v.round(t, reasons...); len(r.Releases) != releases || len(r.Channels) != channels {
			t.Errorf("%d releases, %d channels, want %d, %d", len(r.Releases), len(r.Channels), releases, channels)
		}
	}
	publish(w.Key, "0.2.0", 1)
	look(1, 0, monitor.Unexpected) // another version of the same sequence
	third := publish(w.Key, "0.3.0", 2)
	look(1, 0)
	publish(second, "0.3.0", 2)
	look(0, 0)
	publish(w.Key, "0.4.0", 1)
	look(1, 0, monitor.Unexpected)
	publish(w.Key, "0.5.0", 2) // what came late has not lowered the mark
	look(1, 0, monitor.Unexpected)

	q := w.Predicate(t, 5, third)
	w.Channel(t, w.Key, q)
	look(0, 1)
	unpublish(t, w)
	w.Channel(t, second, q)
	look(0, 0)
	unpublish(t, w)
	q.ValidUntil = q.ValidUntil.Add(time.Hour)
	w.Channel(t, w.Key, q)
	look(0, 1, release.Rollback) // two of one sequence
	unpublish(t, w)
	q.Sequence = 4
	w.Channel(t, w.Key, q)
	look(0, 1, release.Rollback)
	unpublish(t, w)
	q.Sequence = 5
	q.ValidUntil = q.ValidUntil.Add(time.Hour)
	w.Channel(t, w.Key, q)
	look(0, 1, release.Rollback)
	if m := remembers(t, v, w); m.Channels["minimal@stable"].Sequence != 5 {
		t.Errorf("remembered: %+v", m)
	}
}

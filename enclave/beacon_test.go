package enclave_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/evidence"
)

// noted dates are in the beacon itself, in Unix seconds.
type noted struct{}

func (noted) Cosigned(b []byte) (time.Time, error) {
	return time.Parse(time.RFC3339, string(b))
}

func (noted) String() string { return "log.example" }

// TestBeacon follows a client that wants new keys through the life of an enclave whose host stops handing over
// beacons, and hands over others.
func TestBeacon(t *testing.T) {
	clock := newClock()
	opt := options(t)
	opt.Now = clock.now
	missed := new(atomic.Int32)
	opt.Observe = func(e enclave.Event) {
		if e.What == enclave.BeaconFailed {
			missed.Add(1)
		}
	}
	var host atomic.Pointer[func() ([]byte, error)]
	say := func(b string, err error) {
		f := func() ([]byte, error) { return []byte(b), err }
		host.Store(&f)
	}
	stamp := func() string { return clock.now().UTC().Format(time.RFC3339) }
	opt.Beacon = func(context.Context) ([]byte, error) { return (*host.Load())() }
	say(stamp(), nil)
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	cfg := config()
	cfg.Now = clock.now
	cfg.Policy.Freshness, cfg.Policy.Beacons = appraise.FreshKey, &appraise.Beacons{Dates: noted{}, MaxAge: 30 * time.Hour}
	accepted := func(step string) {
		t.Helper()
		s := dial(t, addr, cfg)
		checks := s.Result().Checks
		if last := checks[len(checks)-1]; last.Name != "freshness" || last.Status != appraise.OK {
			t.Errorf("%s: %+v", step, last)
		}
		s.Close(t.Context())
	}
	refused := func(step, words string) {
		t.Helper()
		if err := dialError(t, addr, cfg); err == nil || !strings.Contains(err.Error(), "freshness: "+words) {
			t.Errorf("%s: %v, want %q", step, err, words)
		}
	}
	accepted("first key")
	clock.add(23 * time.Hour) // the next key is made ahead, with a beacon that is new
	say(stamp(), nil)
	accepted("first key, at its end")
	clock.add(2 * time.Hour)
	accepted("second key")
	say("", errors.New("no route to host"))
	clock.add(25 * time.Hour)
	refused("third key, without a beacon", "no beacon in the key evidence")
	clock.add(25 * time.Hour)
	say(strings.Repeat("x", evidence.MaxBeacon+1), nil)
	refused("fourth key, with a beacon too long", "no beacon in the key evidence")
	clock.add(25 * time.Hour)
	say("2026-01-01T00:00:00Z", nil)
	refused("a key with an old beacon", "cosigned 2026-01-01T00:00:00Z, ")
	clock.add(25 * time.Hour)
	say(stamp(), nil)
	accepted("a key with a new one")
	if n := missed.Load(); n != 2 {
		t.Errorf("%d keys made without a beacon, want 2", n)
	}
}

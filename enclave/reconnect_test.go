package enclave_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/client"
)

// TestReconnect follows a client with pins through the life of two enclaves' keys.
func TestReconnect(t *testing.T) {
	for _, full := range []channel.Kind{channel.Hybrid, channel.Classical} {
		again, gone := channel.HybridReconnect, channel.Hybrid
		if full == channel.Classical {
			again, gone = channel.ClassicalReconnect, channel.ClassicalFallback
		}
		clock := newClock()
		opt := options(t)
		opt.Now, opt.Kinds, opt.KeySessions = clock.now, []channel.Kind{full}, 4
		one, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
		opt.KeySessions = 0
		two, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
		cfg := config()
		cfg.Now, cfg.Kinds, cfg.Pins = clock.now, []channel.Kind{full}, new(client.Pins)
		visit := func(step, addr string, want channel.Kind) {
			t.Helper()
			s := dial(t, addr, cfg)
			if got := s.Peer().Kind; got != want {
				t.Errorf("%s: %v, want %v", step, got, want)
			}
			if got, err := s.Do(t.Context(), []byte("hello")); err != nil || string(got) != "hello" {
				t.Errorf("%s: %q, %v", step, got, err)
			}
			if !s.Result().Accepted {
				t.Errorf("%s: no result of this session", step)
			}
			s.Close(t.Context())
		}
		visit("first", one, full)
		visit("second", one, again)
		visit("another enclave of the service", two, gone)
		visit("and again", two, again)
		visit("back", one, gone)
		visit("the key's last session", one, again)
		visit("after rotation", one, gone)
		visit("the new key", one, again)
		clock.add(25 * time.Hour)
		visit("the pin is past its time", one, full)
		// A policy that changed applies to pinned evidence, and the pin goes.
		strict := cfg
		strict.Policy = appraise.Policy{Platforms: []string{"snp"}}
		var refused *appraise.Error
		if _, err := client.Dial(t.Context(), new(net.Dialer), one, strict); !errors.As(err, &refused) || refused.Result.Reason != appraise.BadPlatform {
			t.Errorf("pinned evidence under another policy: %v", err)
		}
		visit("without a pin", one, full)
	}
}

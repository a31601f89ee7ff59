package enclave_test

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/channel"
)

// TestEvents: what is counted of a key, a handshake, a session, its records and reports, with the time that each of them took.
func TestEvents(t *testing.T) {
	var mu sync.Mutex
	var seen []enclave.Event
	now := time.Unix(1767225600, 0)
	opt := options(t)
	opt.SessionWindow = time.Millisecond
	opt.Now = func() time.Time { // each look at the clock is a millisecond later
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Millisecond)
		return now
	}
	opt.Observe = func(e enclave.Event) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, e)
	}
	tsm := new(slowTSM)
	addr, stop := start(t, tsm, enclave.Echo{}, opt)
	cfg := config()
	cfg.Policy.Freshness = appraise.FreshSession
	s := dial(t, addr, cfg)
	for range 10 {
		if err := s.Exchange(t.Context(), strings.NewReader("hello"), io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	tsm.fail.Store(true)
	var refused *appraise.Error
	if err := dialError(t, addr, cfg); !errors.As(err, &refused) {
		t.Errorf("without a report: %v", err)
	}
	if conn, err := net.Dial("tcp", addr); err != nil {
		t.Error(err)
	} else {
		conn.Close() // no handshake
	}
	waitFor(t, func() bool {
		time.Sleep(10 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(seen, func(e enclave.Event) bool { return e.What == enclave.HandshakeFailed })
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	count := map[enclave.Event]int{}
	for _, e := range seen {
		timed := slices.Contains([]enclave.What{enclave.NewKey, enclave.SessionOpened, enclave.SessionEnded, enclave.ReportMade, enclave.ReportFailed, enclave.RecordSealed, enclave.RecordOpened}, e.What)
		if timed != (e.Took > 0) || e.Took > time.Minute {
			t.Errorf("%+v", e)
		}
		if e.Took = 0; e.What == enclave.SessionEnded || e.What == enclave.HandshakeFailed {
			e.Reason = ""
		}
		count[e]++
	}
	for e, want := range map[enclave.Event]int{
		{What: enclave.KeyReady}: 1, {What: enclave.NewKey}: 1, {What: enclave.RecordSealed}: 1, {What: enclave.RecordOpened}: 1, {What: enclave.HandshakeBegun}: 3, {What: enclave.SessionOpened, Kind: channel.Hybrid}: 2, {What: enclave.HandshakeFailed}: 1, {What: enclave.SessionEnded}: 2,
		{What: enclave.ReportMade, Reason: "key"}: 1, {What: enclave.ReportMade, Reason: "session"}: 1, {What: enclave.ReportFailed, Reason: "session"}: 1,
	} {
		if count[e] != want {
			t.Errorf("%+v: %d, want %d of %+v", e, count[e], want, count)
		}
	}
}

package enclave_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/evidence"
)

// slowTSM signs one report after another.
type slowTSM struct {
	takes   time.Duration
	reports atomic.Int32
	at      atomic.Int32 // how many at this moment
	fail    atomic.Bool
}

func (*slowTSM) Platform() string { return "insecure" }

func (s *slowTSM) Attest(_ context.Context, rd [64]byte) ([]byte, []byte, error) {
	if s.at.Add(1) > 1 {
		return nil, nil, errors.New("two reports at once")
	}
	defer s.at.Add(-1)
	s.reports.Add(1)
	time.Sleep(s.takes)
	if s.fail.Load() {
		return nil, nil, errors.New("the TSM is broken")
	}
	return rd[:], nil, nil
}

// TestSessionsShareReports: many sessions at once get evidence each, by few reports.
func TestSessionsShareReports(t *testing.T) {
	tsm := &slowTSM{takes: 20 * time.Millisecond}
	s, err := enclave.NewSessionAttester(tsm, 30*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			h := [32]byte{byte(i), byte(i >> 8)}
			b, err := s.Attest(t.Context(), h, [32]byte{2}, [32]byte{3})
			if err != nil {
				t.Error(err)
				return
			}
			d, err := evidence.ParseSession(b)
			if err != nil {
				t.Error(err)
				return
			}
			root, err := d.Root(evidence.SessionLeaf(h, [32]byte{2}, [32]byte{3}))
			if rd := evidence.SessionReportData(root); err != nil || string(rd[:]) != string(d.Report) {
				t.Errorf("session %d: the report is not over its handshake, %v", i, err)
			}
			// Another session's handshake is not proven by this document.
			if root, err := d.Root(evidence.SessionLeaf([32]byte{0xff, 0xff}, [32]byte{2}, [32]byte{3})); err == nil {
				if rd := evidence.SessionReportData(root); string(rd[:]) == string(d.Report) {
					t.Errorf("session %d: the document proves another's handshake", i)
				}
			}
		}()
	}
	wg.Wait()
	if got := tsm.reports.Load(); got < 1 || got > 50 {
		t.Errorf("%d reports for %d sessions that came together", got, n)
	}
}

// TestOneReportAtATime: hardware that is asked while it signs gets no second question; who comes meanwhile shares the next report.
func TestOneReportAtATime(t *testing.T) {
	tsm := &slowTSM{takes: 300 * time.Millisecond}
	s, err := enclave.NewSessionAttester(tsm, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 40 * time.Millisecond)
			if _, err := s.Attest(t.Context(), [32]byte{byte(i)}, [32]byte{2}, [32]byte{3}); err != nil {
				t.Errorf("session %d: %v", i, err)
			}
		})
	}
	if wg.Wait(); tsm.reports.Load() < 2 || tsm.reports.Load() > 3 {
		t.Errorf("%d reports, want one and then one for all others", tsm.reports.Load())
	}
}

func TestSessionAttesterFails(t *testing.T) {
	tsm := &slowTSM{}
	tsm.fail.Store(true)
	s, err := enclave.NewSessionAttester(tsm, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Attest(t.Context(), [32]byte{1}, [32]byte{2}, [32]byte{3}); err == nil || err.Error() != "enclave: attesting 1 sessions: the TSM is broken" {
		t.Errorf("%v", err)
	}
	tsm.fail.Store(false)
	if _, err := s.Attest(t.Context(), [32]byte{1}, [32]byte{2}, [32]byte{3}); err != nil {
		t.Errorf("after a failure: %v", err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the client left"))
	if _, err := s.Attest(gone, [32]byte{1}, [32]byte{2}, [32]byte{3}); err == nil || err.Error() != "the client left" {
		t.Errorf("%v", err)
	}
	if _, err := enclave.NewSessionAttester(nil, 0); err == nil {
		t.Error("no attester, no error")
	}
	if _, err := enclave.NewSessionAttester(tsm, time.Hour); err == nil {
		t.Error("a window of an hour")
	}
}

// TestExpectedSession: a window begins with a handshake, serves who comes in it, and asks the hardware for nothing
// when nobody does.
func TestExpectedSession(t *testing.T) {
	tsm := &slowTSM{}
	const window = time.Second
	s, err := enclave.NewSessionAttester(tsm, window)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() time.Duration {
		t.Helper()
		at := time.Now()
		if _, err := s.Attest(t.Context(), [32]byte{1}, [32]byte{2}, [32]byte{3}); err != nil {
			t.Error(err)
		}
		return time.Since(at)
	}
	s.Expect()
	time.Sleep(window / 2)
	s.Expect() // which begins nothing anew
	if took := ask(); took > window*9/10 {
		t.Errorf("a session whose handshake took half a window waited %v more", took)
	}
	s.Expect()
	time.Sleep(window * 3 / 2)
	if got := tsm.reports.Load(); got != 1 {
		t.Errorf("%d reports, want 1: nobody came in the second window", got)
	}
	if took := ask(); took < window*9/10 || tsm.reports.Load() != 2 {
		t.Errorf("after an empty window: %v, %d reports", took, tsm.reports.Load())
	}
}

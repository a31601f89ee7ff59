package enclave

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tally/enclave/evidence"
)

// SessionWindow is how long a session may wait for others to share its report with, its handshake included.
const SessionWindow = 100 * time.Millisecond

// A SessionAttester gives sessions evidence of their own. Hardware signs a few reports a second, so the
// handshakes of a window go into one tree, and one report over its root serves them all.
type SessionAttester struct {
	attester Attester
	window   time.Duration
	report   time.Duration             // how long one report may take
	asking   func() (done func(error)) // told of each report; may be nil

	mu   sync.Mutex
	open *batch // takes leaves; nil: the next leaf begins one

	turn chan struct{} // one report at a time
}

// A batch is the sessions of one window.
type batch struct {
	leaves [][32]byte
	full   chan struct{} // closed when no leaf fits any more
	done   chan struct{} // closed when the rest is set
	tree   *evidence.Tree
	report evidence.SessionDocument // what all documents have in common
	err    error
}

// NewSessionAttester returns one over a. window 0 means SessionWindow.
func NewSessionAttester(a Attester, window time.Duration) (*SessionAttester, error) {
	if a == nil || window < 0 || window > time.Minute {
		return nil, errors.New("enclave: session attester: want an attester and a window of at most a minute")
	}
	setInt(&window, SessionWindow)
	return &SessionAttester{attester: a, window: window, report: 30 * time.Second, turn: make(chan struct{}, 1)}, nil
}

// Attest waits for the report of the window and returns the session's document (evidence.SessionDocument).
// handshake is the Noise handshake hash, nonce the client's, static the enclave's key.
func (s *SessionAttester) Attest(ctx context.Context, handshake, nonce, static [32]byte) ([]byte, error) {
	d, err := s.attest(ctx, handshake, nonce, static)
	if err != nil {
		return nil, err
	}
	return d.Marshal()
}

func (s *SessionAttester) attest(ctx context.Context, handshake, nonce, static [32]byte) (*evidence.SessionDocument, error) {
	b, i := s.join(evidence.SessionLeaf(handshake, nonce, static))
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx) // the others' report goes on
	}
	if b.err != nil {
		return nil, b.err
	}
	d, err := b.tree.Prove(i)
	if err != nil {
		return nil, err
	}
	d.Platform, d.Report, d.Endorsements = b.report.Platform, b.report.Report, b.report.Endorsements
	return d, nil
}

// Expect begins a window, unless one is open, because a peer has begun a handshake: what a session waits for its report
// is then not added to what its handshake takes. A window in which nobody asks in the end has no report.
func (s *SessionAttester) Expect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
}

// begin returns the open batch. The caller holds mu.
func (s *SessionAttester) begin() *batch {
	if s.open == nil {
		s.open = &batch{done: make(chan struct{}), full: make(chan struct{})}
		go s.run(s.open)
	}
	return s.open
}

// join adds a leaf to the open batch.
func (s *SessionAttester) join(leaf [32]byte) (*batch, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.begin()
	b.leaves = append(b.leaves, leaf)
	if len(b.leaves) == evidence.MaxSessions {
		s.open = nil
		close(b.full)
	}
	return b, len(b.leaves) - 1
}

// run waits for the window and for the report before this one; sessions may join until then.
func (s *SessionAttester) run(b *batch) {
	defer close(b.done)
	t := time.NewTimer(s.window)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.full:
	}
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.mu.Lock()
	if s.open == b {
		s.open = nil
	}
	s.mu.Unlock()
	if len(b.leaves) == 0 { // expected, but nobody came
		return
	}
	if b.tree, b.err = evidence.NewTree(b.leaves); b.err != nil {
		return
	}
	// No session's context: one that gives up must not take the report from the others.
	ctx, cancel := context.WithTimeout(context.Background(), s.report)
	defer cancel()
	b.report.Platform = s.attester.Platform()
	done := func(error) {}
	if s.asking != nil {
		done = s.asking()
	}
	b.report.Report, b.report.Endorsements, b.err = s.attester.Attest(ctx, evidence.SessionReportData(b.tree.Root()))
	done(b.err)
	if b.err != nil {
		b.err = fmt.Errorf("enclave: attesting %d sessions: %w", len(b.leaves), b.err)
	}
}

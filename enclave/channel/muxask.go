package channel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Times for an answer.
const (
	AnswerTimeout = 10 * time.Second // an enclave has, to make the documents
	AskTimeout    = 30 * time.Second // a client waits by default, for making and sending
)

// ErrNoDocument is what MuxOptions.Answer returns for a document that this enclave does not have at all.
var ErrNoDocument = errors.New("channel: no such document")

// ErrBadAnswer means that what came is not the answer to what was asked.
var ErrBadAnswer = errors.New("channel: malformed answer")

// An Answer is what an enclave gave; a document that was not asked for is nil. Whoever asked judges it.
type Answer struct{ Session, GPU, Credential []byte }

// An AnswerError is the enclave's word that it does not give a document.
type AnswerError struct {
	Document Documents
	Status   Status // StatusNone or StatusFailed
}

// Error says which document and why.
func (e *AnswerError) Error() string {
	if e.Status == StatusNone {
		return fmt.Sprintf("the enclave has no %v", e.Document)
	}
	return fmt.Sprintf("the enclave could not make %v", e.Document)
}

// Ask asks the enclave for documents and waits for at most timeout (0: AskTimeout). It may be called again,
// one call after another, at any time of the session. A document that the enclave does not give is an
// *AnswerError, and the session goes on; any other error, the end of ctx included, ends it.
func (m *Mux) Ask(ctx context.Context, a Ask, timeout time.Duration) (*Answer, error) {
	return m.AskMeanwhile(ctx, a, timeout, nil)
}

// headStart is what a question has before the work that waits for it: whoever carries it on this machine (a proxy, a
// tunnel, an enclave under test) would else be queued behind that work, and the enclave begin so much later.
const headStart = 300 * time.Microsecond

// AskMeanwhile is Ask with something to do until the answer comes. meanwhile, unless nil, runs once the question has left, in
// any case before AskMeanwhile returns without an error. Its error is AskMeanwhile's, without a wait for the
// answer, and ends the session.
func (m *Mux) AskMeanwhile(ctx context.Context, a Ask, timeout time.Duration, meanwhile func() error) (*Answer, error) {
	if _, err := parseAsk(a.append(nil)); err != nil {
		return nil, err
	}
	if timeout == 0 {
		timeout = AskTimeout
	}
	q := newQuestion(a)
	m.mu.Lock()
	if m.opt.Server || m.asking != nil {
		m.mu.Unlock()
		return nil, errors.New("channel: only a client asks, and once at a time")
	}
	m.asking = q
	m.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("channel: no answer within %v: %w", timeout, ErrStalled))
	defer cancel()
	err := m.conn.Send(ctx, Record{Type: askRecord, Payload: a.append(nil)})
	answered := func() (bool, error) { return m.asking != q, nil }
	if err == nil && meanwhile != nil {
		if err = m.wait(ctx, headStart, answered); err == nil || errors.Is(err, ErrStalled) {
			err = meanwhile()
		}
	}
	if err == nil {
		err = m.wait(ctx, 0, answered)
	}
	if err != nil {
		m.fail(err)
		return nil, err
	}
	if q.err != nil {
		return nil, q.err
	}
	return &q.answer, nil
}

// answered takes a part of the answer; m.mu is held.
func (m *Mux) answered(p []byte) error {
	if m.asking == nil {
		return fmt.Errorf("%w: nothing was asked", ErrBadAnswer)
	}
	if err := m.asking.take(p); err != nil {
		return fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	if m.asking.next == 0 {
		m.asking = nil
		m.signal()
	}
	return nil
}

// asked takes an ASK; m.mu is held.
func (m *Mux) asked(p []byte) error {
	a, err := parseAsk(p)
	switch {
	case err != nil:
		return err
	case !m.opt.Server:
		return errors.New("channel: the enclave asks")
	case m.answering:
		return errors.New("channel: asked again before the answer")
	}
	m.answering = true
	go m.answer(a)
	return nil
}

// answer makes and sends what was asked for.
func (m *Mux) answer(a Ask) {
	m.turn.Lock() // the answer before may still be on its way to a client that asked too soon
	defer m.turn.Unlock()
	ctx, cancel := context.WithTimeout(m.ctx, AnswerTimeout)
	defer cancel()
	for one := a.Documents.after(0); one != 0; one = a.Documents.after(one) {
		doc, status := m.document(ctx, one, a)
		if m.sendAnswer(one, status, doc, a.Documents.after(one) == 0) != nil {
			return
		}
	}
}

// document has the owner of the session make one.
func (m *Mux) document(ctx context.Context, one Documents, a Ask) ([]byte, Status) {
	if m.opt.Answer == nil {
		return nil, StatusNone
	}
	doc, err := m.opt.Answer(ctx, one, a)
	switch {
	case errors.Is(err, ErrNoDocument):
		return nil, StatusNone
	case err != nil || len(doc) == 0 || len(doc) > one.max():
		return nil, StatusFailed
	}
	return doc, StatusOK
}

// sendAnswer sends a document in its parts, or the status that says there is none.
func (m *Mux) sendAnswer(one Documents, status Status, doc []byte, last bool) error {
	return eachAnswer(one, status, doc, func(payload []byte, end bool) error {
		if last && end {
			m.answerEnds()
		}
		return m.send(Record{Type: answerRecord, Payload: payload})
	})
}

// answerEnds lets the client ask again: it may as soon as it has the last part.
func (m *Mux) answerEnds() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answering = false
	m.restIdle()
}

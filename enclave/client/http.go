package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"tally/enclave/channel"
	"tally/enclave/infer"
)

// Times of a session: how long it waits for its next request, which is less than the enclave waits for one,
// and how old it may be to get one. A new session has new keys, which heal what was stolen from an old one,
// and an enclave that was appraised again.
const (
	maxIdle = 4 * time.Minute
	maxAge  = time.Hour
)

// A Transport is an http.RoundTripper whose server is an enclave: with it any OpenAI client speaks over
// attested sessions. Scheme and host of a request's URL mean nothing to it, and of the headers only the
// content type leaves the machine. Each request has a session to itself while it runs; sessions are used
// again one after the other, for an hour.
//
//	c := &http.Client{Transport: &client.Transport{Open: open, Now: time.Now}}
//
// When the request's context ends, or the answer's Body is closed early, the session is closed, which ends
// the engine's work at once. A Body that ends in anything but io.EOF is incomplete.
type Transport struct {
	// Open makes a session whenever none is idle. What makes an enclave trusted may have ended since the
	// last call (a release, a policy): it is Open's to check.
	Open func(ctx context.Context) (*Session, error)
	Now  func() time.Time // time.Now

	// MaxIdle is how many sessions wait for their next request at most; 0: 64.
	MaxIdle int

	mu      sync.Mutex
	idle    []pooled
	retired int // how often Retire was called
}

// A pooled session is one that serves request after request.
type pooled struct {
	*Session
	opened, since time.Time // since when it is idle
	age           int       // Transport.retired when it was opened
}

// RoundTrip sends req and returns when the head of the answer is there. A body over infer.MaxBody is
// ErrTooLong, and nothing is sent of it.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	head := infer.RequestHead{Method: req.Method, Path: req.URL.EscapedPath(), Type: req.Header.Get("Content-Type")}
	if req.URL.RawQuery != "" {
		return nil, errors.New("client: a query in the URL, want none")
	}
	body, err := readBody(req.Body)
	if err != nil {
		return nil, err
	}
	for {
		s, used, err := t.session(req.Context())
		if err != nil {
			return nil, err
		}
		resp, err := t.exchange(req, s, head, body)
		// An enclave may end an idle session at any time, and what it was accepted by there may have become too old:
		// a new session has new key evidence. Nothing of an answer has come, so the request is asked again, once for
		// each session that was idle.
		if err != nil && used && req.Context().Err() == nil && (errors.Is(err, channel.ErrTruncated) || errors.Is(err, ErrNotRenewed)) {
			continue
		}
		return resp, err
	}
}

// readBody holds the whole body: it may have to be sent twice.
func readBody(r io.Reader) (string, error) {
	if r == nil {
		return "", nil
	}
	var b strings.Builder
	n, err := io.Copy(&b, io.LimitReader(r, infer.MaxBody+1))
	if err == nil && n > infer.MaxBody {
		err = ErrTooLong
	}
	return b.String(), err
}

// session takes the idle session that was used last, or opens one.
func (t *Transport) session(ctx context.Context) (s pooled, used bool, err error) {
	t.mu.Lock()
	var old []pooled
	now, age := t.Now(), t.retired // before Open: what Retire is called for may change meanwhile
	for n := len(t.idle); n > 0 && s.Session == nil; n-- {
		last := t.idle[n-1]
		t.idle = t.idle[:n-1]
		if now.Sub(last.since) < maxIdle && now.Sub(last.opened) < maxAge {
			s = last
		} else {
			old = append(old, last)
		}
	}
	t.mu.Unlock()
	for _, o := range old {
		hangUp(o.Session)
	}
	if s.Session != nil {
		return s, true, nil
	}
	s.opened, s.age = now, age
	s.Session, err = t.Open(ctx)
	return s, false, err
}

// exchange runs one request on s. The session goes back to the idle ones when the answer has come whole.
func (t *Transport) exchange(req *http.Request, s pooled, head infer.RequestHead, body string) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var request strings.Builder
		_, err := head.WriteTo(&request)
		if err == nil {
			err = s.Exchange(ctx, io.MultiReader(strings.NewReader(request.String()), strings.NewReader(body)), w)
		}
		if err == nil || errors.Is(err, ErrIncomplete) {
			t.keep(s)
		} else {
			hangUp(s.Session)
		}
		w.CloseWithError(err) // nil is io.EOF
	}()
	h, err := infer.ReadResponseHead(r)
	if err != nil {
		// The exchange's own error, where there is one, says more than that the head did not come.
		cancel()
		r.CloseWithError(err)
		<-done
		return nil, err
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", h.Status, http.StatusText(h.Status)), StatusCode: h.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {h.Type}},
		Body: &answer{r, cancel, done}, ContentLength: -1, Request: req,
	}, nil
}

// keep puts s among the idle ones, if there is room.
func (t *Transport) keep(s pooled) {
	most := t.MaxIdle
	if most == 0 {
		most = 64
	}
	t.mu.Lock()
	s.since = t.Now()
	room := len(t.idle) < most && s.since.Sub(s.opened) < maxAge && s.age == t.retired
	if room {
		t.idle = append(t.idle, s)
	}
	t.mu.Unlock()
	if !room {
		hangUp(s.Session)
	}
}

// Add gives t a session that is open and that nobody else uses.
func (t *Transport) Add(s *Session) {
	t.mu.Lock()
	p := pooled{Session: s, opened: t.Now(), age: t.retired}
	t.mu.Unlock()
	t.keep(p)
}

// Retire has no session that is open serve another request: it closes those that no request uses, and each of the
// others when its request has ended. It is to be called when Open accepts by other rules than before.
func (t *Transport) Retire() {
	t.mu.Lock()
	t.retired++
	t.mu.Unlock()
	t.CloseIdleConnections()
}

// CloseIdleConnections closes the sessions that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	all := t.idle
	t.idle = nil
	t.mu.Unlock()
	for _, i := range all {
		hangUp(i.Session)
	}
}

// hangUp says CLOSE if the enclave still listens.
func hangUp(s *Session) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.Close(ctx) // the session is of no more use either way
}

// An answer is a response's body.
type answer struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   <-chan struct{}
}

// Close ends the exchange, wherever it is, and waits until the session is closed or kept.
func (a *answer) Close() error {
	a.cancel()
	a.PipeReader.Close()
	<-a.done
	return nil
}

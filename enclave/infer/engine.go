package infer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"

	"tally/enclave"
)

// Options are what an Engine needs.
type Options struct {
	Socket    string // path of the engine's UNIX socket
	MaxTokens int64  // a request's limit; 0: 32768
	InFlight  int    // requests at the engine at a time, others wait their turn; 0: 512

	// Patience is how long a request waits for an engine that does not listen yet, or again; 0: not at all.
	Patience time.Duration

	// Admit is asked before a request goes to the engine; while it returns an error the engine counts as one that
	// does not listen. nil: all requests go. It must not block.
	Admit func() error

	// Observe is told how each request ended; nil: nobody is. It must not block.
	Observe func(Event)
}

// An Event says how a request ended, in words that are the same for every content.
type Event struct {
	Path     string // one of the Path constants, or "other"
	Status   int    // of the answer's head; 0: there was none
	Complete bool   // the answer was sent to its end
	Duration time.Duration
}

// Engine passes the requests of one or many sessions to an engine behind a UNIX socket. It keeps nothing
// of them.
type Engine struct {
	opt  Options
	salt [32]byte
	turn chan struct{}
	room *room // a session's is part of all sessions'
	http *http.Client
	now  func() time.Time
}

var _ enclave.PerSession = (*Engine)(nil)

// New returns an engine. It does not connect: an engine that is not up yet is the requests' error.
func New(opt Options, now func() time.Time) (*Engine, error) {
	if opt.Socket == "" || now == nil {
		return nil, errors.New("infer: options: want Socket and a clock")
	}
	if opt.MaxTokens == 0 {
		opt.MaxTokens = 32768
	}
	if opt.InFlight == 0 {
		opt.InFlight = 512
	}
	if opt.MaxTokens < 1 || opt.InFlight < 1 || opt.Patience < 0 {
		return nil, errors.New("infer: options: a limit below 1")
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", opt.Socket)
		},
		// llama.cpp's server drops kept-alive connections after some requests; a POST on one is lost then.
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Engine{opt: opt, now: now, turn: make(chan struct{}, opt.InFlight), room: newRoom(MaxBodies, nil), http: &http.Client{Transport: t, CheckRedirect: stay}}, nil
}

// Session returns the engine for one session, whose prompt caches no other shares.
func (e *Engine) Session(secret [32]byte) enclave.Engine {
	s := *e
	s.salt, s.room = secret, newRoom(MaxBodies/8, e.room)
	return &s
}

// Ready asks the engine for its health.
func (e *Engine) Ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://engine/health", nil)
	if err != nil {
		return err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return errors.New("infer: the engine does not answer")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("infer: the engine's health is status %d", resp.StatusCode)
	}
	return nil
}

// Exchange answers one request. It returns an error when the answer is incomplete, nil when the client has
// all of it, be it a refusal. When ctx ends, the engine's connection is closed, which ends its work.
func (e *Engine) Exchange(ctx context.Context, request io.Reader, response io.Writer) (err error) {
	began := e.now()
	ev := Event{Path: "other"}
	defer func() {
		if e.opt.Observe != nil {
			ev.Complete, ev.Duration = err == nil, e.now().Sub(began)
			e.opt.Observe(ev)
		}
	}()
	head, err := ReadRequestHead(request)
	var no *refusal
	switch {
	case errors.Is(err, errHead):
		no = &refusal{400, CodeHead, "the request's head is not understood"}
	case err != nil:
		return err
	default:
		ev.Path, no = route(head)
	}
	if no != nil {
		ev.Status = no.status
		return refuse(response, no)
	}
	body, release, no, err := e.body(head, request)
	defer release()
	if err != nil {
		return err
	}
	if no == nil {
		ev.Status, no, err = e.forward(ctx, head, body, response)
	}
	if no != nil {
		ev.Status = no.status
		return refuse(response, no)
	}
	return err
}

// route checks what a head asks for.
func route(h RequestHead) (string, *refusal) {
	want := map[string]string{PathChat: "POST", PathCompletions: "POST", PathEmbeddings: "POST", PathModels: "GET"}[h.Path]
	if want == "" {
		return "other", &refusal{404, CodePath, "this enclave serves /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models"}
	}
	if h.Method != want {
		return h.Path, &refusal{405, CodeMethod, "this path wants " + want}
	}
	if t, _, err := mime.ParseMediaType(h.Type); want == "POST" && (err != nil || t != "application/json") {
		return h.Path, &refusal{415, CodeType, "the body must be application/json"}
	}
	return h.Path, nil
}

// body reads and checks a request's. release, never nil, gives back its room.
func (e *Engine) body(h RequestHead, r io.Reader) (b []byte, release func(), no *refusal, err error) {
	b, release, no, err = e.room.readBody(r)
	if err != nil || no != nil {
		return nil, release, no, err
	}
	if h.Method == "GET" {
		if len(b) > 0 {
			no = &refusal{400, CodeJSON, "this path takes no body"}
		}
		return nil, release, no, nil
	}
	b, no = prepare(h.Path, b, e.salt, e.opt.MaxTokens)
	return b, release, no, nil
}

// forward has the engine answer. A refusal means that no byte of an answer was sent.
func (e *Engine) forward(ctx context.Context, h RequestHead, body []byte, out io.Writer) (int, *refusal, error) {
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
	resp, err := e.ask(ctx, h, body)
	switch {
	case ctx.Err() != nil:
		if err == nil {
			resp.Body.Close()
		}
		return 0, nil, ctx.Err()
	case notListening(err):
		return 0, &refusal{503, CodeUnavailable, "the engine is not running; it is being started, ask again"}, nil
	case err != nil:
		return 0, &refusal{502, CodeEngine, "the engine ended before it answered; it is being started again"}, nil
	}
	defer resp.Body.Close()
	// Without a length or chunks the end of an answer looks like its truncation.
	if resp.StatusCode < 200 || resp.StatusCode > 599 || resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		return 0, &refusal{502, CodeEngine, "the engine's answer has no HTTP status or no marked end"}, nil
	}
	if _, err := (ResponseHead{resp.StatusCode, contentType(resp.Header)}).WriteTo(out); err != nil {
		return resp.StatusCode, nil, err
	}
	return resp.StatusCode, nil, pass(out, resp.Body)
}

// ask sends the request. It waits for an engine that does not listen: such a one has not seen the request.
func (e *Engine) ask(ctx context.Context, h RequestHead, body []byte) (*http.Response, error) {
	for until := e.now().Add(e.opt.Patience); ; {
		resp, err := e.once(ctx, h.Method, h.Path, body)
		if !notListening(err) || ctx.Err() != nil || !e.now().Before(until) {
			return resp, err
		}
		select {
		case <-time.After(pollEngine):
		case <-ctx.Done():
		}
	}
}

// once sends a request that the engine may have, once.
func (e *Engine) once(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	if e.opt.Admit != nil && e.opt.Admit() != nil {
		return nil, errNotAdmitted
	}
	return e.send(ctx, method, path, body)
}

func (e *Engine) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"User-Agent": {""}}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return e.http.Do(req)
}

// errNotAdmitted means that Options.Admit refused.
var errNotAdmitted = errors.New("infer: the engine may not have requests")

// pollEngine is how often a waiting request looks for the engine.
const pollEngine = 50 * time.Millisecond

func notListening(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, errNotAdmitted)
}

// contentType passes on the types of the OpenAI API alone.
func contentType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err == nil && (t == "application/json" || t == "text/event-stream") {
		return t
	}
	return "application/octet-stream"
}

// pass copies what comes as it comes: each event of a stream leaves at once.
func pass(out io.Writer, in io.Reader) error {
	buf := make([]byte, 16<<10)
	for left := MaxResponse; ; {
		n, err := in.Read(buf)
		if left -= n; left < 0 {
			return errLong
		}
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func refuse(out io.Writer, no *refusal) error {
	var b bytes.Buffer
	if _, err := (ResponseHead{no.status, "application/json"}).WriteTo(&b); err != nil {
		return err
	}
	b.Write(no.body())
	_, err := out.Write(b.Bytes())
	return err
}

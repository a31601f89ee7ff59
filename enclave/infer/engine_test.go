package infer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
	"tally/enclave/operate"
	"tally/measure"
)

// A world is an engine behind an enclave, and an HTTP client that reaches it by the channel alone.
type world struct {
	fake      *infertest.Engine
	addr      string
	http      *http.Client
	transport *client.Transport
	log       *bytes.Buffer
	stop      func()

	mu     sync.Mutex
	events []infer.Event
}

func newWorld(t testing.TB, change func(*infer.Options, *enclave.Options)) *world {
	t.Helper()
	return newWorldOver(t, change, func(ln net.Listener) net.Listener { return ln })
}

// newWorldOver has the enclave listen through a carrier.
func newWorldOver(t testing.TB, change func(*infer.Options, *enclave.Options), carry func(net.Listener) net.Listener) *world {
	t.Helper()
	w := &world{fake: infertest.Start(t), log: new(bytes.Buffer)}
	io_ := infer.Options{Socket: w.fake.Socket, Observe: func(e infer.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}}
	eo := enclave.Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.NewTextHandler(w.log, nil))}
	if change != nil {
		change(&io_, &eo)
	}
	engine, err := infer.New(io_, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- enclave.Serve(ctx, carry(ln), insecure.Attester{}, engine, eo) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.addr = ln.Addr().String()
	w.transport = &client.Transport{Now: time.Now, Open: func(ctx context.Context) (*client.Session, error) { return dial(ctx, w.addr) }}
	w.http = &http.Client{Transport: w.transport}
	t.Cleanup(func() { w.transport.CloseIdleConnections(); w.stop() })
	return w
}

func dial(ctx context.Context, addr string) (*client.Session, error) {
	return dialOver(ctx, new(net.Dialer), addr)
}

func dialOver(ctx context.Context, d client.Dialer, addr string) (*client.Session, error) {
	return client.Dial(ctx, d, addr, client.Config{
		Authority: "default", Policy: appraise.Policy{Platforms: []string{"insecure"}}, Rand: rand.Reader, Now: time.Now,
		Reference: &measure.ReferenceValues{Values: []measure.Value{{}}},
	})
}

func (w *world) post(t testing.TB, path, body string) (int, string, error) {
	t.Helper()
	resp, err := w.http.Post("http://enclave"+path, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func chat(text string, more ...string) string {
	b, _ := json.Marshal(text)
	return `{"model":"fake","messages":[{"role":"user","content":` + string(b) + `}]` + strings.Join(append([]string{""}, more...), ",") + `}`
}

func TestPaths(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct{ path, body, want string }{
		{infer.PathChat, chat("in the beginning"), `"content":"in the beginning"`},
		{infer.PathChat, chat("tool", `"tools":[{"type":"function","function":{"name":"look","parameters":{"a":[1,{"b":null}]}}}]`), `"arguments":"{\"at\":\"it\"}"`},
		{infer.PathCompletions, `{"prompt":"and God said"}`, `"text":"and God said"`},
		{infer.PathEmbeddings, `{"input":"light"}`, `"embedding":[0.5,-0.25]`},
	} {
		code, body, err := w.post(t, c.path, c.body)
		if err != nil || code != 200 || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d, %s, %v", c.path, code, body, err)
		}
	}
	resp, err := w.http.Get("http://enclave/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), `"id":"fake"`) || resp.Header.Get("Content-Type") != "application/json" || len(resp.Header) != 1 {
		t.Errorf("%s, %v, %v", b, resp.Header, err)
	}
	requests, _ := w.fake.Requests()
	tools, _ := json.Marshal(requests[1]["tools"])
	if string(tools) != `[{"function":{"name":"look","parameters":{"a":[1,{"b":null}]}},"type":"function"}]` {
		t.Errorf("tools arrived as %s", tools)
	}
}

// TestCachesAreApart: what the engine gets forbids it to share between sessions, whatever the client says.
func TestCachesAreApart(t *testing.T) {
	w := newWorld(t, nil)
	for range 2 {
		req, _ := http.NewRequest("POST", "http://x"+infer.PathChat, strings.NewReader(chat("a")))
		req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer CANARY"}, "Cookie": {"CANARY"}, "X-Request-Id": {"CANARY"}}
		resp, err := w.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	w.transport.CloseIdleConnections()
	if _, _, err := w.post(t, infer.PathChat, chat("a")); err != nil {
		t.Fatal(err)
	}
	requests, headers := w.fake.Requests()
	salt := func(i int) string { s, _ := requests[i]["cache_salt"].(string); return s }
	if len(salt(0)) != 64 || salt(0) == salt(2) {
		t.Errorf("salts %q and %q of two sessions", salt(0), salt(2))
	}
	for i, r := range requests {
		if r["cache_prompt"] != false || r["max_tokens"] != 32768.0 {
			t.Errorf("request %d: %v", i, r)
		}
		if s := fmt.Sprint(headers[i]); strings.Contains(s, "CANARY") {
			t.Errorf("headers %s", s)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, func(o *infer.Options, _ *enclave.Options) { o.MaxTokens = 100 })
	for _, c := range []struct {
		path, body string
		status     int
		code       infer.Code
	}{
		{"/v1/files", `{}`, 404, infer.CodePath},
		{"/v1/chat/completions/", `{}`, 404, infer.CodePath},
		{"/slots", `{}`, 404, infer.CodePath},
		{"/v1/../metrics", `{}`, 404, infer.CodePath},
		{infer.PathModels, `{}`, 405, infer.CodeMethod},
		{infer.PathChat, ``, 400, infer.CodeJSON},
		{infer.PathChat, `[]`, 400, infer.CodeJSON},
		{infer.PathChat, `{} {}`, 400, infer.CodeJSON},
		{infer.PathChat, `{"messages":[],"messages":[]}`, 400, infer.CodeJSON},
		{infer.PathChat, "{\"messages\":\"\xff\"}", 400, infer.CodeJSON},
		{infer.PathChat, `{"messages":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, 400, infer.CodeJSON},
		{infer.PathChat, chat("a", `"cache_prompt":true`), 400, infer.CodeField},
		{infer.PathChat, chat("a", `"cache_salt":"mine"`), 400, infer.CodeField},
		{infer.PathChat, chat("a", `"id_slot":0`), 400, infer.CodeField},
		{infer.PathChat, chat("a", `"n":2`), 400, infer.CodeField},
		{infer.PathChat, chat("a", `"n":"1"`), 400, infer.CodeField},
		{infer.PathChat, chat("a", `"max_tokens":101`), 400, infer.CodeField},
		{infer.PathChat, chat("a", `"max_completion_tokens":-1`), 400, infer.CodeField},
		{infer.PathChat, chat("a", `"top_logprobs":21`), 400, infer.CodeField},
		{infer.PathCompletions, `{"prompt":"a","logprobs":21}`, 400, infer.CodeField},
		{infer.PathEmbeddings, `{"input":"a","user":"me"}`, 400, infer.CodeField},
	} {
		code, body, err := w.post(t, c.path, c.body)
		if err != nil || code != c.status || !strings.Contains(body, `"code":"`+string(c.code)+`"`) {
			t.Errorf("%s %.60s: %d, %s, %v; want %d %s", c.path, c.body, code, body, err, c.status, c.code)
		}
	}
	resp, err := w.http.Post("http://x"+infer.PathChat, "text/plain", strings.NewReader("{}"))
	if err != nil || resp.StatusCode != 415 {
		t.Errorf("text: %v, %v", resp, err)
	}
	if r, _ := w.fake.Requests(); len(r) != 0 {
		t.Errorf("%d refused requests reached the engine", len(r))
	}
	for _, body := range []string{
		`{"messages":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`,
		chat("a", `"max_tokens":100`, `"n":1`, `"top_logprobs":null`),
	} {
		if code, text, err := w.post(t, infer.PathChat, body); code != 200 || err != nil {
			t.Errorf("at the limit: %d, %s, %v", code, text, err)
		}
	}
}

// TestBadHead sends what no client of ours sends.
func TestBadHead(t *testing.T) {
	w := newWorld(t, nil)
	s, err := w.transport.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	for _, in := range []string{"", "\x00", "\x00\x01{", "\x00\x10{}", "\x00\x02{}", "\xff\xff", "\x00\x35" + `{"path":"/v1/models","method":"GET","type":"","x":"y"}`} {
		out, err := s.Do(t.Context(), []byte(in))
		if err != nil || !strings.Contains(string(out), `"code":"bad_head"`) {
			t.Errorf("%q: %q, %v", in, out, err)
		}
	}
}

// TestStreaming: the events arrive one by one, each before the next is made.
func TestStreaming(t *testing.T) {
	w := newWorld(t, nil)
	code, body, err := w.post(t, infer.PathChat, chat("let there be light", `"stream":true`, `"stream_options":{"include_usage":true}`))
	if err != nil || code != 200 || strings.Count(body, "data: ") != 7 || !strings.HasSuffix(body, "data: [DONE]\n\n") || !strings.Contains(body, `"completion_tokens":4`) {
		t.Errorf("%d, %v\n%s", code, err, body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://x"+infer.PathChat, strings.NewReader(chat("endless", `"stream":true`)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	if n, err := io.ReadAtLeast(resp.Body, buf, 300); err != nil { // it never ends: whoever waits for the end waits for ever
		t.Fatalf("%d bytes, %v", n, err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("a cancelled stream looks whole")
	}
}

// TestCancel: the engine is told of a client that does not want the answer any more, within 100 ms,
// whether the engine is writing or silent. A busy machine may need more than one try.
func TestCancel(t *testing.T) {
	w := newWorld(t, nil)
	const limit, tries = 100 * time.Millisecond, 3
	for _, text := range []string{"hang", "endless"} {
		took := w.cancelled(t, text)
		for n := 1; took > limit && n < tries; n++ {
			t.Logf("%s: the engine knew %v after the wish", text, took)
			took = w.cancelled(t, text)
		}
		if t.Logf("%s: the engine knew %v after the wish", text, took); took > limit {
			t.Errorf("%s: cancelled after %v at best", text, took)
		}
	}
	if code, _, err := w.post(t, infer.PathChat, chat("still here")); code != 200 || err != nil {
		t.Errorf("afterwards: %d, %v", code, err)
	}
}

// cancelled is how long after a client's wish the engine knows of it.
func (w *world) cancelled(t *testing.T, text string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://x"+infer.PathChat, strings.NewReader(chat(text, `"stream":true`)))
	req.Header.Set("Content-Type", "application/json")
	before, _ := w.fake.Requests()
	wish := make(chan time.Time, 1)
	go func() {
		for range 2000 { // until the engine has it, or twenty seconds
			if all, _ := w.fake.Requests(); len(all) > len(before) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond) // into the answer, where there is one
		wish <- time.Now()
		cancel()
	}()
	resp, err := w.http.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%s: %v", text, err)
	}
	select {
	case at := <-w.fake.Gone():
		return at.Sub(<-wish)
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: the engine was never told", text)
	}
	return 0
}

// TestEngineDeath: each way to die is a clear error, and a new engine serves.
func TestEngineDeath(t *testing.T) {
	w := newWorld(t, nil)
	if code, body, err := w.post(t, infer.PathChat, chat("die")); err != nil || code != 502 || !strings.Contains(body, `"code":"engine_failed"`) {
		t.Errorf("before the answer: %d, %s, %v", code, body, err)
	}
	code, body, err := w.post(t, infer.PathChat, chat("break", `"stream":true`))
	if !errors.Is(err, client.ErrIncomplete) || code != 200 || !strings.Contains(body, "break") {
		t.Errorf("in the middle: %d, %s, %v", code, body, err)
	}
	w.fake.Stop()
	if code, body, err := w.post(t, infer.PathChat, chat("a")); err != nil || code != 503 || !strings.Contains(body, `"code":"engine_unavailable"`) {
		t.Errorf("not running: %d, %s, %v", code, body, err)
	}
	w.fake.Restart(t)
	if code, _, err := w.post(t, infer.PathChat, chat("a")); err != nil || code != 200 {
		t.Errorf("running again: %d, %v", code, err)
	}
}

// TestPatience: a request waits for an engine that is being started, if it may, and no longer than it may.
func TestPatience(t *testing.T) {
	w := newWorld(t, func(o *infer.Options, _ *enclave.Options) { o.Patience = 20 * time.Second })
	w.fake.Stop()
	time.AfterFunc(200*time.Millisecond, func() { w.fake.Restart(t) })
	if code, body, err := w.post(t, infer.PathChat, chat("a")); code != 200 || err != nil {
		t.Errorf("%d, %s, %v", code, body, err)
	}
	short := newWorld(t, func(o *infer.Options, _ *enclave.Options) { o.Patience = 100 * time.Millisecond })
	short.fake.Stop()
	began := time.Now()
	if code, _, err := short.post(t, infer.PathChat, chat("a")); code != 503 || err != nil || time.Since(began) < 100*time.Millisecond {
		t.Errorf("%d, %v after %v", code, err, time.Since(began))
	}
}

// TestSessionAge: a session serves request after request for an hour, and is opened anew then.
func TestSessionAge(t *testing.T) {
	w := newWorld(t, nil)
	now, opened := time.Unix(1767225600, 0), 0
	tr := &client.Transport{Now: func() time.Time { return now }, Open: func(ctx context.Context) (*client.Session, error) {
		opened++
		return dial(ctx, w.addr)
	}}
	defer tr.CloseIdleConnections()
	w.http = &http.Client{Transport: tr}
	for i := range 50 { // every three minutes, so that it is never idle for long
		if code, _, err := w.post(t, infer.PathChat, chat("hello")); err != nil || code != 200 {
			t.Fatalf("request %d: %d, %v", i, code, err)
		}
		if want := 1 + 3*i/60; opened != want {
			t.Fatalf("%d sessions after %d minutes, want %d", opened, 3*i, want)
		}
		now = now.Add(3 * time.Minute)
	}
	before := opened
	now = now.Add(5 * time.Minute)
	if _, _, err := w.post(t, infer.PathChat, chat("hello")); err != nil || opened != before+1 {
		t.Errorf("%d sessions after five idle minutes, want %d; %v", opened, before+1, err)
	}
}

// TestRetire: sessions that were open when the rules changed serve no other request, be they idle or in use.
func TestRetire(t *testing.T) {
	w := newWorld(t, nil)
	opened := 0
	tr := &client.Transport{Now: time.Now, Open: func(ctx context.Context) (*client.Session, error) {
		opened++
		return dial(ctx, w.addr)
	}}
	defer tr.CloseIdleConnections()
	w.http = &http.Client{Transport: tr}
	s, err := dial(t.Context(), w.addr)
	if err != nil {
		t.Fatal(err)
	}
	tr.Add(s)
	ask := func(want int) {
		t.Helper()
		if code, _, err := w.post(t, infer.PathChat, chat("hello")); err != nil || code != 200 || opened != want {
			t.Errorf("%d, %v; %d sessions opened, want %d", code, err, opened, want)
		}
	}
	ask(0)
	tr.Retire()
	ask(1)
	ask(1)
	resp, err := w.http.Post("http://x"+infer.PathChat, "application/json", strings.NewReader(chat("in use", `"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	tr.Retire() // in the middle of the answer, which goes on
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Error(err)
	}
	resp.Body.Close()
	ask(2)
	ask(2)
}

// TestSessionLost: a session that the enclave ended while it was idle costs no request.
func TestSessionLost(t *testing.T) {
	w := newWorld(t, func(_ *infer.Options, o *enclave.Options) { o.IdleTimeout = 400 * time.Millisecond })
	for range 3 {
		if code, _, err := w.post(t, infer.PathChat, chat("a")); code != 200 || err != nil {
			t.Fatalf("%d, %v", code, err)
		}
		time.Sleep(800 * time.Millisecond)
	}
}

// TestShutdown: an answer that shutdown interrupts is incomplete, and the session ends with CLOSE.
func TestShutdown(t *testing.T) {
	w := newWorld(t, nil)
	resp, err := w.http.Post("http://x"+infer.PathChat, "application/json", strings.NewReader(chat("endless", `"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w.stop()
	if _, err := io.Copy(io.Discard, resp.Body); err == nil || !strings.Contains(err.Error(), "the enclave closed the session") {
		t.Errorf("%v, want an authenticated CLOSE before the answer was whole", err)
	}
	if !strings.Contains(w.log.String(), "reason=shutdown") {
		t.Errorf("log %s", w.log)
	}
}

// said puts the words of a stream together, and is empty without its end.
func said(body string) string {
	var out strings.Builder
	for _, line := range strings.Split(body, "\n") {
		data, ok := strings.CutPrefix(line, "data: ")
		if data == "[DONE]" {
			return out.String()
		}
		var e struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if ok && json.Unmarshal([]byte(data), &e) == nil && len(e.Choices) == 1 {
			out.WriteString(e.Choices[0].Delta.Content)
		}
	}
	return ""
}

// TestCanary: a secret is in no log, no metric and no refusal, wherever it stands: in prompts, answers, tools,
// names, headers, paths, content types, or JSON that is none; whether the engine answers, breaks or is not there.
func TestCanary(t *testing.T) {
	const canary = "CANARY-7f3a"
	m := new(operate.Metrics)
	w := newWorld(t, func(o *infer.Options, e *enclave.Options) {
		o.Observe, e.Observe = m.Request, m.Session
		e.Logger = slog.New(operate.Handler(e.Logger.Handler()))
	})
	bodies := []string{
		chat(canary), chat(canary, `"stream":true`), chat("break", `"stream":true`, `"tools":[{"`+canary+`":1}]`),
		`{"messages":"` + canary, `{"` + canary + `":1}`, chat("die", `"stop":"`+canary+`"`), chat("a", `"n":"`+canary+`"`),
	}
	try := func(path, kind, body string) {
		req, _ := http.NewRequest("POST", "http://x"+path, strings.NewReader(body))
		req.Header = http.Header{"Content-Type": {kind}, "Authorization": {canary}, canary: {canary}}
		resp, err := w.http.Do(req)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 && strings.Contains(string(text), canary) || err != nil && strings.Contains(err.Error(), canary) || strings.Contains(fmt.Sprint(resp.Header), canary) {
			t.Errorf("%s: %v, %s, %v", body, resp.Header, text, err)
		}
	}
	for _, b := range bodies {
		try(infer.PathChat, "application/json", b)
	}
	try("/v1/"+canary, "application/json", "{}")
	try(infer.PathChat, "text/"+canary, "{}")
	w.fake.Stop()
	try(infer.PathChat, "application/json", chat(canary))
	w.transport.CloseIdleConnections()
	w.stop()
	var page bytes.Buffer
	if _, err := m.WriteTo(&page); err != nil {
		t.Fatal(err)
	}
	if s := w.log.String() + page.String(); strings.Contains(s, canary) || !strings.Contains(s, "session ended") || !strings.Contains(s, `tally_requests_total{path="other",status="4xx"} 1`) {
		t.Errorf("log and metrics:\n%s", s)
	}
}

// A carrier's end in the middle of a request is no request.
func TestTruncatedRequest(t *testing.T) {
	w := newWorld(t, nil)
	s, err := w.transport.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("\x00"), errReader{})
	if err := s.Exchange(t.Context(), broken, io.Discard); err == nil || errors.Is(err, channel.ErrClosed) {
		t.Errorf("%v", err)
	}
	s.Close(t.Context())
	if r, _ := w.fake.Requests(); len(r) != 0 {
		t.Error("half a request reached the engine")
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("disk gone") }

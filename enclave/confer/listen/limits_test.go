package listen

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tally/enclave"
	"tally/enclave/confer"
	"tally/enclave/infer"
)

// page is what an operator sees when all has ended.
func (w *world) page(t testing.TB) string {
	t.Helper()
	w.end(t)()
	var b bytes.Buffer
	if _, err := w.metrics.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String() + w.log.String()
}

// ended waits until the listener has closed c.
func ended(t testing.TB, c *confer.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Receive(ctx); !errors.Is(err, confer.ErrEnded) || ctx.Err() != nil {
		t.Errorf("%v, want the session's end", err)
	}
}

// TestSessionLimits: there are so many sessions, each for so long, in silence and in all.
func TestSessionLimits(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxSessions, o.IdleTimeout = 2, 300*time.Millisecond })
	a, b := w.dial(t), w.dial(t)
	if _, err := w.try(t.Context()); err == nil {
		t.Error("a third session was opened")
	}
	b.Close()
	send(t, a, 1, "POST", chatPath, chat("hang", `,"stream":true`)) // an engine that thinks is no silence
	for start := time.Now(); time.Since(start) < 700*time.Millisecond; time.Sleep(50 * time.Millisecond) {
		if c, err := w.try(t.Context()); err == nil {
			defer ended(t, c) // it says nothing
			break
		}
	}
	time.Sleep(600 * time.Millisecond)
	send(t, a, 2, "GET", "/ping", "")
	if status, body := receive(t, a, 2); status != 200 || body != "PONG" {
		t.Errorf("%d %s", status, body)
	}
	a.Close()
	w.fake.AwaitGone(t)
	time.Sleep(500 * time.Millisecond)
	for _, want := range []string{`tally_confer_sessions_total{end="truncated"} 2`, `tally_confer_sessions_total{end="idle"} 1`, "tally_confer_sessions_open 0", `msg="session of Confer's wire ended" reason=idle`} {
		if got := w.page(t); !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	w = newWorld(t, func(o *Options) { o.SessionLifetime = 300 * time.Millisecond })
	ended(t, w.dial(t))
	if got := w.page(t); !strings.Contains(got, `tally_confer_sessions_total{end="timeout"} 1`) {
		t.Error(got)
	}
	w = newWorld(t, nil)
	c := w.dial(t)
	send(t, c, 1, "POST", chatPath, chat("hang", `,"stream":true`))
	time.Sleep(100 * time.Millisecond)
	if got := w.page(t); !strings.Contains(got, `tally_confer_sessions_total{end="shutdown"} 1`) {
		t.Error(got)
	}
	ended(t, c)
}

// TestRequestWithoutEnd: a request whose body does not come holds its connection for the server's time, and no longer.
func TestRequestWithoutEnd(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := new(server).http()
	srv.ReadTimeout /= 50 // for this test
	defer srv.Close()
	go srv.Serve(ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is held")
	}
}

// TestHandshakeLimits: who says nothing, or something else, has no session for long.
func TestHandshakeLimits(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.HandshakeTimeout = 200 * time.Millisecond })
	for _, message := range [][]byte{nil, make([]byte, 31), make([]byte, 5000), make([]byte, confer.MaxNoiseMessage+1)} {
		c, _, err := websocket.Dial(t.Context(), "ws://"+w.addr+Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if message != nil {
			c.Write(t.Context(), websocket.MessageBinary, message)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("%d bytes: %v", len(message), err)
		}
		cancel()
	}
	got := w.page(t)
	for _, want := range []string{`tally_confer_handshakes_failed_total{reason="timeout"} 1`, `tally_confer_handshakes_failed_total{reason="decrypt"} 1`, "tally_confer_sessions_open 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestRequestLimits: requests are so long, and so many at a time.
func TestRequestLimits(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxRequests = 2 })
	c := w.dial(t)
	for id := range int64(2) {
		send(t, c, id, "POST", chatPath, chat("hang", `,"stream":true`))
	}
	send(t, c, 3, "GET", "/ping", "")
	if status, body := receive(t, c, 3); status != 429 || body != "Too many requests at a time" {
		t.Errorf("%d %s", status, body)
	}
	w.fake.Await(t, 2)
	c.Close()
	for range 2 {
		w.fake.AwaitGone(t)
	}
	c = w.dial(t)
	send(t, c, 1, "POST", chatPath, chat(strings.Repeat("x", infer.MaxBody-1000), `,"stream":false`))
	if status, body := receive(t, c, 1); status != 200 && !strings.Contains(body, "xxx") {
		t.Errorf("the longest request: %d %.100s", status, body)
	}
	c = w.dial(t)
	send(t, c, 1, "POST", chatPath, chat(strings.Repeat("x", infer.MaxBody+2*infer.MaxHead), `,"stream":false`))
	ended(t, c)
	c = w.dial(t)
	if err := c.Send(t.Context(), &confer.Request{ID: 1, Chunk: &confer.Chunk{Data: []byte("x"), Seq: 1}}); err != nil {
		t.Fatal(err)
	}
	if status, body := receive(t, c, 1); status != 400 || body != "No such upload" {
		t.Errorf("%d %s", status, body)
	}
	r := &confer.Request{ID: 2, Verb: "POST", Path: chatPath, Body: []byte(chat("a", `,"stream":false`)), Chunk: &confer.Chunk{Data: []byte("x")}}
	if err := c.Send(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if status, body := receive(t, c, 2); status != 400 {
		t.Errorf("%d %s", status, body)
	}
}

// TestStall: a client that does not read what it asked for is not waited for.
func TestStall(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StallTimeout = 300 * time.Millisecond })
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).SetReadBuffer(64 << 10) // less than the answer by more than a sender's side keeps
	c, err := confer.DialWebSocket(t.Context(), "ws://"+w.addr+Path, over(conn), confer.Config{Rand: rand.Reader, Judge: func(context.Context, *confer.Evidence) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, c, 1, "POST", chatPath, chat(strings.Repeat("x", 7<<20), `,"stream":false`))
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		var b bytes.Buffer
		w.metrics.WriteTo(&b)
		if strings.Contains(b.String(), "tally_confer_sessions_open 0\n") {
			return
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("it waits for a client that does not listen\n%s", &b)
		}
	}
}

// TestRotation: a key takes so many sessions, and for so long; those that are open go on.
func TestRotation(t *testing.T) {
	var passed atomic.Int64
	w := newWorld(t, func(o *Options) {
		o.KeySessions, o.KeyLifetime = 2, time.Hour
		o.Now = func() time.Time { return time.Unix(passed.Load(), 0) }
	})
	var all []*confer.Client
	var keys [][32]byte
	open := func() {
		c := w.dial(t)
		all, keys = append(all, c), append(keys, c.Evidence().Static)
	}
	for range 3 {
		open()
	}
	passed.Store(3600)
	open()
	if keys[0] != keys[1] || keys[1] == keys[2] || keys[2] == keys[3] || keys[0] == keys[3] {
		t.Errorf("keys %x", keys)
	}
	for _, c := range all {
		send(t, c, 1, "GET", "/ping", "")
		receive(t, c, 1)
	}
	if got := w.page(t); !strings.Contains(got, "tally_confer_keys_total 3\n") {
		t.Error(got)
	}
}

// TestIdleKey: a key is forgotten when its time is over, though nobody comes who would see that it is.
func TestIdleKey(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.KeyLifetime = 100 * time.Millisecond
		o.Now = func() time.Time { return time.Unix(0, 0) } // by which no key ever ages
	})
	first := w.dial(t).Evidence().Static
	for start := time.Now(); w.dial(t).Evidence().Static == first; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the first key is still there")
		}
	}
}

// A breaking attester is one that may have no report.
type breaking struct {
	enclave.Attester
	broken *atomic.Bool
}

func (b breaking) Attest(ctx context.Context, data [64]byte) ([]byte, []byte, error) {
	if b.broken.Load() {
		return nil, nil, errors.New("no report today")
	}
	return b.Attester.Attest(ctx, data)
}

// TestNoReport: a key that nobody attests takes no session.
func TestNoReport(t *testing.T) {
	broken := new(atomic.Bool)
	w := newWorld(t, func(o *Options) { o.KeySessions, o.Attester = 1, breaking{o.Attester, broken} })
	w.dial(t)
	broken.Store(true)
	if _, err := w.try(t.Context()); err == nil {
		t.Error("a session with a key that nobody attested")
	}
	broken.Store(false)
	w.dial(t)
	broken.Store(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{}
	newWorld(t, func(o *Options) { opt = *o })
	opt.Attester = breaking{opt.Attester, broken}
	if err := Serve(t.Context(), ln, opt); err == nil || !strings.Contains(err.Error(), "no report today") {
		t.Errorf("%v", err)
	}
}

// TestEndedEarly: a listener that is ended before it has its first key ends like any other.
func TestEndedEarly(t *testing.T) {
	opt := Options{}
	newWorld(t, func(o *Options) { opt = *o })
	ended, end := context.WithCancel(t.Context())
	end()
	for range 50 { // a select of two that are ready takes either
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := Serve(ended, ln, opt); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManifest: what the host gives is passed on, and what it does not give is empty.
func TestManifest(t *testing.T) {
	for name, c := range map[string]struct {
		manifest, bundle string
		err              error
		want             string
	}{
		"both":     {"{}", `{"a":1}`, nil, `{} {"a":1}`},
		"none":     {"", "", errors.New("no route"), " "},
		"half":     {"{}", "", nil, " "},
		"too long": {strings.Repeat(`"`, confer.MaxPayload/2), "{}", nil, " "},
		"no text":  {"\xff", "{}", nil, " "},
	} {
		w := newWorld(t, func(o *Options) {
			o.Manifest = func(context.Context) ([]byte, []byte, error) { return []byte(c.manifest), []byte(c.bundle), c.err }
		})
		e := w.dial(t).Evidence()
		if got := e.Manifest + " " + e.ManifestBundle; got != c.want {
			t.Errorf("%s: %.100q", name, got)
		}
	}
}

// TestCanary: nothing that is said stands in a log or a metric, whatever becomes of it.
func TestCanary(t *testing.T) {
	const canary = "CANARY-55e0"
	w := newWorld(t, nil)
	c := w.dial(t)
	id := int64(0)
	try := func(verb, path, body string) {
		id++
		send(t, c, id, verb, path, body)
		if status, answer := receive(t, c, id); status != 200 && strings.Contains(answer, canary) {
			t.Errorf("%s %s: %d %s", verb, path, status, answer)
		}
	}
	for _, body := range []string{chat(canary, `,"stream":false`), chat(canary, `,"stream":false,"`+canary+`":1`), `{"` + canary, chat("die", `,"stream":false,"model":"`+canary+`"`),
		`{"stream":false,"messages":[{"role":"tool_call","content":"` + canary + `"}]}`, `{"stream":false,"messages":[{"role":"` + canary + `","content":""}]}`} {
		try("POST", chatPath, body)
		try("POST", "/v1/embeddings", body)
	}
	try("POST", "/v1/embeddings", `{"texts":["`+canary+`"]}`)
	try(canary, "/"+canary, canary)
	id++
	send(t, c, id, "POST", chatPath, chat(canary+" "+canary, `,"stream":true`))
	pieces(t, c, id)
	send(t, c, id, "POST", chatPath, chat("break", `,"stream":true,"model":"`+canary+`"`))
	pieces(t, c, id)
	c.Close()
	// What breaks a session is not quoted either, nor is a token.
	ws, _, err := websocket.Dial(t.Context(), "ws://"+w.addr+Path+"?token="+canary, nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.Write(t.Context(), websocket.MessageBinary, []byte(canary))
	ws.Read(t.Context())
	w.fake.Stop()
	c = w.dial(t)
	try("POST", chatPath, chat(canary, `,"stream":true`))
	c.Close()
	got := w.page(t)
	if strings.Contains(got, canary) || !strings.Contains(got, "session of Confer's wire ended") || !strings.Contains(got, `tally_requests_total{path="/v1/chat/completions",status="2xx"}`) {
		t.Errorf("log and metrics:\n%s", got)
	}
}

// over is a client whose one connection is conn.
func over(conn net.Conn) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
}

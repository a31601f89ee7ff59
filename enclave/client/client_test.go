package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/evidence"
	"tally/enclave/secrets"
	"tally/measure"
)

func config() Config {
	return Config{
		Authority: "default", Policy: appraise.Policy{Platforms: []string{"insecure"}}, Rand: rand.Reader, Now: time.Now,
		Reference: &measure.ReferenceValues{Name: "minimal", Values: []measure.Value{{}}},
	}
}

func newKey(t *testing.T) *channel.StaticKey {
	t.Helper()
	k, err := channel.GenerateStatic(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// payload is the message-2 payload with genuine evidence for key.
func payload(t *testing.T, key channel.PublicKey) []byte {
	t.Helper()
	d := evidence.Document{Platform: "insecure", Claims: evidence.Claims{Authority: "default", Static: key, Epoch: 1, NotBefore: 1, NotAfter: 2}}
	rd := d.Claims.ReportData()
	d.Report = rd[:]
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{channel.InlineEvidence}, b...)
}

// peer runs an enclave's side of one session by hand: after the handshake play does what it likes.
func peer(t *testing.T, key *channel.StaticKey, payload []byte, play func(*channel.Conn)) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		c, err := channel.Server(t.Context(), conn, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}, key, payload)
		if err == nil {
			defer c.Abort()
			play(c)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// never is a peer's play that must not be reached.
func never(t *testing.T) func(*channel.Conn) {
	return func(*channel.Conn) { t.Error("the client went on to message 3") }
}

// TestSwappedKey: a man in the middle ends the channel himself and shows the real enclave's evidence,
// which he can have for the asking, also from an earlier session. The handshake is perfect; the key is not
// the one in the evidence.
func TestSwappedKey(t *testing.T) {
	enclave := newKey(t)
	var seen []byte // what the real enclave shows to anybody
	real := peer(t, enclave, payload(t, enclave.Public()), func(*channel.Conn) {})
	if _, err := channel.Client(t.Context(), real, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}, func(_ context.Context, p channel.Peer) error {
		seen = bytes.Clone(p.Payload)
		return nil
	}); err != nil || len(seen) == 0 {
		t.Fatal(err)
	}
	conn := peer(t, newKey(t), seen, never(t))
	s, err := New(t.Context(), conn, config())
	var refused *appraise.Error
	if s != nil || !errors.As(err, &refused) || refused.Result.Reason != appraise.BadKey {
		t.Errorf("%v, %v", s, err)
	}
}

func TestBadPayloads(t *testing.T) {
	key := newKey(t)
	good := payload(t, key.Public())
	for name, c := range map[string]struct {
		payload []byte
		reason  appraise.Reason
	}{
		"none":          {nil, appraise.BadEvidence},
		"another form":  {append([]byte{2}, good[1:]...), appraise.BadEvidence},
		"cut":           {good[:len(good)-1], appraise.BadEvidence},
		"longer":        {append(bytes.Clone(good), 0), appraise.BadEvidence},
		"claim changed": {func() []byte { b := bytes.Clone(good); b[58] ^= 2; return b }(), appraise.BadReportData},
	} {
		_, err := New(t.Context(), peer(t, key, c.payload, never(t)), config())
		var refused *appraise.Error
		if !errors.As(err, &refused) || refused.Result.Reason != c.reason {
			t.Errorf("%s: %v; want reason %q", name, err, c.reason)
		}
	}
}

// open makes a session with a peer that does what it likes.
func open(t *testing.T, play func(*channel.Conn)) *Session {
	t.Helper()
	key := newKey(t)
	s, err := New(t.Context(), peer(t, key, payload(t, key.Public()), play), config())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request reads one whole request.
func request(c *channel.Conn) {
	for {
		if r, err := c.Receive(context.Background()); err != nil || r.Type == channel.End {
			return
		}
	}
}

// TestCutAnswers: part of an answer never looks like an answer, and the session is over.
func TestCutAnswers(t *testing.T) {
	data := channel.Record{Type: channel.Data, Stream: 1, Payload: []byte("half an ans")}
	for name, c := range map[string]struct {
		play func(*channel.Conn)
		want error
	}{
		"connection cut": {func(c *channel.Conn) { request(c); c.Send(context.Background(), data) }, channel.ErrTruncated},
		"closed before END": {func(c *channel.Conn) {
			request(c)
			c.Send(context.Background(), data)
			c.CloseWrite(context.Background())
		}, channel.ErrTruncated},
		"nothing at all": {func(c *channel.Conn) { request(c) }, channel.ErrTruncated},
		"status failed": {func(c *channel.Conn) {
			request(c)
			c.Send(context.Background(), channel.Record{Type: channel.End, Stream: 1, Status: channel.StatusFailed})
			request(c)
		}, ErrIncomplete},
		"status unknown": {func(c *channel.Conn) {
			request(c)
			c.Send(context.Background(), channel.Record{Type: channel.End, Stream: 1, Status: 77})
			request(c)
		}, ErrIncomplete},
		"another stream": {func(c *channel.Conn) {
			request(c)
			c.Send(context.Background(), channel.Record{Type: channel.End, Stream: 2})
			request(c)
		}, nil},
	} {
		s := open(t, c.play)
		got, err := s.Do(t.Context(), []byte("question"))
		if got != nil || err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %q, %v; want %v", name, got, err, c.want)
		}
		if !errors.Is(err, ErrIncomplete) {
			if _, again := s.Do(t.Context(), nil); again == nil || !strings.Contains(again.Error(), "ended by an earlier error") {
				t.Errorf("%s: the session goes on: %v", name, again)
			}
		}
		s.Close(t.Context())
	}
}

// TestCancel ends an exchange whose answer does not come.
func TestCancel(t *testing.T) {
	s := open(t, func(c *channel.Conn) { request(c); request(c) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := s.Do(ctx, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	s.Close(t.Context())
}

// errReader fails after some bytes.
type errReader struct{ n int }

func (r *errReader) Read(p []byte) (int, error) {
	if r.n--; r.n < 0 {
		return 0, errors.New("the disk is gone")
	}
	return copy(p, "some"), nil
}

// TestBrokenRequest: a request that cannot be read to its end is never ended as if it were whole.
func TestBrokenRequest(t *testing.T) {
	s := open(t, func(c *channel.Conn) {
		for {
			r, err := c.Receive(context.Background())
			if err != nil {
				return
			}
			if r.Type == channel.End {
				t.Error("the enclave got a whole request")
			}
		}
	})
	err := s.Exchange(t.Context(), &errReader{3}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("%v", err)
	}
	s.Close(t.Context())
}

func TestAnswerCap(t *testing.T) {
	c := &capped{io.Discard, 10}
	if _, err := c.Write(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte{0}); err == nil {
		t.Error("more than the cap")
	}
}

// noDial is a door that does not open.
type noDial struct{}

func (noDial) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no route")
}

func TestDialError(t *testing.T) {
	if s, err := Dial(t.Context(), noDial{}, "h:1", config()); s != nil || err == nil {
		t.Errorf("%v, %v", s, err)
	}
	a, _ := net.Pipe()
	cfg := config()
	cfg.Now = nil
	if s, err := New(t.Context(), a, cfg); s != nil || err == nil {
		t.Errorf("no clock: %v, %v", s, err)
	}
}

// serve runs an enclave that echoes; a nil means insecure evidence.
func serve(t *testing.T, a enclave.Attester, opt enclave.Options) (addr string) {
	t.Helper()
	if a == nil {
		a = insecure.Attester{}
	}
	return serveOn(t, a, enclave.Echo{}, opt)
}

func serveOn(t *testing.T, a enclave.Attester, e enclave.Engine, opt enclave.Options) (addr string) {
	t.Helper()
	opt.Authority, opt.Rand, opt.Now, opt.Logger, opt.Tick = "default", rand.Reader, time.Now, slog.New(slog.DiscardHandler), -1
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- enclave.Serve(ctx, ln, a, e, opt) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// TestTransportQuery: the surface has no queries, and one is refused before a session is opened.
func TestTransportQuery(t *testing.T) {
	tr := &Transport{Now: time.Now, Open: func(context.Context) (*Session, error) {
		t.Error("a session was opened")
		return nil, errors.New("none")
	}}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://x/v1/models?key=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "query") {
		t.Errorf("%v", err)
	}
}

// TestSecretsAnswer: more than the word that secrets were taken is somebody else's answer.
func TestSecretsAnswer(t *testing.T) {
	var b short
	good := secrets.Taken.Answer()
	if n, err := b.Write(good); err != nil || n != len(good) {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := b.Write([]byte{0}); !errors.Is(err, secrets.ErrNotAsked) {
		t.Errorf("%v", err)
	}
}

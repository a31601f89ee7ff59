package enclave_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/client"
	"tally/enclave/evidence"
	"tally/measure"
)

// A clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *clock { return &clock{t: time.Unix(1767225600, 0)} }

// options are good ones; tests change them.
func options(t testing.TB) enclave.Options {
	return enclave.Options{Authority: "default", Rand: rand.Reader, Now: newClock().now, Logger: slog.New(slog.DiscardHandler), Tick: -1}
}

// config is a client's that accepts insecure evidence.
func config() client.Config {
	return client.Config{
		Authority: "default", Policy: appraise.Policy{Platforms: []string{"insecure"}}, Rand: rand.Reader, Now: newClock().now,
		Reference: &measure.ReferenceValues{Schema: measure.Schema, Name: "minimal", Version: "1", Values: []measure.Value{{}}},
	}
}

// start serves until the test ends and returns the address. The returned stop waits for Serve's answer.
func start(t testing.TB, a enclave.Attester, e enclave.Engine, opt enclave.Options) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- enclave.Serve(ctx, ln, a, e, opt) }()
	var once sync.Once
	var result error
	stop = func() error {
		once.Do(func() { cancel(); result = <-done })
		return result
	}
	t.Cleanup(func() { stop() })
	return ln.Addr().String(), stop
}

func dial(t testing.TB, addr string, cfg client.Config) *client.Session {
	t.Helper()
	s, err := client.Dial(t.Context(), new(net.Dialer), addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func TestEcho(t *testing.T) {
	addr, stop := start(t, insecure.Attester{}, enclave.Echo{}, options(t))
	s := dial(t, addr, config())
	big := make([]byte, 3<<20)
	rand.Read(big)
	for _, msg := range [][]byte{[]byte("hello"), nil, {0}, make([]byte, channel.MaxData), make([]byte, channel.MaxData+1), big} {
		got, err := s.Do(t.Context(), msg)
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%d bytes: %d came back, %v", len(msg), len(got), err)
		}
	}
	if p := s.Peer(); p.Kind != channel.Hybrid {
		t.Errorf("handshake %v, want hybrid by default", p.Kind)
	}
	r := s.Result()
	if !r.Accepted || !r.Insecure || len(r.Checks) == 0 {
		t.Errorf("result %+v", r)
	}
	for _, c := range r.Checks {
		if c.Note != appraise.InsecureNote {
			t.Errorf("check %q has no note", c.Name)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, options(t))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := client.Dial(t.Context(), new(net.Dialer), addr, config())
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close(t.Context())
			for j := range 20 {
				msg := bytes.Repeat([]byte{byte(i), byte(j)}, 1+997*j)
				if got, err := s.Do(t.Context(), msg); err != nil || !bytes.Equal(got, msg) {
					t.Errorf("session %d, message %d: %d bytes, %v", i, j, len(got), err)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// An attacker is an attester that can have anything attested but the truth.
type attacker struct {
	platform string
	report   func([64]byte) []byte
}

func (a attacker) Platform() string { return a.platform }
func (a attacker) Attest(_ context.Context, rd [64]byte) ([]byte, []byte, error) {
	return a.report(rd), nil, nil
}

func TestClientRefuses(t *testing.T) {
	same := func(rd [64]byte) []byte { return rd[:] }
	for _, c := range []struct {
		name   string
		a      enclave.Attester
		change func(*client.Config)
		reason appraise.Reason
	}{
		{"no policy", insecure.Attester{}, func(c *client.Config) { c.Policy = appraise.Policy{} }, appraise.PolicyEmpty},
		{"insecure is not named", insecure.Attester{}, func(c *client.Config) { c.Policy.Platforms = []string{"snp", "tdx"} }, appraise.BadPlatform},
		{"no reference values", insecure.Attester{}, func(c *client.Config) { c.Reference = nil }, appraise.BadMeasurement},
		{"snp without a word on it", attacker{"snp", same}, func(c *client.Config) { c.Policy.Platforms = []string{"snp"} }, appraise.PolicyEmpty},
		{"tdx without a word on it", attacker{"tdx", same}, func(c *client.Config) { c.Policy.Platforms = []string{"tdx"} }, appraise.PolicyEmpty},
		{"vtpm is not supported yet", attacker{"vtpm", same}, func(c *client.Config) {
			c.Policy = appraise.Policy{Platforms: []string{"vtpm"}, Freshness: appraise.FreshNone}
		}, appraise.Unsupported},
		{"a platform nobody knows", attacker{"sgx", same}, func(c *client.Config) {
			c.Policy = appraise.Policy{Platforms: []string{"sgx"}, Freshness: appraise.FreshNone}
		}, appraise.Unsupported},
		{"report about something else", attacker{"insecure", func(rd [64]byte) []byte { rd[0] ^= 1; return rd[:] }}, nil, appraise.BadReportData},
		{"short report", attacker{"insecure", func(rd [64]byte) []byte { return rd[:63] }}, nil, appraise.BadReportData},
		{"empty report", attacker{"insecure", func(rd [64]byte) []byte { return nil }}, nil, appraise.BadReportData},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := &recorder{}
			addr, _ := start(t, c.a, seen, options(t))
			cfg := config()
			if c.change != nil {
				c.change(&cfg)
			}
			s, err := client.Dial(t.Context(), new(net.Dialer), addr, cfg)
			var refused *appraise.Error
			if s != nil || !errors.As(err, &refused) || refused.Result.Reason != c.reason || refused.Result.Accepted {
				t.Fatalf("%v, %v; want refusal with reason %q", s, err, c.reason)
			}
			last := refused.Result.Checks[len(refused.Result.Checks)-1]
			if last.Status != appraise.Failed || last.Name != string(c.reason) {
				t.Errorf("last check %+v", last)
			}
			if seen.called() {
				t.Error("the engine got a request from a client that refused")
			}
		})
	}
}

// A recorder is an engine that remembers having been asked.
type recorder struct {
	mu  sync.Mutex
	hit bool
}

func (r *recorder) called() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hit
}

func (r *recorder) Exchange(context.Context, io.Reader, io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hit = true
	return nil
}

// TestOtherService dials an enclave that is another service than the client wants.
func TestOtherService(t *testing.T) {
	opt := options(t)
	opt.Authority = "other.example"
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	_, err := client.Dial(t.Context(), new(net.Dialer), addr, config())
	var refused *channel.RefusedError
	if !errors.As(err, &refused) || refused.Code != channel.RefusedAuthority {
		t.Errorf("%v", err)
	}
}

// broken is an engine that reads half and gives up with words that must not reach anybody.
type broken struct{}

func (broken) Exchange(_ context.Context, r io.Reader, w io.Writer) error {
	io.ReadFull(r, make([]byte, 4))
	w.Write([]byte("half an ans"))
	return errors.New("CANARY in an error")
}

func TestEngineFailure(t *testing.T) {
	var log bytes.Buffer
	opt := options(t)
	opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	addr, stop := start(t, insecure.Attester{}, broken{}, opt)
	s := dial(t, addr, config())
	for range 2 { // the session outlives a failed exchange
		got, err := s.Do(t.Context(), []byte("CANARY in a request"))
		if !errors.Is(err, client.ErrIncomplete) || got != nil {
			t.Fatalf("%q, %v; want ErrIncomplete and nothing of the half answer", got, err)
		}
	}
	s.Close(t.Context())
	stop()
	if strings.Contains(log.String(), "CANARY") {
		t.Errorf("content in the log: %s", log.String())
	}
	if !strings.Contains(log.String(), "session ended") {
		t.Errorf("log: %s", log.String())
	}
}

func TestRequestTooLong(t *testing.T) {
	opt := options(t)
	opt.MaxRequest = 1000
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	s := dial(t, addr, config())
	if got, err := s.Do(t.Context(), make([]byte, 1000)); err != nil || len(got) != 1000 {
		t.Fatalf("at the limit: %d bytes, %v", len(got), err)
	}
	if _, err := s.Do(t.Context(), make([]byte, 1001)); !errors.Is(err, client.ErrTooLong) {
		t.Errorf("over the limit: %v", err)
	}
	if got, err := s.Do(t.Context(), []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("the next request: %q, %v", got, err)
	}
}

func TestBusy(t *testing.T) {
	opt := options(t)
	opt.MaxSessions = 1
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	first := dial(t, addr, config())
	if _, err := client.Dial(t.Context(), new(net.Dialer), addr, config()); err == nil {
		t.Fatal("a second session where one is allowed")
	}
	if _, err := first.Do(t.Context(), []byte("x")); err != nil {
		t.Errorf("the first session suffered: %v", err)
	}
}

// TestSlowPeers open connections and say little or nothing; the server lets go of each.
func TestSlowPeers(t *testing.T) {
	opt := options(t)
	opt.HandshakeTimeout, opt.IdleTimeout = 200*time.Millisecond, 50*time.Millisecond
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	for name, hello := range map[string]string{"silent": "", "one byte": "\x00", "half a frame": "\x05\x00\x03", "nothing but a length": "\x0f\xff"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, hello)
		// The deadline is the test's way to fail, not what is measured.
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the server still holds the connection", name)
		}
		conn.Close()
	}
	idle := dial(t, addr, config())
	waitFor(t, func() bool {
		_, err := idle.Do(t.Context(), nil)
		if err == nil {
			time.Sleep(100 * time.Millisecond)
		}
		return err != nil
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 200 {
		if done() {
			return
		}
	}
	t.Fatal("it never happened")
}

// TestShutdownIsNoTruncation: ending the server closes sessions with an authenticated CLOSE.
func TestShutdownIsNoTruncation(t *testing.T) {
	opt := options(t)
	addr, stop := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := channel.Client(t.Context(), conn, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now},
		func(context.Context, channel.Peer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	// One exchange, so that the server is surely in its session.
	if err := c.Send(t.Context(), channel.Record{Type: channel.End, Stream: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(t.Context()); err != io.EOF {
		t.Errorf("%v, want io.EOF, which only an authenticated CLOSE gives", err)
	}
}

// TestSessionLifetime: a session ends when its time is over, by CLOSE, though it is busy, and its engine is told.
func TestSessionLifetime(t *testing.T) {
	opt := options(t)
	opt.SessionLifetime = 500 * time.Millisecond
	var log bytes.Buffer
	opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	engine := patient{make(chan error, 1)}
	addr, stop := start(t, insecure.Attester{}, engine, opt)
	s := dial(t, addr, config())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Exchange(ctx, strings.NewReader("slow"), io.Discard); err == nil || !strings.Contains(err.Error(), "the enclave closed the session") {
		t.Errorf("%v, want an authenticated CLOSE", err)
	}
	if err := <-engine.ended; err == nil {
		t.Error("the engine works on")
	}
	if _, err := s.Do(t.Context(), []byte("quick")); err == nil {
		t.Error("an exchange after the session's time")
	}
	if stop(); !strings.Contains(log.String(), `"session ended" reason=timeout`) {
		t.Errorf("log: %s", log.String())
	}
}

// TestHandshakeSlots: no more handshakes are in progress than may be, and who waits in vain for one is let go in its time.
func TestHandshakeSlots(t *testing.T) {
	opt := options(t)
	opt.MaxHandshakes, opt.HandshakeTimeout = 1, 2*time.Second
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	silent, err := net.Dial("tcp", addr) // has the slot until its time is over
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	time.Sleep(200 * time.Millisecond)
	cfg := config()
	cfg.Timeout = 500 * time.Millisecond
	if err := dialError(t, addr, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second handshake where one is allowed: %v", err)
	}
	waitFor(t, func() bool { return dialError(t, addr, cfg) == nil })
}

// TestKeyRotation: a key takes so many sessions and so long, then another one serves; sessions under the
// old one go on.
func TestKeyRotation(t *testing.T) {
	clk := newClock()
	opt := options(t)
	opt.Now, opt.KeySessions, opt.KeyLifetime = clk.now, 3, time.Hour
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	keys := map[channel.PublicKey]int{}
	var order []channel.PublicKey
	open := func() *client.Session {
		s := dial(t, addr, config())
		k := s.Peer().Static
		if keys[k] == 0 {
			order = append(order, k)
		}
		keys[k]++
		return s
	}
	first := open()
	for range 5 {
		open()
	}
	if len(order) != 2 || keys[order[0]] != 3 || keys[order[1]] != 3 {
		t.Fatalf("sessions by key: %d keys, %v", len(order), keys)
	}
	open()
	clk.add(time.Hour)
	open()
	if len(order) != 4 {
		t.Errorf("%d keys, want a fourth after its time", len(order))
	}
	if got, err := first.Do(t.Context(), []byte("still here")); err != nil || string(got) != "still here" {
		t.Errorf("session under a retired key: %q, %v", got, err)
	}
}

// TestNextKeyAges: a key made ahead for clients that then did not come is not shown to those who come when its time is over, too.
func TestNextKeyAges(t *testing.T) {
	clk := newClock()
	opt := options(t)
	opt.Now, opt.KeyLifetime = clk.now, 10*time.Hour
	a := telling{made: make(chan bool, 3)}
	addr, _ := start(t, a, enclave.Echo{}, opt)
	<-a.made
	clk.add(9 * time.Hour)
	dial(t, addr, config()) // has the next key made
	<-a.made
	clk.add(20 * time.Hour)
	d, err := evidence.Parse(dial(t, addr, config()).Peer().Payload[1:])
	if err != nil {
		t.Fatal(err)
	}
	if c, now := d.Claims, clk.now().Unix(); c.NotAfter <= now || c.Epoch != 3 {
		t.Errorf("at %d a session under key %d, valid from %d to %d", now, c.Epoch, c.NotBefore, c.NotAfter)
	}
}

// TestIdleKey: a key whose time is over is retired though nobody comes, and the next one is made before.
func TestIdleKey(t *testing.T) {
	opt := options(t)
	opt.Now, opt.KeyLifetime = time.Now, time.Second
	rotated := make(chan bool, 64)
	opt.Observe = func(e enclave.Event) {
		if e.What == enclave.NewKey {
			rotated <- true
		}
	}
	a := telling{made: make(chan bool, 64)}
	start(t, a, enclave.Echo{}, opt)
	for i := range 3 {
		select {
		case <-rotated:
		case <-time.After(time.Minute):
			t.Fatalf("%d keys in a minute, want one a second", i)
		}
	}
	if len(a.made) < 3 {
		t.Errorf("%d reports for three keys", len(a.made))
	}
}

// An attester that tells of each report.
type telling struct {
	insecure.Attester
	made chan bool
}

func (a telling) Attest(ctx context.Context, rd [64]byte) ([]byte, []byte, error) {
	a.made <- true
	return a.Attester.Attest(ctx, rd)
}

// An attester that fails while it is ill.
type fading struct {
	ill   atomic.Bool
	asked atomic.Int32
}

func (*fading) Platform() string { return "insecure" }
func (f *fading) Attest(_ context.Context, rd [64]byte) ([]byte, []byte, error) {
	defer f.asked.Add(1)
	if f.ill.Load() {
		return nil, nil, errors.New("the platform is busy")
	}
	return rd[:], nil, nil
}

// TestFailedRotation: no session without fresh evidence, and service again once there is some.
func TestFailedRotation(t *testing.T) {
	opt := options(t)
	opt.KeySessions = 1
	a := new(fading)
	addr, _ := start(t, a, enclave.Echo{}, opt)
	next := a.asked.Load() // the first key's
	for ; next == 0; next = a.asked.Load() {
		time.Sleep(time.Millisecond)
	}
	a.ill.Store(true)
	dial(t, addr, config()) // and the next key is begun
	for a.asked.Load() == next {
		time.Sleep(time.Millisecond)
	}
	if _, err := client.Dial(t.Context(), new(net.Dialer), addr, config()); err == nil {
		t.Fatal("a session under a used-up key")
	}
	a.ill.Store(false)
	dial(t, addr, config())
}

// TestFailedAhead: nobody pays for a key that could not be made ahead some time ago, when it can be made now.
func TestFailedAhead(t *testing.T) {
	opt := options(t)
	opt.KeySessions = 1
	a := new(fading)
	addr, _ := start(t, a, enclave.Echo{}, opt)
	for a.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	a.ill.Store(true)
	dial(t, addr, config())
	for a.asked.Load() == 1 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // it is known that there is no key
	a.ill.Store(false)
	dial(t, addr, config())
}

func TestServeRefusesBadOptions(t *testing.T) {
	for name, change := range map[string]func(*enclave.Options){
		"no authority":         func(o *enclave.Options) { o.Authority = "" },
		"no randomness":        func(o *enclave.Options) { o.Rand = nil },
		"no clock":             func(o *enclave.Options) { o.Now = nil },
		"no logger":            func(o *enclave.Options) { o.Logger = nil },
		"negative limit":       func(o *enclave.Options) { o.MaxSessions = -1 },
		"cover without a tick": func(o *enclave.Options) { o.Cover = true }, // options have none
		"window of an hour":    func(o *enclave.Options) { o.SessionWindow = time.Hour },
	} {
		opt := options(t)
		change(&opt)
		if err := enclave.Serve(t.Context(), newNobody(), insecure.Attester{}, enclave.Echo{}, opt); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	ln := newNobody()
	if err := enclave.Serve(t.Context(), ln, failing{}, enclave.Echo{}, options(t)); err == nil || !strings.Contains(err.Error(), "no report today") {
		t.Errorf("an attester that fails: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) { // waits for ever if nobody closed it
		t.Error(err)
	}
}

// TestEndedEarly: an enclave that is ended before it has its first key ends like any other.
func TestEndedEarly(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for range 20 { // a select of two that are ready takes either
		ln := newNobody()
		if err := enclave.Serve(ended, ln, insecure.Attester{}, enclave.Echo{}, options(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}

type failing struct{ insecure.Attester }

func (failing) Attest(context.Context, [64]byte) ([]byte, []byte, error) {
	return nil, nil, errors.New("no report today")
}

// dialError is why no session came to be.
func dialError(t *testing.T, addr string, cfg client.Config) error {
	t.Helper()
	s, err := client.Dial(t.Context(), new(net.Dialer), addr, cfg)
	if s != nil {
		s.Close(t.Context())
	}
	return err
}

package channel

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func config(kinds ...Kind) Config {
	return Config{Authority: "default", Kinds: kinds, Rand: rand.Reader, Now: time.Now}
}

func newStatic(t testing.TB) *StaticKey {
	t.Helper()
	k, err := GenerateStatic(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func accept(context.Context, Peer) error { return nil }

// tcpPair is a real connection over loopback.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

type side struct {
	conn *Conn
	err  error
}

// shake runs both sides over a pair of connections.
func shake(t testing.TB, cc, sc net.Conn, ccfg, scfg Config, static *StaticKey, payload []byte, v Verify) (client, server side) {
	t.Helper()
	done := make(chan side, 1)
	go func() {
		c, err := Server(t.Context(), sc, scfg, static, payload)
		done <- side{c, err}
	}()
	client.conn, client.err = Client(t.Context(), cc, ccfg, v)
	return client, <-done
}

// session is an open pair of Conns over net.Pipe.
func session(t testing.TB, ccfg, scfg Config) (client, server *Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	c, s := shake(t, a, b, ccfg, scfg, newStatic(t), []byte("evidence"), accept)
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	return c.conn, s.conn
}

func TestHandshake(t *testing.T) {
	for _, kind := range []Kind{Classical, Hybrid} {
		for _, size := range []int{0, 1, 12 << 10, DefaultMaxPayload} {
			static := newStatic(t)
			payload := bytes.Repeat([]byte{7}, size)
			var seen Peer
			cc, sc := tcpPair(t)
			c, s := shake(t, cc, sc, config(kind), config(Classical, Hybrid), static, payload, func(_ context.Context, p Peer) error { seen = p; return nil })
			if c.err != nil || s.err != nil {
				t.Fatalf("%v, %d bytes of evidence: %v, %v", kind, size, c.err, s.err)
			}
			if seen.Static != static.Public() || !bytes.Equal(seen.Payload, payload) || seen.Kind != kind {
				t.Errorf("%v: verify saw %v", kind, seen)
			}
			cp, sp := c.conn.Peer(), s.conn.Peer()
			if cp.Binding != sp.Binding || cp.Binding == [32]byte{} || sp.Kind != kind || cp.Static != static.Public() {
				t.Errorf("%v: client %v, server %v", kind, cp, sp)
			}
			echoOnce(t, c.conn, s.conn)
		}
	}
}

// echoOnce sends a record each way.
func echoOnce(t testing.TB, a, b *Conn) {
	t.Helper()
	for _, dir := range [][2]*Conn{{a, b}, {b, a}} {
		sent := make(chan error, 1)
		go func() { sent <- dir[0].Send(t.Context(), Record{Type: Data, Stream: 1, Payload: []byte("hello")}) }()
		r, err := dir[1].Receive(t.Context())
		if serr := <-sent; serr != nil || err != nil || string(r.Payload) != "hello" {
			t.Fatalf("%q, %v, %v", r.Payload, err, serr)
		}
	}
}

func TestClientsCannotBeLinked(t *testing.T) {
	_, a := session(t, config(), config())
	_, b := session(t, config(), config())
	if a.Peer().Static == b.Peer().Static {
		t.Error("two sessions with one client key")
	}
}

// TestNothingIsSentBeforeVerify: a client that refuses has sent message 1 and not a byte more.
func TestNothingIsSentBeforeVerify(t *testing.T) {
	for _, kind := range []Kind{Classical, Hybrid} {
		cc, sc := tcpPair(t)
		counted := &countingConn{Conn: cc}
		no := errors.New("evidence for another key")
		atVerify := 0
		c, s := shake(t, counted, sc, config(kind), config(kind), newStatic(t), []byte("evidence"), func(context.Context, Peer) error { atVerify = counted.n; return no })
		if c.conn != nil || !errors.Is(c.err, no) {
			t.Errorf("%v: client %v, %v", kind, c.conn, c.err)
		}
		if counted.n != atVerify || atVerify == 0 {
			t.Errorf("%v: %d bytes sent before the judgement, %d in all", kind, atVerify, counted.n)
		}
		if s.conn != nil || !errors.Is(s.err, ErrTruncated) {
			t.Errorf("%v: server %v, %v", kind, s.conn, s.err)
		}
	}
}

type countingConn struct {
	net.Conn
	n int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.n += len(b)
	return c.Conn.Write(b)
}

// TestLeftWhileJudging: a user who leaves while the evidence is judged has not accepted it.
func TestLeftWhileJudging(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		id := newIdentity(t, "evidence")
		cfg := config()
		if pinned {
			cfg.Pin = pinOf(id)
		}
		cc, sc := tcpPair(t)
		done := make(chan error, 1)
		go func() {
			_, err := Accept(t.Context(), sc, config(), id)
			done <- err
		}()
		counted, at := &countingConn{Conn: cc}, 0
		ctx, leave := context.WithCancelCause(t.Context())
		left := errors.New("the user left")
		c, err := Client(ctx, counted, cfg, func(context.Context, Peer) error {
			at = counted.n
			leave(left)
			return nil
		})
		if c != nil || !errors.Is(err, left) || at == 0 || counted.n != at {
			t.Errorf("pinned %v: %v; %d bytes before, %d in all", pinned, err, at, counted.n)
		}
		if err := <-done; err == nil {
			t.Errorf("pinned %v: the server has a session", pinned)
		}
	}
}

func TestClientWantsAJudge(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	if c, err := Client(t.Context(), a, config(), nil); c != nil || err == nil || !strings.Contains(err.Error(), "nobody to judge") {
		t.Errorf("%v, %v", c, err)
	}
}

func TestNegotiation(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, server []Kind
		authority      string
		code           Refusal // 0: a session of kind
		kind           Kind
	}{
		{"defaults are hybrid", nil, nil, "default", 0, Hybrid},
		{"the strongest is taken", []Kind{Classical, Hybrid}, []Kind{Hybrid, Classical}, "default", 0, Hybrid},
		{"classical where both say so", []Kind{Classical}, []Kind{Classical}, "default", 0, Classical},
		{"classical client, hybrid server", []Kind{Classical}, nil, "default", RefusedKind, 0},
		{"hybrid client, classical server", nil, []Kind{Classical}, "default", RefusedKind, 0},
		{"another service", nil, nil, "other", RefusedAuthority, 0},
	} {
		cc, sc := tcpPair(t)
		ccfg := config(c.client...)
		ccfg.Authority = c.authority
		cl, sv := shake(t, cc, sc, ccfg, config(c.server...), newStatic(t), nil, accept)
		if c.code == 0 {
			if cl.err != nil || sv.err != nil || cl.conn.Peer().Kind != c.kind {
				t.Errorf("%s: %v, %v", c.name, cl.err, sv.err)
			}
			continue
		}
		var refused *RefusedError
		if !errors.As(cl.err, &refused) || refused.Code != c.code || sv.err == nil {
			t.Errorf("%s: %v, %v; want refusal %v", c.name, cl.err, sv.err, c.code)
		}
	}
}

// TestKindsToBeginWith: of all kinds that a client may claim to speak a server takes its own strongest and its reconnect.
func TestKindsToBeginWith(t *testing.T) {
	for own, good := range map[Kind][]Kind{Classical: {Classical, ClassicalReconnect}, Hybrid: {Hybrid, HybridReconnect}} {
		cfg := config(own)
		for k := range Kind(255) {
			offered := slices.Compact(slices.Sorted(slices.Values([]Kind{own, k})))
			code := cfg.judge(&header{kind: k, authority: "default", offered: offered, carrier: CarrierStream})
			if (code == 0) != slices.Contains(good, k) {
				t.Errorf("%v for a server of %v: refusal %d", k, own, code)
			}
		}
	}
}

func TestConfigRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no authority":      func(c *Config) { c.Authority = "" },
		"bad authority":     func(c *Config) { c.Authority = "a\x00b" },
		"no randomness":     func(c *Config) { c.Rand = nil },
		"no clock":          func(c *Config) { c.Now = nil },
		"unknown kind":      func(c *Config) { c.Kinds = []Kind{2} },
		"rekey too late":    func(c *Config) { c.RekeyAfter = MaxRecordsPerKey + 1 },
		"rekey at once":     func(c *Config) { c.RekeyAfter = 1 },
		"negative timeout":  func(c *Config) { c.Timeout = -1 },
		"too much evidence": func(c *Config) { c.MaxPayload = DefaultMaxPayload + 1 },
		"failing rand":      func(c *Config) { c.Rand = strings.NewReader("short") },
	} {
		cfg := config()
		change(&cfg)
		a, b := net.Pipe()
		if c, err := Client(t.Context(), a, cfg, accept); c != nil || err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := b.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: the connection was left open: %v", name, err)
		}
	}
}

// TestHeaderRefused: a header has one form, whoever agrees with himself on another.
func TestHeaderRefused(t *testing.T) {
	good := (&header{kind: Hybrid, authority: "default", offered: []Kind{Classical, Hybrid}, carrier: CarrierStream}).append(nil)
	edit := func(at int, v byte) []byte { b := bytes.Clone(good); b[at] = v; return b }
	if h, n, err := parseHeader(append(bytes.Clone(good), 1, 2)); err != nil || n != len(good) || h.kind != Hybrid || len(h.offered) != 2 {
		t.Fatalf("%+v, %d, %v", h, n, err)
	}
	for name, b := range map[string][]byte{
		"suite": edit(1, 2), "carrier 0": edit(2, 0), "carrier 3": edit(2, 3), "version": edit(len(good)-1, 2),
		"long authority": edit(3, 1), "long offer": edit(12, 1), "authority": edit(5, ' '),
	} {
		if h, _, err := parseHeader(b); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
	for i := range good {
		if h, _, err := parseHeader(good[:i]); err == nil {
			t.Errorf("%d bytes: %+v", i, h)
		}
	}
}

// A mangler sits between client and server and changes the nth frame of one direction.
func mangle(t *testing.T, cfgc, cfgs Config, fromClient bool, frame int, change func([]byte) []byte) (client, server side) {
	t.Helper()
	cc, m1 := tcpPair(t)
	m2, sc := tcpPair(t)
	pump := func(dst, src net.Conn, active bool) {
		defer dst.Close()
		for i := 0; ; i++ {
			b, err := readFrame(src, nil, 0xffff)
			if err != nil {
				return
			}
			if active && i == frame {
				b = change(b)
			}
			if len(b) == 0 {
				return
			}
			if writeFrame(dst, append(make([]byte, 2), b...)) != nil {
				return
			}
		}
	}
	go pump(m2, m1, fromClient)
	go pump(m1, m2, !fromClient)
	return shake(t, cc, sc, cfgc, cfgs, newStatic(t), []byte("evidence"), accept)
}

// TestTamperedHandshake flips bits everywhere in every handshake message: never do both sides end up with
// a session, and never does the client judge evidence that was touched.
func TestTamperedHandshake(t *testing.T) {
	both := config(Classical, Hybrid)
	for _, c := range []struct {
		name   string
		client bool
		frame  int
		change func([]byte) []byte
	}{
		{"kind to classical", true, 0, func(b []byte) []byte { b[0] = byte(Classical); return b }},
		{"suite", true, 0, func(b []byte) []byte { b[1]++; return b }},
		{"carrier", true, 0, func(b []byte) []byte { b[2]++; return b }},
		{"authority", true, 0, func(b []byte) []byte { b[5] ^= 0x20; return b }},
		{"offer without hybrid", true, 0, func([]byte) []byte {
			return append((&header{kind: Classical, authority: "default", offered: []Kind{Classical}, carrier: CarrierStream}).append(nil), make([]byte, 32)...)
		}},
		{"offer with a kind more", true, 0, func(b []byte) []byte {
			h, n, _ := parseHeader(b)
			h.offered = append(h.offered, 0x7f)
			return append(h.append(nil), b[n:]...)
		}},
		{"client ephemeral", true, 0, func(b []byte) []byte { b[20] ^= 1; return b }},
		{"low-order point", true, 0, func(b []byte) []byte {
			_, n, _ := parseHeader(b)
			copy(b[n:], make([]byte, 32))
			return b
		}},
		{"ML-KEM key", true, 0, func(b []byte) []byte { b[len(b)-40] ^= 1; return b }},
		{"message 1 cut", true, 0, func(b []byte) []byte { return b[:len(b)-1] }},
		{"message 1 cut to its kind", true, 0, func(b []byte) []byte { return b[:1] }},
		{"message 1 dropped", true, 0, func([]byte) []byte { return nil }},
		{"answer's kind", false, 0, func(b []byte) []byte { b[0] = Classical.reply(); return b }},
		{"server ephemeral", false, 0, func(b []byte) []byte { b[1] ^= 1; return b }},
		{"server static", false, 0, func(b []byte) []byte { b[40] ^= 1; return b }},
		{"ML-KEM ciphertext", false, 0, func(b []byte) []byte { b[200] ^= 1; return b }},
		{"evidence", false, 0, func(b []byte) []byte { b[len(b)-20] ^= 1; return b }},
		{"message 2 cut", false, 0, func(b []byte) []byte { return b[:len(b)-1] }},
		{"message 2 longer", false, 0, func(b []byte) []byte { return append(b, 0) }},
		{"message 2 cut to its kind", false, 0, func(b []byte) []byte { return b[:1] }},
		{"forged refusal", false, 0, func([]byte) []byte { return []byte{refusal, byte(RefusedKind)} }},
		{"message 3", true, 1, func(b []byte) []byte { b[0] ^= 1; return b }},
		{"message 3 cut", true, 1, func(b []byte) []byte { return b[:len(b)-1] }},
		{"message 3 empty", true, 1, func([]byte) []byte { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, sv := mangle(t, both, both, c.client, c.frame, c.change)
			if sv.conn != nil {
				t.Errorf("the server has a session")
			}
			// Message 3 is the client's last word: it learns of its loss at its first receive.
			if c.frame == 0 && (cl.conn != nil || cl.err == nil) {
				t.Errorf("the client has a session")
			}
			if cl.conn != nil {
				if _, err := cl.conn.Receive(t.Context()); err == nil || err == io.EOF {
					t.Errorf("the client's session lives: %v", err)
				}
			}
		})
	}
}

// TestReflected: a client that hears its own words, as they are or as an answer of the right kind and length, judges nothing
// and has no session.
func TestReflected(t *testing.T) {
	for _, kind := range []Kind{Classical, Hybrid, ClassicalReconnect, HybridReconnect} {
		for name, answer := range map[string]func(noise []byte) []byte{
			"message 1":            nil,
			"its Noise message":    func(noise []byte) []byte { return append([]byte{kind.reply()}, noise...) },
			"its key, and as long": func(noise []byte) []byte { return append([]byte{kind.reply()}, append(noise[:32:32], noise...)...) },
			"in a fallback": func(noise []byte) []byte {
				return append([]byte{ClassicalFallback.reply()}, append(noise, noise...)...)
			},
		} {
			cfg := config(kind.family())
			if kind.reconnects() {
				cfg.Pin = pinOf(newIdentity(t, "evidence"))
			}
			cc, mirror := tcpPair(t)
			go func() {
				defer mirror.Close()
				for {
					b, err := readFrame(mirror, nil, 0xffff)
					if err != nil {
						return
					}
					if _, n, err := parseHeader(b); err == nil && answer != nil {
						b = answer(b[n:])
					}
					if writeFrame(mirror, append(make([]byte, 2), b...)) != nil {
						return
					}
				}
			}()
			judged := false
			c, err := Client(t.Context(), cc, cfg, func(context.Context, Peer) error { judged = true; return nil })
			if c != nil || err == nil || judged {
				t.Errorf("%v, %s: a session: %v, %v; judged: %v", kind, name, c != nil, err, judged)
			}
		}
	}
}

// TestManInTheMiddle answers with its own key and the real server's evidence: the handshake holds, so the
// client has to see a key that the evidence is not for.
func TestManInTheMiddle(t *testing.T) {
	real, own := newStatic(t), newStatic(t)
	evidence := real.Public()
	cc, sc := tcpPair(t)
	c, s := shake(t, cc, sc, config(), config(), own, evidence[:], func(_ context.Context, p Peer) error {
		if !bytes.Equal(p.Payload, p.Static[:]) {
			return errors.New("evidence for another key")
		}
		return nil
	})
	if c.conn != nil || s.conn != nil || c.err == nil {
		t.Errorf("%v, %v", c, s)
	}
}

func TestHandshakeTimeout(t *testing.T) {
	cfg := config()
	cfg.Timeout = 30 * time.Millisecond
	cc, sc := tcpPair(t)
	if c, err := Client(t.Context(), cc, cfg, accept); c != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("client: %v", err)
	}
	if c, err := Server(t.Context(), sc, cfg, newStatic(t), nil); c != nil || err == nil {
		t.Errorf("server: %v", err)
	}
	// A server whose client says a hello and then stays.
	cc, sc = tcpPair(t)
	go cc.Write([]byte{0x0f})
	if c, err := Server(t.Context(), sc, cfg, newStatic(t), nil); c != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("server: %v", err)
	}
}

func TestOversizeHello(t *testing.T) {
	cc, sc := tcpPair(t)
	frame := make([]byte, 2+MaxHello+1)
	binary.BigEndian.PutUint16(frame, MaxHello+1)
	go cc.Write(frame)
	if _, err := Server(t.Context(), sc, config(), newStatic(t), nil); err == nil || !strings.Contains(err.Error(), "frame of 4097 bytes") {
		t.Errorf("%v", err)
	}
}

func TestOversizeEvidence(t *testing.T) {
	cc, sc := tcpPair(t)
	cfg := config()
	cfg.MaxPayload = 100
	c, _ := shake(t, cc, sc, cfg, config(), newStatic(t), make([]byte, 101), accept)
	if c.err == nil || !strings.Contains(c.err.Error(), "frame of") {
		t.Errorf("%v", c.err)
	}
}

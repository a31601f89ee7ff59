package channel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func newIdentity(t testing.TB, evidence string) *Identity {
	t.Helper()
	decap, err := GenerateDecap(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Identity{Static: newStatic(t), Decap: decap, Payload: []byte(evidence)}
}

// pinOf is what a client of id keeps.
func pinOf(id *Identity) *Pin {
	p := &Pin{Static: id.Static.Public(), Payload: id.Payload}
	if id.Decap != nil {
		p.EncapKey = id.Decap.Public()
	}
	return p
}

// shakeAs is shake with an Identity.
func shakeAs(t testing.TB, cc, sc net.Conn, ccfg, scfg Config, id *Identity, v Verify) (client, server side) {
	t.Helper()
	done := make(chan side, 1)
	go func() {
		c, err := Accept(t.Context(), sc, scfg, id)
		done <- side{c, err}
	}()
	client.conn, client.err = Client(t.Context(), cc, ccfg, v)
	return client, <-done
}

func TestReconnect(t *testing.T) {
	for _, c := range []struct {
		name   string
		kinds  []Kind // of the client; the server takes both
		change func(p *Pin, id *Identity)
		want   Kind
		inline bool // the server sends its evidence
	}{
		{"hybrid", nil, nil, HybridReconnect, false},
		{"classical", []Kind{Classical}, nil, ClassicalReconnect, false},
		{"the strongest of both", []Kind{Classical, Hybrid}, nil, HybridReconnect, false},
		{"hybrid, new evidence for the key", nil, func(p *Pin, _ *Identity) { p.Payload = []byte("old evidence") }, HybridReconnect, true},
		{"classical, new evidence for the key", []Kind{Classical}, func(p *Pin, _ *Identity) { p.Payload = []byte("old evidence") }, ClassicalReconnect, true},
		{"hybrid, key gone", nil, func(p *Pin, _ *Identity) { p.Static = newStatic(t).Public() }, Hybrid, true},
		{"classical, key gone", []Kind{Classical}, func(p *Pin, _ *Identity) { p.Static = newStatic(t).Public() }, ClassicalFallback, true},
		{"both, key gone", []Kind{Classical, Hybrid}, func(p *Pin, _ *Identity) { p.Static = newStatic(t).Public() }, Hybrid, true},
		{"no ML-KEM key at the server", nil, func(_ *Pin, id *Identity) { id.Decap = nil }, Hybrid, true},
		{"no ML-KEM key in the pin", nil, func(p *Pin, _ *Identity) { p.EncapKey = nil }, Hybrid, true},
		{"no ML-KEM key in the pin, both", []Kind{Classical, Hybrid}, func(p *Pin, _ *Identity) { p.EncapKey = nil }, Hybrid, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := newIdentity(t, strings.Repeat("evidence ", 500))
			ccfg := config(c.kinds...)
			ccfg.Pin = pinOf(id)
			if c.change != nil {
				c.change(ccfg.Pin, id)
			}
			cc, sc := tcpPair(t)
			counted := &countingConn{Conn: sc}
			var seen Peer
			cl, sv := shakeAs(t, cc, counted, ccfg, config(Classical, Hybrid), id, func(_ context.Context, p Peer) error { seen = p; return nil })
			if cl.err != nil || sv.err != nil {
				t.Fatal(cl.err, sv.err)
			}
			if seen.Static != id.Static.Public() || !bytes.Equal(seen.Payload, id.Payload) {
				t.Errorf("verify saw key %x and %q", seen.Static, seen.Payload)
			}
			cp, sp := cl.conn.Peer(), sv.conn.Peer()
			if cp.Kind != c.want || sp.Kind != c.want || cp.Binding != sp.Binding || cp.Binding == [32]byte{} {
				t.Errorf("client %v, server %v, want %v and one binding", cp.Kind, sp.Kind, c.want)
			}
			if again := c.want.reconnects(); again != (cp.Nonce != [32]byte{}) && c.want != ClassicalFallback || again && cp.Nonce != sp.Nonce {
				t.Errorf("nonces %x, %x", cp.Nonce, sp.Nonce)
			}
			if inline := counted.n >= len(id.Payload); inline != c.inline {
				t.Errorf("the server has sent %d bytes; evidence is %d", counted.n, len(id.Payload))
			}
			echoOnce(t, cl.conn, sv.conn)
		})
	}
}

// TestReconnectIsJudged: pinned evidence is judged again, and a client that refuses it has told the server
// no more than its first message.
func TestReconnectIsJudged(t *testing.T) {
	for _, gone := range []bool{false, true} {
		for _, kind := range []Kind{Classical, Hybrid} {
			id, no := newIdentity(t, "evidence"), errors.New("revoked since")
			ccfg := config(kind)
			ccfg.Pin = pinOf(id)
			if gone {
				ccfg.Pin.Static = newStatic(t).Public()
			}
			cc, sc := tcpPair(t)
			counted, at := &countingConn{Conn: cc}, 0
			cl, sv := shakeAs(t, counted, sc, ccfg, config(kind), id, func(context.Context, Peer) error { at = counted.n; return no })
			if cl.conn != nil || !errors.Is(cl.err, no) || sv.conn != nil || sv.err == nil {
				t.Errorf("%v, gone %v: %v, %v", kind, gone, cl.err, sv.err)
			}
			if at == 0 || counted.n != at {
				t.Errorf("%v, gone %v: %d bytes before the judgement, %d in all", kind, gone, at, counted.n)
			}
		}
	}
}

// A wiretap keeps what is written through it.
type wiretap struct {
	net.Conn
	bytes.Buffer
}

func (w *wiretap) Write(b []byte) (int, error) { w.Buffer.Write(b); return w.Conn.Write(b) }
func (w *wiretap) Read(b []byte) (int, error)  { return w.Conn.Read(b) }

// TestReplayedReconnect plays a client's whole side of a session again: to the same server, to one that
// remembers nothing but has the same keys, and to another.
func TestReplayedReconnect(t *testing.T) {
	for _, kind := range []Kind{Classical, Hybrid} {
		id := newIdentity(t, "evidence")
		ccfg := config(kind)
		ccfg.Pin = pinOf(id)
		cc, sc := tcpPair(t)
		tap := &wiretap{Conn: cc}
		cl, sv := shakeAs(t, tap, sc, ccfg, config(kind), id, accept)
		if cl.err != nil || sv.err != nil {
			t.Fatal(cl.err, sv.err)
		}
		echoOnce(t, cl.conn, sv.conn)
		forgetful := &Identity{Static: id.Static, Decap: id.Decap, Payload: id.Payload}
		for name, c := range map[string]struct {
			id   *Identity
			want error
		}{
			"same":      {id, ErrReplay},
			"forgetful": {forgetful, ErrDecrypt}, // at the confirmation: another ephemeral, other keys
			"other":     {newIdentity(t, "evidence"), nil},
		} {
			conn, err := Accept(t.Context(), script{bytes.NewReader(tap.Bytes()), nil}, config(kind), c.id)
			if conn != nil || err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, %s: session %v, %v; want %v", kind, name, conn != nil, err, c.want)
			}
		}
	}
}

// TestReconnectIsNoDowngrade: no answer that somebody on the way invents makes a hybrid client speak
// classical, and none but "the key is gone" makes any client begin anew.
func TestReconnectIsNoDowngrade(t *testing.T) {
	id := newIdentity(t, "evidence")
	for _, kinds := range [][]Kind{{Hybrid}, {Classical, Hybrid}, {Classical}} {
		for _, answer := range [][]byte{
			{ClassicalFallback.reply()}, {Classical.reply()}, {ClassicalReconnect.reply()}, {Hybrid.reply()}, {HybridReconnect.reply()},
			{refusal, byte(RefusedHeader)}, {refusal, byte(RefusedKind)}, {refusal, byte(RefusedAuthority)}, {refusal, byte(RefusedBusy)}, {refusal, 6}, {refusal, byte(RefusedKey)},
		} {
			if answer[0] != refusal {
				answer = append(answer, make([]byte, 200)...)
			}
			ccfg := config(kinds...)
			ccfg.Pin = pinOf(id)
			wire := append([]byte{0, byte(len(answer))}, answer...)
			var said bytes.Buffer
			c, err := Client(t.Context(), script{bytes.NewReader(wire), &said}, ccfg, accept)
			if c != nil || err == nil {
				t.Fatalf("%v, answer %x: a session", kinds, answer[:2])
			}
			var spoken []Kind
			for {
				frame, err := readFrame(&said, nil, 0xffff)
				if err != nil {
					break
				}
				spoken = append(spoken, Kind(frame[0]))
			}
			want := []Kind{strongest(kinds, kinds) + 1}
			if answer[0] == refusal && answer[1] == byte(RefusedKey) {
				want = append(want, strongest(kinds, kinds))
			}
			if string(kindBytes(spoken)) != string(kindBytes(want)) {
				t.Errorf("%v, answer %x: spoken %v, want %v", kinds, answer[:2], spoken, want)
			}
		}
	}
}

func kindBytes(kinds []Kind) (b []byte) {
	for _, k := range kinds {
		b = append(b, byte(k))
	}
	return b
}

// TestTamperedReconnect changes each part of the first messages. The client never gets a session with less
// than what was sent, and never one with a server that saw other bytes.
func TestTamperedReconnect(t *testing.T) {
	for _, kind := range []Kind{Classical, Hybrid} {
		id := newIdentity(t, "evidence")
		for name, at := range map[string]int{"kind": 0, "authority": 5, "offer": 16, "last": -1, "tag of s": -100, "e": -160, "ciphertext": -161, "server's e": 1001, "server's tag": 1034} {
			ccfg := config(kind)
			ccfg.Pin = pinOf(id)
			cl, sv := mangleAs(t, ccfg, config(kind), id, at < 1000, func(b []byte) []byte {
				switch {
				case at < 0:
					b[len(b)+at] ^= 1
				case at >= 1000:
					b[at-1000] ^= 1
				default:
					b[at] ^= 2
				}
				return b
			})
			// "no such key" followed by a full handshake is the one good end, when only message 1 was touched.
			if cl.err == nil && sv.err == nil && kind == Hybrid && at < 0 && cl.conn.Peer().Kind == Hybrid {
				echoOnce(t, cl.conn, sv.conn)
				continue
			}
			if sv.conn != nil {
				t.Errorf("%v, %s: the server has a session of %v", kind, name, sv.conn.Peer().Kind)
			}
			if cl.conn != nil {
				if _, err := cl.conn.Receive(t.Context()); err == nil || err == io.EOF {
					t.Errorf("%v, %s: the client's session lives", kind, name)
				}
			}
		}
	}
}

// mangleAs is mangle, of the first frame, for reconnects.
func mangleAs(t *testing.T, ccfg, scfg Config, id *Identity, fromClient bool, change func([]byte) []byte) (client, server side) {
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
			if active && i == 0 {
				b = change(b)
			}
			if writeFrame(dst, append(make([]byte, 2), b...)) != nil {
				return
			}
		}
	}
	go pump(m2, m1, fromClient)
	go pump(m1, m2, !fromClient)
	return shakeAs(t, cc, sc, ccfg, scfg, id, accept)
}

func TestReconnectWantsConfirmation(t *testing.T) {
	id := newIdentity(t, "evidence")
	ccfg := config()
	ccfg.Pin = pinOf(id)
	scfg := config()
	scfg.Timeout = 50 * time.Millisecond
	cc, sc := tcpPair(t)
	// Long after the server has given up, also where both are held up for a while.
	wait := func(context.Context, Peer) error { time.Sleep(2 * time.Second); return nil }
	if _, sv := shakeAs(t, cc, sc, ccfg, scfg, id, wait); sv.conn != nil || !errors.Is(sv.err, context.DeadlineExceeded) {
		t.Errorf("server: %v", sv.err)
	}
}

// TestRogueConfirmation: nothing but an empty PAD confirms a reconnect, and what it carries reaches nobody.
func TestRogueConfirmation(t *testing.T) {
	for name, r := range map[string]Record{
		"data":         {Type: Data, Stream: 1, Payload: []byte("0-RTT")},
		"end":          {Type: End, Stream: 1},
		"close":        {Type: Close},
		"rekey":        {Type: rekey},
		"PAD and more": {Type: Pad, Payload: []byte{1}},
	} {
		id := newIdentity(t, "evidence")
		ccfg := config()
		ccfg.Pin = pinOf(id)
		cc, sc := tcpPair(t)
		done := make(chan side, 1)
		go func() {
			c, err := Accept(t.Context(), sc, config(), id)
			done <- side{c, err}
		}()
		cfg, err := ccfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		h := &half{cfg: cfg, conn: cc, in: bufio.NewReader(cc), dh: new(dh)}
		if err := h.client(t.Context(), accept); err != nil {
			t.Fatal(err)
		}
		if err := newConn(cc, h).seal(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		if sv := <-done; sv.conn != nil || sv.err == nil || !strings.Contains(sv.err.Error(), "not confirmed") {
			t.Errorf("%s: session %v, %v", name, sv.conn != nil, sv.err)
		}
	}
}

// TestRogueReconnects: hellos of no form, and a second reconnect after the first was refused.
func TestRogueReconnects(t *testing.T) {
	hello := func(kind Kind, n int) []byte {
		b := (&header{kind: kind, authority: "default", offered: slices.Compact([]Kind{kind.family(), kind}), carrier: CarrierStream}).append(nil)
		return append(b, make([]byte, n)...)
	}
	frames := func(all ...[]byte) []byte {
		var b []byte
		for _, f := range all {
			b = append(append(b, byte(len(f)>>8), byte(len(f))), f...)
		}
		return b
	}
	bare := newIdentity(t, "evidence")
	bare.Decap = nil
	const whole = helloIKSize + 1088
	for name, c := range map[string]struct {
		id   *Identity
		said []byte
		want string
	}{
		"no ciphertext":     {nil, frames(hello(HybridReconnect, 1087)), "no ML-KEM ciphertext"},
		"a byte short":      {nil, frames(hello(HybridReconnect, whole-1)), "message 1 has"},
		"a byte long":       {nil, frames(hello(HybridReconnect, whole+1)), "message 1 has"},
		"classical, short":  {nil, frames(hello(ClassicalReconnect, helloIKSize-1)), "message 1 has"},
		"and hangs up":      {nil, frames(hello(HybridReconnect, whole)), ErrTruncated.Error()},
		"again":             {nil, frames(hello(HybridReconnect, whole), hello(HybridReconnect, whole)), "a second reconnect"},
		"again, no key":     {bare, frames(hello(HybridReconnect, whole), hello(HybridReconnect, whole)), "a second reconnect"},
		"nothing after it":  {bare, frames(hello(HybridReconnect, whole), hello(Hybrid, 0)), "message 1"},
		"a header too long": {nil, frames(hello(Hybrid, MaxHello)), "frame of"},
	} {
		id := c.id
		if id == nil {
			id = newIdentity(t, "evidence")
		}
		conn, err := Accept(t.Context(), script{bytes.NewReader(c.said), new(bytes.Buffer)}, config(Classical, Hybrid), id)
		if conn != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestPinRefused(t *testing.T) {
	for name, change := range map[string]func(*Pin){
		"without a static key": func(p *Pin) { p.Static = PublicKey{} },
		"with 0 bytes":         func(p *Pin) { p.Payload = nil },
		"with 57345 bytes":     func(p *Pin) { p.Payload = make([]byte, DefaultMaxPayload+1) },
		"ML-KEM key":           func(p *Pin) { p.EncapKey = bytes.Repeat([]byte{0xff}, 1184) },
	} {
		cfg := config()
		cfg.Pin = pinOf(newIdentity(t, "evidence"))
		change(cfg.Pin)
		if c, err := Client(t.Context(), script{new(bytes.Buffer), nil}, cfg, accept); c != nil || err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v; want %q", err, name)
		}
	}
}

// TestSeenIsBounded: an Identity does not grow with the number of reconnects.
func TestSeenIsBounded(t *testing.T) {
	var id Identity
	var e [32]byte
	for i := range maxSeen + 10 {
		e[0], e[1] = byte(i), byte(i>>8)
		if !id.fresh(e) {
			t.Fatalf("%x is not new", e)
		}
	}
	if len(id.seen) != maxSeen {
		t.Errorf("%d remembered", len(id.seen))
	}
	if id.fresh([32]byte{}) {
		t.Error("the first is forgotten")
	}
}

package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attesttest"
	"tally/enclave/channel"
	"tally/enclave/evidence"
	"tally/measure"
)

// ASK and ANSWER, by their numbers in PROTOCOL.md.
const (
	askType    channel.Type = 8
	answerType channel.Type = 9
)

// oneAMD is fake hardware, made once: its RSA keys are slow.
var oneAMD = sync.OnceValues(func() (*attesttest.AMD, error) {
	m, err := attesttest.NewAMD(time.Now())
	if err == nil {
		m.Fields.Measurement = [48]byte{0xaa}
		err = m.Revoke(time.Now(), false)
	}
	return m, err
})

// hardware is a fake machine and a client's configuration that wants evidence about the session from it.
func hardware(t testing.TB) (*attesttest.AMD, Config) {
	t.Helper()
	m, err := oneAMD()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config()
	cfg.Policy = appraise.Policy{Platforms: []string{"snp"}, Freshness: appraise.FreshSession, SNP: &appraise.SNP{
		TCB: map[string]appraise.SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 219}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, AllowSMT: true,
		Chips: []string{appraise.Any}, Roots: m.Roots()}}
	cfg.Reference = &measure.ReferenceValues{Schema: measure.Schema, Name: "minimal", Version: "1", Values: []measure.Value{{
		Platform: measure.Platform{Name: "q", TEE: "snp"}, Register: "launch_digest", Digest: slices.Clone(m.Fields.Measurement[:]),
		Covers: []measure.Part{"firmware", "kernel", "initrd", "cmdline", "root"}}}}
	return m, cfg
}

// attested is the message-2 payload of a key that m stands behind.
func attested(t *testing.T, m *attesttest.AMD, key channel.PublicKey) []byte {
	t.Helper()
	d := evidence.Document{Platform: "snp", Claims: evidence.Claims{Authority: "default", Static: key, Epoch: 1, NotBefore: 1, NotAfter: 2}}
	var err error
	if d.Report, d.Endorsements, err = m.Attest(t.Context(), d.Claims.ReportData()); err != nil {
		t.Fatal(err)
	}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{channel.InlineEvidence}, b...)
}

// sessionDocument has m make evidence for one session among others.
func sessionDocument(t *testing.T, m *attesttest.AMD, handshake, nonce, static [32]byte) []byte {
	t.Helper()
	tree, err := evidence.NewTree([][32]byte{{1}, evidence.SessionLeaf(handshake, nonce, static), {3}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := tree.Prove(1)
	if err != nil {
		t.Fatal(err)
	}
	d.Platform = "snp"
	if d.Report, err = m.Report(evidence.SessionReportData(tree.Root())); err != nil {
		t.Fatal(err)
	}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reply is a record with a whole document, whose length it may lie about.
func reply(document byte, status uint16, total int, data []byte) channel.Record {
	p := binary.BigEndian.AppendUint16([]byte{document}, status)
	return channel.Record{Type: answerType, Payload: append(binary.BigEndian.AppendUint32(p, uint32(total)), data...)}
}

// asked reads what a client sends first, which must be ASK for session evidence, and returns the nonce.
func asked(t *testing.T, c *channel.Conn) (nonce [32]byte) {
	r, err := c.Receive(context.Background())
	if err != nil || r.Type != askType || len(r.Payload) != 33 || r.Payload[32] != 1 {
		t.Errorf("the client begins with a record of type %d, %d bytes, %v", r.Type, len(r.Payload), err)
		return nonce
	}
	return [32]byte(r.Payload)
}

// TestSessionEvidence: whoever holds the enclave's static key and its key evidence, and whatever documents the
// hardware made for others, gets no session from a client that wants evidence about it; and no byte.
func TestSessionEvidence(t *testing.T) {
	m, cfg := hardware(t)
	cfg.EvidenceTimeout = 300 * time.Millisecond
	key, other := newKey(t), newKey(t)
	good := func(c *channel.Conn, nonce [32]byte) []byte {
		return sessionDocument(t, m, c.Peer().Binding, nonce, key.Public())
	}
	one := func(b []byte) []channel.Record { return []channel.Record{reply(1, 0, len(b), b)} }
	edit := func(b []byte, change func(*evidence.SessionDocument)) []channel.Record {
		d, err := evidence.ParseSession(b)
		if err != nil {
			t.Fatal(err)
		}
		change(d)
		if b, err = d.Marshal(); err != nil {
			t.Fatal(err)
		}
		return one(b)
	}
	stale := [32]byte{9}
	for name, c := range map[string]struct {
		play   func(c *channel.Conn, nonce [32]byte) []channel.Record
		reason appraise.Reason // "": accepted
		words  string
	}{
		"good": {func(c *channel.Conn, n [32]byte) []channel.Record { return one(good(c, n)) }, "", ""},
		// The thief has stolen the key. He asks the real enclave, in a session of his own, for the victim's nonce.
		"relay": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return one(sessionDocument(t, m, sha256.Sum256([]byte("the thief's own handshake")), n, key.Public()))
		}, appraise.BadReportData, "handshake"},
		"replay": {func(c *channel.Conn, n [32]byte) []channel.Record { return one(good(c, stale)) }, appraise.BadReportData, "handshake"},
		"another key": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return one(sessionDocument(t, m, c.Peer().Binding, n, other.Public()))
		}, appraise.BadReportData, "handshake"},
		"another leaf": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return edit(good(c, n), func(d *evidence.SessionDocument) { d.Index = 0 })
		}, appraise.BadReportData, "handshake"},
		"another path": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return edit(good(c, n), func(d *evidence.SessionDocument) { d.Path[0][5] ^= 1 })
		}, appraise.BadReportData, "handshake"},
		"signature": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return edit(good(c, n), func(d *evidence.SessionDocument) { d.Report[0x2a0] ^= 1 })
		}, appraise.BadSignature, ""},
		"insecure": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return edit(good(c, n), func(d *evidence.SessionDocument) { d.Platform, d.Report = "insecure", d.Report[0x50:0x90] })
		}, appraise.BadPlatform, "session evidence of insecure"},
		"another machine": {func(c *channel.Conn, n [32]byte) []channel.Record {
			second := *m
			second.Fields.Measurement[0]++
			return one(sessionDocument(t, &second, c.Peer().Binding, n, key.Public()))
		}, appraise.BadMeasurement, ""},
		"cut":    {func(c *channel.Conn, n [32]byte) []channel.Record { b := good(c, n); return one(b[:len(b)-1]) }, appraise.BadEvidence, "session evidence"},
		"longer": {func(c *channel.Conn, n [32]byte) []channel.Record { return one(append(good(c, n), 0)) }, appraise.BadEvidence, "after the last field"},
		"too long": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return []channel.Record{reply(1, 0, channel.MaxSessionEvidence, make([]byte, 16369)), reply(1, 0, channel.MaxSessionEvidence, make([]byte, 16368))}
		}, appraise.BadFreshness, "16368 bytes of a document, want 16369"},
		"another document": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return []channel.Record{reply(2, 0, 1, []byte{1})}
		}, appraise.BadFreshness, "answer with GPU evidence, want session evidence"},
		"downgrade": {func(c *channel.Conn, n [32]byte) []channel.Record { return []channel.Record{reply(1, 5, 0, nil)} }, appraise.BadFreshness, "the enclave has no session evidence"},
		"failed":    {func(c *channel.Conn, n [32]byte) []channel.Record { return []channel.Record{reply(1, 1, 0, nil)} }, appraise.BadFreshness, "could not make session evidence"},
		"no answer": {func(c *channel.Conn, n [32]byte) []channel.Record { return nil }, appraise.BadFreshness, "no answer within 300ms"},
		"half an answer": {func(c *channel.Conn, n [32]byte) []channel.Record {
			return []channel.Record{reply(1, 0, 20000, make([]byte, 16369))}
		}, appraise.BadFreshness, "no answer within 300ms"},
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			conn := peer(t, key, attested(t, m, key.Public()), func(ch *channel.Conn) {
				defer close(over)
				nonce := asked(t, ch)
				for _, r := range c.play(ch, nonce) {
					if err := ch.Send(context.Background(), r); err != nil {
						return
					}
				}
				if r, err := ch.Receive(context.Background()); err == nil {
					t.Errorf("the client sent a record of type %d", r.Type)
				}
			})
			s, err := New(t.Context(), conn, cfg)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantFresh(t, s.Result())
				s.Close(t.Context())
				return
			}
			var refused *appraise.Error
			if s != nil || !errors.As(err, &refused) || refused.Result.Accepted || refused.Result.Reason != c.reason || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v, %v; want reason %s with %q", s, err, c.reason, c.words)
			}
			<-over
		})
	}
}

// TestForgedKeyEvidence: a client that wants session evidence proves the key evidence while it waits. A refusal does not wait
// for the answer, which never comes here, and the server has seen nothing but the question. Of evidence for another
// key or service not even that.
func TestForgedKeyEvidence(t *testing.T) {
	m, cfg := hardware(t)
	key := newKey(t)
	change := func(f func(*evidence.Document)) []byte {
		d, err := evidence.Parse(attested(t, m, key.Public())[1:])
		if err != nil {
			t.Fatal(err)
		}
		f(d)
		b, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{channel.InlineEvidence}, b...)
	}
	second := *m
	second.Fields.Measurement[0]++
	for name, c := range map[string]struct {
		payload []byte
		asks    bool
		reason  appraise.Reason
	}{
		"signature":       {change(func(d *evidence.Document) { d.Report[0x2a0] ^= 1 }), true, appraise.BadSignature},
		"certificate":     {change(func(d *evidence.Document) { d.Endorsements[len(d.Endorsements)/2] ^= 1 }), true, appraise.BadSignature},
		"no certificate":  {change(func(d *evidence.Document) { d.Endorsements = nil }), true, appraise.BadSignature},
		"claims":          {change(func(d *evidence.Document) { d.Claims.Epoch++ }), true, appraise.BadReportData},
		"another image":   {attested(t, &second, key.Public()), true, appraise.BadMeasurement},
		"another key":     {change(func(d *evidence.Document) { d.Claims.Static[0] ^= 1 }), false, appraise.BadKey},
		"another service": {change(func(d *evidence.Document) { d.Claims.Authority = "other" }), false, appraise.BadAuthority},
		"platform":        {change(func(d *evidence.Document) { d.Platform = "tdx" }), false, appraise.BadPlatform},
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			play := never(t)
			if c.asks {
				play = func(ch *channel.Conn) {
					defer close(over)
					asked(t, ch)
					if r, err := ch.Receive(context.Background()); err == nil {
						t.Errorf("the client sent a record of type %d", r.Type)
					}
				}
			} else {
				close(over)
			}
			cfg := cfg
			cfg.EvidenceTimeout = time.Hour
			s, err := New(t.Context(), peer(t, key, c.payload, play), cfg)
			var refused *appraise.Error
			if s != nil || !errors.As(err, &refused) || refused.Result.Accepted || refused.Result.Reason != c.reason {
				t.Errorf("%v, %v; want reason %s", s, err, c.reason)
			}
			<-over
		})
	}
}

// wantFresh wants both reports to have been checked.
func wantFresh(t *testing.T, r *appraise.Result) {
	t.Helper()
	var names []string
	for _, c := range r.Checks {
		if c.Status == appraise.OK {
			names = append(names, c.Name)
		}
	}
	for _, want := range []string{"key", "signature", "report-data", "measurement", "session signature", "session report-data", "session measurement", "freshness"} {
		if !slices.Contains(names, want) {
			t.Errorf("no check %q in %q", want, names)
		}
	}
	if !r.Accepted {
		t.Error("not accepted")
	}
}

// TestBrokenAnswers: a connection that ends is no verdict about the enclave, and there is no session.
func TestBrokenAnswers(t *testing.T) {
	m, cfg := hardware(t)
	key := newKey(t)
	for name, play := range map[string]func(*channel.Conn){
		"cut":    func(c *channel.Conn) { asked(t, c); c.Abort() },
		"closed": func(c *channel.Conn) { asked(t, c); c.CloseWrite(context.Background()) },
	} {
		s, err := New(t.Context(), peer(t, key, attested(t, m, key.Public()), play), cfg)
		if s != nil || !errors.Is(err, channel.ErrTruncated) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := New(ctx, peer(t, key, attested(t, m, key.Public()), func(c *channel.Conn) { asked(t, c); cancel(); request(c) }), cfg)
	if s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a user who left: %v, %v", s, err)
	}
}

// A switched attester is hardware that can break.
type switched struct {
	*attesttest.AMD
	mu     sync.Mutex
	broken bool
}

func (s *switched) set(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

func (s *switched) Attest(ctx context.Context, rd [64]byte) ([]byte, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil, nil, errors.New("the TSM is broken")
	}
	return s.AMD.Attest(ctx, rd)
}

// TestFreshSessions: a real enclave gives evidence about each session: first, reconnected, and later on.
func TestFreshSessions(t *testing.T) {
	m, cfg := hardware(t)
	a := &switched{AMD: m}
	cfg.Pins = new(Pins)
	addr := serve(t, a, enclave.Options{SessionWindow: time.Millisecond})
	for i, want := range []channel.Kind{channel.Hybrid, channel.HybridReconnect, channel.HybridReconnect} {
		s, err := Dial(t.Context(), new(net.Dialer), addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Peer().Kind; got != want {
			t.Errorf("session %d: %v, want %v", i, got, want)
		}
		wantFresh(t, s.Result())
		before := s.Result()
		if err := s.Reappraise(t.Context()); err != nil || s.Result() == before {
			t.Errorf("session %d, later: %v", i, err)
		}
		wantFresh(t, s.Result())
		if got, err := s.Do(t.Context(), []byte("hello")); err != nil || string(got) != "hello" {
			t.Errorf("session %d: %q, %v", i, got, err)
		}
		s.Close(t.Context())
	}
	s, err := Dial(t.Context(), new(net.Dialer), addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.set(true)
	var refused *appraise.Error
	if err := s.Reappraise(t.Context()); !errors.As(err, &refused) || refused.Result.Reason != appraise.BadFreshness {
		t.Errorf("hardware that broke: %v", err)
	}
	if _, err := s.Do(t.Context(), []byte("hello")); err == nil {
		t.Error("the session goes on after a refusal")
	}
	// What was accepted for an earlier session says nothing about a new one; the pin goes with the refusal.
	if s, err := Dial(t.Context(), new(net.Dialer), addr, cfg); s != nil || !errors.As(err, &refused) || refused.Result.Reason != appraise.BadFreshness {
		t.Errorf("a reconnect without evidence about it: %v, %v", s, err)
	}
	if cfg.Pins.get("default", time.Now()) != nil {
		t.Error("a refused enclave stays pinned")
	}
	a.set(false)
	if s, err = Dial(t.Context(), new(net.Dialer), addr, cfg); err != nil || s.Peer().Kind != channel.Hybrid {
		t.Errorf("afterwards: %v", err)
	} else {
		s.Close(t.Context())
	}
}

// TestNothingAsked: a client whose policy wants nothing more asks for nothing.
func TestNothingAsked(t *testing.T) {
	m, cfg := hardware(t)
	cfg.Policy.Freshness = appraise.FreshNone
	key := newKey(t)
	first := make(chan channel.Type, 1)
	s, err := New(t.Context(), peer(t, key, attested(t, m, key.Public()), func(c *channel.Conn) {
		r, _ := c.Receive(context.Background())
		first <- r.Type
	}), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Do(t.Context(), []byte("hello"))
	if got := <-first; got != channel.Data {
		t.Errorf("the first record has type %d", got)
	}
	s.Close(t.Context())
}

// oneGPU is GPUs that are always there.
type oneGPU func(evidence.Claims) *enclave.GPUSet

func (g oneGPU) Attest(_ context.Context, c evidence.Claims) (*enclave.GPUSet, error) {
	return g(c), nil
}
func (oneGPU) Serving(context.Context) error { return nil }
func (oneGPU) Changed() <-chan struct{}      { return nil }

// TestGPUDocument carries a set of GPU evidence, larger than any message, from the key that it is for.
func TestGPUDocument(t *testing.T) {
	set := make([]byte, 300000)
	rand.Read(set)
	var claims evidence.Claims
	addr := serve(t, nil, enclave.Options{GPUs: oneGPU(func(c evidence.Claims) *enclave.GPUSet {
		claims = c
		return &enclave.GPUSet{Digest: sha256.Sum256(set), Ship: func() ([]byte, error) { return set, nil }}
	})})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := channel.Client(t.Context(), conn, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}, func(_ context.Context, p channel.Peer) error {
		d, err := evidence.Parse(p.Payload[1:])
		if sum := sha256.Sum256(set); err != nil || !bytes.Equal(d.Claims.GPU, sum[:]) || d.Claims.Static != claims.Static || claims.GPU != nil {
			t.Errorf("claims %+v, %v", d, err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{mux: channel.NewMux(c, channel.MuxOptions{}), cfg: &Config{Rand: rand.Reader, Now: time.Now}, wants: appraise.Wants{GPU: true, Session: true}}
	defer s.mux.Abort()
	in, err := s.documents(t.Context(), nil)
	if err != nil || in.GPU == nil || !bytes.Equal(in.GPU.Document, set) || in.Session == nil || len(in.Session.Document) == 0 {
		t.Errorf("%v", err)
	}
}

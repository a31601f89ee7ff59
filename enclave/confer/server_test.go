package confer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/flynn/noise"

	"tally/enclave/appraise"
	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

// seeded is a key as Record.java made them.
func seeded(from byte) []byte {
	k := make([]byte, 32)
	for i := range k {
		k[i] = from + byte(i)
	}
	return k
}

// replayServer plays the client's frames and holds the server to its own.
type replayServer struct{ replay }

func (r *replayServer) Read(context.Context) ([]byte, error) { return r.take("client"), nil }

func (r *replayServer) Write(_ context.Context, b []byte) error {
	if want := r.take("server"); !bytes.Equal(b, want) {
		r.t.Errorf("frame %d: %x, want %x", r.next-1, b, want)
	}
	return nil
}

// TestRecordedServer answers the recorded client as the recorded server did, and must come to the same bytes, message 2's
// among them.
func TestRecordedServer(t *testing.T) {
	rec := load(t)
	static, err := GenerateStatic(bytes.NewReader(seeded(1)))
	if err != nil || !bytes.Equal(static.pair.Public, rec.ServerPublic) {
		t.Fatal(err)
	}
	random := seeded(33)
	for i, f := range rec.Frames[3:] {
		if f.From == "server" && (i == 0 || f.ChunkID != rec.Frames[i+2].ChunkID) {
			random = binary.BigEndian.AppendUint64(random, uint64(f.ChunkID))
		}
	}
	shown, err := parseEvidence(evidenceOf(rec))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := shown.Marshal()
	if err != nil || !bytes.Equal(payload, evidenceOf(rec)) {
		t.Errorf("%v: payload %s", err, payload)
	}
	wire := &replayServer{replay{t: t, rec: rec}}
	s, err := Accept(t.Context(), wire, ServerConfig{Static: static, Payload: payload, Rand: bytes.NewReader(random)})
	if err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 65489+100-20)
	for i := range large {
		large[i] = byte(i % 251)
	}
	for wire.next < len(rec.Frames) {
		f := rec.Frames[wire.next]
		if f.From == "client" {
			got, err := s.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if b, err := got.Marshal(); err != nil || !bytes.Equal(b, f.Message) {
				t.Errorf("frame %d: %v, %x", wire.next-1, err, b)
			}
			continue
		}
		answer := &Response{ID: 3, Status: 200, Body: large} // of two frames, whose message is not recorded
		if f.Message != nil {
			if answer, err = ParseResponse(f.Message); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Send(t.Context(), answer); err != nil {
			t.Fatal(err)
		}
	}
}

// pipe are messages between two sides in memory.
type pipe struct {
	in, out chan []byte
	closed  chan struct{}
}

func newPipe() (a, b *pipe) {
	x, y, closed := make(chan []byte, 64), make(chan []byte, 64), make(chan struct{})
	return &pipe{x, y, closed}, &pipe{y, x, closed}
}

func (p *pipe) Read(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p.in:
		return b, nil
	case <-p.closed:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) Write(_ context.Context, b []byte) error { p.out <- bytes.Clone(b); return nil }

func (p *pipe) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

// TestServerRefuses: what is no handshake, and what is none of a client that has accepted, makes no session.
func TestServerRefuses(t *testing.T) {
	static, err := GenerateStatic(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := ServerConfig{Static: static, Payload: []byte("{}"), Rand: rand.Reader}
	for name, c := range map[string]struct {
		first  func(hs *noise.HandshakeState) []byte
		third  func(b []byte) []byte // nil: the client goes
		spoil  func(*ServerConfig)
		accept string
	}{
		"no key":           {spoil: func(c *ServerConfig) { c.Static = nil }, accept: "want Static"},
		"no payload":       {spoil: func(c *ServerConfig) { c.Payload = nil }, accept: "want Static"},
		"payload too long": {spoil: func(c *ServerConfig) { c.Payload = make([]byte, MaxPayload+1) }, accept: "want Static"},
		"short":            {first: func(*noise.HandshakeState) []byte { return make([]byte, 31) }, accept: "does not decrypt (handshake, message 1)"},
		"low order":        {first: func(*noise.HandshakeState) []byte { return make([]byte, 32) }, accept: "low order"},
		"a payload":        {first: func(hs *noise.HandshakeState) []byte { b, _, _, _ := hs.WriteMessage(nil, []byte("x")); return b }, accept: "message 1 has a payload"},
		"too long":         {first: func(*noise.HandshakeState) []byte { return make([]byte, maxHandshake+1) }, accept: "want at most 4096"},
		"goes":             {accept: "connection ended"},
		"tampered":         {third: func(b []byte) []byte { b[5] ^= 1; return b }, accept: "does not decrypt (handshake, message 3)"},
		"of another":       {third: func([]byte) []byte { return make([]byte, 64) }, accept: "does not decrypt (handshake, message 3)"},
	} {
		cfg := good
		if c.spoil != nil {
			c.spoil(&cfg)
		}
		client, server := newPipe()
		mine, _ := suite().GenerateKeypair(rand.Reader)
		hs, err := noise.NewHandshakeState(noise.Config{CipherSuite: suite(), Pattern: noise.HandshakeXX, Initiator: true, StaticKeypair: mine})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c.first == nil {
				c.first = func(hs *noise.HandshakeState) []byte { b, _, _, _ := hs.WriteMessage(nil, nil); return b }
			}
			client.Write(t.Context(), c.first(hs))
			second, err := client.Read(t.Context())
			if err != nil {
				return
			}
			hs.ReadMessage(nil, second)
			if c.third == nil {
				client.Close()
				return
			}
			b, _, _, _ := hs.WriteMessage(nil, nil)
			client.Write(t.Context(), c.third(b))
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if s, err := Accept(ctx, server, cfg); s != nil || err == nil || !strings.Contains(err.Error(), c.accept) {
			t.Errorf("%s: %v, %v; want %q", name, s, err, c.accept)
		}
		cancel()
		select {
		case <-server.closed:
		default:
			t.Errorf("%s: the connection stays open", name)
		}
	}
}

// TestServerPoisoned: after one message that is none, nothing of the session is read any more.
func TestServerPoisoned(t *testing.T) {
	for name, spoil := range map[string]func(c *Client, wire *pipe){
		"tampered":   func(_ *Client, wire *pipe) { wire.out <- make([]byte, 64) },
		"no frame":   func(c *Client, wire *pipe) { b, _ := c.send.cs.Encrypt(nil, nil, []byte("no frame")); wire.out <- b },
		"no request": func(c *Client, _ *pipe) { c.write(context.Background(), []byte("no request")) },
		"too long":   func(c *Client, _ *pipe) { c.write(context.Background(), make([]byte, 1001)) },
	} {
		static, err := GenerateStatic(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		near, far := newPipe()
		opened := make(chan *Client, 1)
		go func() {
			c, err := Open(t.Context(), near, Config{Rand: rand.Reader, Judge: func(context.Context, *Evidence) error { return nil }})
			if err != nil {
				t.Error(err)
			}
			opened <- c
		}()
		s, err := Accept(t.Context(), far, ServerConfig{Static: static, Payload: []byte(`{"platform":"x","attestation":"","manifest":"","manifestBundle":""}`), Rand: rand.Reader, Limits: Limits{Message: 1000}})
		if err != nil {
			t.Fatal(err)
		}
		c := <-opened
		if err := c.Send(t.Context(), &Request{ID: 1, Verb: "GET", Path: "/ping"}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Receive(t.Context()); err != nil || r.Path != "/ping" {
			t.Fatal(r, err)
		}
		spoil(c, near)
		c.Send(t.Context(), &Request{ID: 2, Verb: "GET", Path: "/ping"})
		for range 2 {
			if r, err := s.Receive(t.Context()); err == nil {
				t.Errorf("%s: received %+v", name, r)
			} else if IsDecrypt(err) != (name == "tampered") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestTwoReports: a report about a key of this protocol is no evidence of tally/1, neither about a key nor about a session,
// and evidence of tally/1 is none here; each time of the same hardware about the same key.
func TestTwoReports(t *testing.T) {
	m, err := attesttest.NewAMD(time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	m.Fields.Measurement = [48]byte{0xaa}
	if err := m.Revoke(time.Now(), false); err != nil {
		t.Fatal(err)
	}
	static := [32]byte(seeded(7))
	claims := evidence.Claims{Authority: "default", Static: static, Epoch: 1, NotBefore: 1, NotAfter: 1 << 40}
	policy := appraise.Policy{Platforms: []string{"snp"}, Freshness: appraise.FreshNone, SNP: &appraise.SNP{
		TCB: map[string]appraise.SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 219}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, AllowSMT: true,
		Chips: []string{appraise.Any}, Roots: m.Roots()}}
	reference := &measure.ReferenceValues{Schema: measure.Schema, Name: "minimal", Version: "1", Values: []measure.Value{{
		Platform: measure.Platform{Name: "q", TEE: "snp"}, Register: "launch_digest", Digest: m.Fields.Measurement[:],
		Covers: []measure.Part{"firmware", "kernel", "initrd", "cmdline", "root"}}}}
	session := evidence.SessionReportData([32]byte{1})
	for name, c := range map[string]struct {
		data          [64]byte
		tally, confer bool // accepted
	}{
		"of Confer's key":      {ReportData(static), false, true},
		"of tally/1's key":     {claims.ReportData(), true, false},
		"of a tally/1 session": {session, false, false},
		"of a digest's half":   {ReportData([32]byte(session[:32])), false, false},
	} {
		report, endorsements, err := m.Attest(t.Context(), c.data)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := (&evidence.Document{Platform: "snp", Claims: claims, Report: report, Endorsements: endorsements}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		_, err = appraise.Appraise(appraise.Input{Document: doc, Static: static, Authority: "default", Reference: reference, Now: time.Now()}, policy)
		var refused *appraise.Error
		if c.tally != (err == nil) || !c.tally && (!errors.As(err, &refused) || refused.Result.Reason != appraise.BadReportData) {
			t.Errorf("a report %s as evidence of tally/1: %v", name, err)
		}
		e := Evidence{Platform: PlatformSNP, Attestation: base64.StdEncoding.EncodeToString(report), Static: static}
		if _, err := e.Report(); c.confer != (err == nil) {
			t.Errorf("a report %s as Confer's: %v", name, err)
		}
	}
	// The document itself is none of the other's either.
	doc, err := (&evidence.Document{Platform: "snp", Claims: claims, Report: make([]byte, 1184)}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseEvidence(doc); err == nil {
		t.Error("a document of tally/1 is read as Confer's evidence")
	}
	shown, err := (&Evidence{Platform: PlatformSNP}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.Parse(shown); err == nil {
		t.Error("Confer's evidence is read as a document of tally/1")
	}
}

// TestQuote: for TDX the quote is held to the session's key as a report is.
func TestQuote(t *testing.T) {
	m, err := attesttest.NewIntel(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	static := [32]byte(seeded(7))
	quote, _, err := m.Attest(t.Context(), ReportData(static))
	if err != nil {
		t.Fatal(err)
	}
	good := Evidence{Platform: PlatformTDX, Attestation: base64.StdEncoding.EncodeToString(quote), Static: static}
	if got, err := good.Quote(); err != nil || !bytes.Equal(got, quote) {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Evidence){
		"another key": func(e *Evidence) { e.Static[0] ^= 1 },
		"platform":    func(e *Evidence) { e.Platform = PlatformSNP },
		"a JWT":       func(e *Evidence) { e.Attestation = "a.b.c" },
		"short":       func(e *Evidence) { e.Attestation = e.Attestation[:800] },
		"tally/1's own": func(e *Evidence) {
			q, _, _ := m.Attest(t.Context(), evidence.SessionReportData(static))
			e.Attestation = base64.StdEncoding.EncodeToString(q)
		},
	} {
		e := good
		spoil(&e)
		if _, err := e.Quote(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := good.Report(); err == nil {
		t.Error("a quote is read as a report")
	}
}

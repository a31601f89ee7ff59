package confer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/flynn/noise"
)

// A session as confer-proxy's own classes and noise-java ran it (testdata/vectors/recorded/SOURCE).
type recorded struct {
	ClientStatic    []byte `json:"client_static"`
	ClientEphemeral []byte `json:"client_ephemeral"`
	ServerPublic    []byte `json:"server_public"`
	Frames          []struct {
		From          string
		Wire, Message []byte
		MessageSHA256 string `json:"message_sha256"`
		ChunkID       int64  `json:"chunk_id"`
	}
}

func load(t testing.TB) *recorded {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/recorded/session.json")
	if err != nil {
		t.Fatal(err)
	}
	r := new(recorded)
	if err := json.Unmarshal(data, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// replay plays the server's frames and holds the client to its own.
type replay struct {
	t    testing.TB
	rec  *recorded
	next int
}

func (r *replay) take(from string) []byte {
	r.t.Helper()
	if r.next == len(r.rec.Frames) || r.rec.Frames[r.next].From != from {
		r.t.Fatalf("frame %d is not the %s's", r.next, from)
	}
	r.next++
	return r.rec.Frames[r.next-1].Wire
}

func (r *replay) Read(context.Context) ([]byte, error) { return r.take("server"), nil }

func (r *replay) Write(_ context.Context, b []byte) error {
	if want := r.take("client"); !bytes.Equal(b, want) {
		r.t.Errorf("frame %d: %x, want %x", r.next-1, b, want)
	}
	return nil
}

func (*replay) Close() error { return nil }

// randomness is what noise-java had been given, then the recorded chunk_ids of the client.
func (r *recorded) randomness() io.Reader {
	b := append(bytes.Clone(r.ClientStatic), r.ClientEphemeral...)
	for _, f := range r.Frames[3:] {
		if f.From == "client" {
			b = binary.BigEndian.AppendUint64(b, uint64(f.ChunkID))
		}
	}
	return bytes.NewReader(b)
}

// TestRecordedSession sends what the recorded client has sent, and must come to the same bytes, the handshake's among
// them; what the recorded server has sent must come out as its messages.
func TestRecordedSession(t *testing.T) {
	rec := load(t)
	wire := &replay{t: t, rec: rec}
	c, err := Open(t.Context(), wire, Config{Rand: rec.randomness(), Judge: func(_ context.Context, e *Evidence) error {
		if !bytes.Equal(e.Static[:], rec.ServerPublic) || e.Platform != PlatformSNP || !strings.HasPrefix(e.Manifest, `{"imageVersion"`) {
			t.Errorf("evidence %+v", e)
		}
		_, err := e.Report()
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	answers := 0
	for wire.next < len(rec.Frames) {
		f := rec.Frames[wire.next]
		if f.From == "client" {
			req, err := ParseRequest(f.Message)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Send(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := c.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		answers++
		f = rec.Frames[wire.next-1]
		if sum := sha256.Sum256(got.Marshal()); f.MessageSHA256 != "" && hex.EncodeToString(sum[:]) != f.MessageSHA256 || f.MessageSHA256 == "" && !bytes.Equal(got.Marshal(), f.Message) {
			t.Errorf("frame %d: response %d with status %d and %d bytes is not what was recorded", wire.next-1, got.ID, got.Status, len(got.Body))
		}
	}
	if answers != 6 {
		t.Errorf("%d answers, want 6", answers)
	}
}

// TestJudgeFirst: a client that refuses sends nothing more.
func TestJudgeFirst(t *testing.T) {
	rec := load(t)
	wire := &replay{t: t, rec: rec}
	no := errors.New("no")
	if _, err := Open(t.Context(), wire, Config{Rand: rec.randomness(), Judge: func(context.Context, *Evidence) error { return no }}); !errors.Is(err, no) {
		t.Fatal(err)
	}
	if wire.next != 2 {
		t.Errorf("%d messages, want 2", wire.next)
	}
	if _, err := Open(t.Context(), wire, Config{Rand: rand.Reader}); err == nil {
		t.Error("opened without a judge")
	}
}

// TestTampered flips one bit in each message of the server.
func TestTampered(t *testing.T) {
	for i, f := range load(t).Frames {
		if f.From != "server" {
			continue
		}
		rec := load(t)
		rec.Frames[i].Wire[len(f.Wire)/2] ^= 1
		wire := &replay{t: t, rec: rec}
		c, err := Open(t.Context(), wire, Config{Rand: rec.randomness(), Judge: func(context.Context, *Evidence) error { return nil }})
		for err == nil && wire.next < len(rec.Frames) {
			if rec.Frames[wire.next].From == "client" {
				wire.next++ // what it sends is another test's
				continue
			}
			_, err = c.Receive(t.Context())
		}
		if err == nil || wire.next != i+1 {
			t.Errorf("message %d: %v after %d", i, err, wire.next)
		}
		if c != nil {
			if _, again := c.Receive(t.Context()); again == nil {
				t.Errorf("message %d: received after an error", i)
			}
		}
	}
}

func TestReportRefused(t *testing.T) {
	good := func() *Evidence {
		e, err := parseEvidence(evidenceOf(load(t)))
		if err != nil {
			t.Fatal(err)
		}
		copy(e.Static[:], load(t).ServerPublic)
		return e
	}
	for name, spoil := range map[string]func(*Evidence){
		"another key": func(e *Evidence) { e.Static[31] ^= 1 },
		"platform":    func(e *Evidence) { e.Platform = PlatformTDX },
		"short":       func(e *Evidence) { e.Attestation = e.Attestation[:400] },
		"not base64":  func(e *Evidence) { e.Attestation = "?" + e.Attestation[1:] },
	} {
		e := good()
		if _, err := e.Report(); err != nil {
			t.Fatal(err)
		}
		spoil(e)
		if _, err := e.Report(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func evidenceOf(r *recorded) []byte { return r.Frames[1].Message }

// TestWebSocket runs a session over a real WebSocket against a responder of flynn/noise's.
func TestWebSocket(t *testing.T) {
	rec := load(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(MaxNoiseMessage)
		echo(r.Context(), webSocket{ws}, evidenceOf(rec))
	}))
	defer srv.Close()
	c, err := DialWebSocket(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http")+"/websocket?token=secret", nil, Config{Rand: rand.Reader, Judge: func(context.Context, *Evidence) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := bytes.Repeat([]byte("x"), 3*maxChunk+7)
	if err := c.Send(t.Context(), &Request{ID: 9, Verb: "POST", Path: "/v1/embeddings", Body: body}); err != nil {
		t.Fatal(err)
	}
	r, err := c.Receive(t.Context())
	if err != nil || r.ID != 9 || !bytes.Equal(r.Body, body) {
		t.Fatal(err)
	}
	if _, err := c.Receive(t.Context()); !errors.Is(err, ErrEnded) {
		t.Errorf("%v, want ErrEnded", err)
	}
	if _, err := DialWebSocket(t.Context(), srv.URL+"/?token=secret\x7f", nil, Config{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v, want an error without the token", err)
	}
}

// echo answers one request with its body.
func echo(ctx context.Context, m Messages, evidence []byte) {
	suite := noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
	static, _ := suite.GenerateKeypair(rand.Reader)
	hs, _ := noise.NewHandshakeState(noise.Config{CipherSuite: suite, Pattern: noise.HandshakeXX, StaticKeypair: static})
	in, _ := m.Read(ctx)
	hs.ReadMessage(nil, in)
	out, _, _, _ := hs.WriteMessage(nil, evidence)
	m.Write(ctx, out)
	in, _ = m.Read(ctx)
	_, re, send, err := hs.ReadMessage(nil, in)
	parts, _ := NewAssembler(Limits{})
	for err == nil {
		in, rerr := m.Read(ctx)
		if rerr != nil {
			return
		}
		plain, derr := re.Decrypt(nil, nil, in)
		f, perr := ParseFrame(plain)
		if derr != nil || perr != nil {
			return
		}
		message, _ := parts.Add(f)
		if message == nil {
			continue
		}
		req, _ := ParseRequest(message)
		frames, _ := Split((&Response{ID: req.ID, Status: 200, Body: req.Body}).Marshal(), rand.Reader)
		for _, f := range frames {
			sealed, _ := send.Encrypt(nil, nil, f.Marshal())
			m.Write(ctx, sealed)
		}
		return
	}
}

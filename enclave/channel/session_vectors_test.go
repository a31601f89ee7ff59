package channel

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/mlkem"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tally/internal/testtool"
)

// sessionVectors are whole sessions, frame by frame, as testdata/session.py wrote them.
type sessionVectors struct {
	Authority     string
	Evidence      hexBytes
	OldEvidence   hexBytes `json:"old_evidence"` // what a client may have kept
	RekeyAfter    int      `json:"rekey_after"`
	Secrets       map[string]hexBytes
	ServerStatic  hexBytes `json:"server_static"`
	AnotherStatic hexBytes `json:"another_static"`
	Sessions      []sessionVector
}

type sessionVector struct {
	Name          string
	Kind          Kind `json:"-"` // by Reply, the first byte of message 2
	Reply         byte
	Carrier       Carrier
	HandshakeHash hexBytes `json:"handshake_hash"`
	Frames        []struct {
		From  string
		Frame hexBytes
	}
}

// mlkemVector is a key by its seed, and what was encapsulated for it.
type mlkemVector struct {
	Seed       hexBytes
	EncapKey   hexBytes `json:"encapsulation_key"`
	Ciphertext hexBytes
	Secret     hexBytes
}

func readVectors(t *testing.T) (v sessionVectors, k mlkemVector) {
	t.Helper()
	for file, to := range map[string]any{"testdata/session.json": &v, "testdata/mlkem.json": &k} {
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, to)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	for i, s := range v.Sessions {
		v.Sessions[i].Kind = Kind(s.Reply &^ 0x80)
	}
	return v, k
}

// carried is a conn of a script that says what it is.
type carried struct {
	script
	carrier Carrier
}

func (c carried) Carrier() Carrier { return c.carrier }

// said are the frames of one side, as they go over a stream.
func (v *sessionVector) said(who string) (all []byte) {
	for _, f := range v.Frames {
		if f.From == who {
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(f.Frame))), f.Frame...)
		}
	}
	return all
}

// TestSessionVectors has each of our sides hear what the other one of the vector says, and wants it to say what the vector's says, to the
// byte: header, handshake, records with their padding and key changes, CLOSE. Where a side draws a ciphertext of ML-KEM itself, its
// randomness is not ours to set, and it is the other side's turn alone.
func TestSessionVectors(t *testing.T) {
	v, k := readVectors(t)
	kinds := map[Kind]int{}
	for _, s := range v.Sessions {
		kinds[s.Kind]++
		if s.Kind != HybridReconnect {
			t.Run("client, "+s.Name, func(t *testing.T) { v.client(t, &s, &k) })
		}
		if s.Kind != Hybrid {
			t.Run("server, "+s.Name, func(t *testing.T) { v.server(t, &s, &k) })
		}
	}
	for _, kind := range []Kind{Classical, ClassicalReconnect, Hybrid, HybridReconnect, ClassicalFallback} {
		if kinds[kind] == 0 {
			t.Errorf("no session of %v", kind)
		}
	}
}

// TestSessionVectorsAreThePrograms: the file is what the program beside it writes.
func TestSessionVectorsAreThePrograms(t *testing.T) {
	const python = "/usr/bin/python3" // where Debian's python3-dissononce is found
	if err := exec.Command(python, "-c", "import dissononce").Run(); err != nil {
		testtool.Missing(t, "Debian package python3-dissononce is not installed")
	}
	dir := t.TempDir()
	for _, name := range []string{"session.py", "mlkem.json"} {
		b, err := os.ReadFile("testdata/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), python, filepath.Join(dir, "session.py")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile("testdata/session.json")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "session.json")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("session.py writes another session.json: %v", err)
	}
}

// config is that of both sides, with the randomness in the order in which it is drawn.
func (v *sessionVectors) config(draws ...[]byte) Config {
	return Config{Authority: v.Authority, Rand: bytes.NewReader(bytes.Join(draws, nil)), Now: time.Now, RekeyAfter: v.RekeyAfter}
}

func (v *sessionVectors) client(t *testing.T, s *sessionVector, k *mlkemVector) {
	x := v.Secrets
	cfg, pin := v.config(x["client static"], x["client ephemeral"]), &Pin{Payload: v.Evidence, EncapKey: k.EncapKey}
	cfg.Kinds = []Kind{s.Kind.family()}
	switch s.Kind {
	case Hybrid:
		cfg.Rand = bytes.NewReader(bytes.Join([][]byte{x["client static"], k.Seed, x["client ephemeral"]}, nil))
		if h, _, err := parseHeader(s.Frames[0].Frame); err != nil {
			t.Fatal(err)
		} else {
			cfg.Kinds = h.offered
		}
	case ClassicalReconnect, ClassicalFallback:
		cfg.Rand = bytes.NewReader(bytes.Join([][]byte{x["client static"], x["nonce"], x["client ephemeral"]}, nil))
		pin.Static, cfg.Kinds = PublicKey(v.ServerStatic), []Kind{Classical}
		if s.Kind == ClassicalFallback {
			pin.Static = PublicKey(v.AnotherStatic)
		}
		cfg.Pin = pin
		if s.Name == "classical reconnect, new evidence" {
			pin.Payload = v.OldEvidence
		}
	}
	conn := carried{script{bytes.NewReader(s.said("server")), new(bytes.Buffer)}, s.Carrier}
	var seen Peer
	c, err := Client(t.Context(), conn, cfg, func(_ context.Context, p Peer) error { seen = p; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(seen.Payload, v.Evidence) || !bytes.Equal(seen.Static[:], v.ServerStatic) || seen.Kind != s.Kind {
		t.Errorf("the client sees %v, %x, %q", seen.Kind, seen.Static, seen.Payload)
	}
	talk(t, s, c, conn.heard, "client", []Record{{Type: Data, Stream: 1, Payload: []byte("a question")}, {Type: Data, Stream: 2, Payload: bytes.Repeat([]byte("x"), 600)},
		{Type: End, Stream: 1}, {Type: Reset, Stream: 2, Status: StatusCancelled}}, []Record{{Type: Data, Stream: 1, Payload: []byte("an answer")}, {Type: Window, Credit: 600}, {Type: End, Stream: 1}})
}

func (v *sessionVectors) server(t *testing.T, s *sessionVector, k *mlkemVector) {
	priv, err := ecdh.X25519().NewPrivateKey(v.Secrets["server static"])
	if err != nil {
		t.Fatal(err)
	}
	decap, err := mlkem.NewDecapsulationKey768(k.Seed)
	if err != nil || !bytes.Equal(decap.EncapsulationKey().Bytes(), k.EncapKey) {
		t.Fatalf("the ML-KEM key of the vector: %v", err)
	}
	id := &Identity{Static: &StaticKey{priv}, Decap: &DecapKey{decap}, Payload: v.Evidence}
	cfg := v.config(v.Secrets["server ephemeral"])
	cfg.Kinds = []Kind{Classical, Hybrid}
	conn := carried{script{bytes.NewReader(s.said("client")), new(bytes.Buffer)}, s.Carrier}
	c, err := Accept(t.Context(), conn, cfg, id)
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Peer(); p.Kind != s.Kind || p.Kind.reconnects() && !bytes.Equal(p.Nonce[:], v.Secrets["nonce"]) {
		t.Errorf("the server sees %v, nonce %x", p.Kind, p.Nonce)
	}
	talk(t, s, c, conn.heard, "server", []Record{{Type: Data, Stream: 1, Payload: []byte("an answer")}, {Type: Window, Credit: 600}, {Type: End, Stream: 1}},
		[]Record{{Type: Data, Stream: 1, Payload: []byte("a question")}, {Type: Data, Stream: 2, Payload: bytes.Repeat([]byte("x"), 600)}, {Type: End, Stream: 1}, {Type: Reset, Stream: 2, Status: StatusCancelled}})
}

// talk sends and wants records, and then CLOSE, each way; who has then said what the vector says.
func talk(t *testing.T, s *sessionVector, c *Conn, heard *bytes.Buffer, who string, send, want []Record) {
	t.Helper()
	if p := c.Peer(); !bytes.Equal(p.Binding[:], s.HandshakeHash) {
		t.Errorf("handshake hash %x, want %x", p.Binding, s.HandshakeHash)
	}
	for _, r := range send {
		if err := c.Send(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CloseWrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		r, err := c.Receive(t.Context())
		if err != nil || r.Type != w.Type || r.Stream != w.Stream || r.Status != w.Status || r.Credit != w.Credit || !bytes.Equal(r.Payload, w.Payload) {
			t.Fatalf("%+v, %v; want %+v", r, err, w)
		}
	}
	if _, err := c.Receive(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after the last record: %v", err)
	}
	if said := s.said(who); !bytes.Equal(heard.Bytes(), said) {
		t.Errorf("the %s does not say what it must: %d bytes\n%x\nwant %d\n%x", who, heard.Len(), heard.Bytes(), len(said), said)
	}
}

package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzHeader wants that an accepted header is written back as it was read.
func FuzzHeader(f *testing.F) {
	for _, h := range []header{{Hybrid, "default", []Kind{Hybrid}, CarrierStream}, {Classical, "a.example:443", []Kind{Classical, Hybrid}, CarrierWebSocket}} {
		f.Add(append(h.append(nil), "Noise"...))
	}
	f.Add([]byte{3, 1, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, n, err := parseHeader(msg)
		if err != nil {
			return
		}
		if got := h.append(nil); n > len(msg) || !bytes.Equal(got, msg[:n]) {
			t.Fatalf("accepted %x, writes %x", msg, got)
		}
	})
}

// FuzzRecord wants that an accepted record is written back as it was read.
func FuzzRecord(f *testing.F) {
	for _, r := range []Record{{Type: Data, Stream: 1, Payload: []byte("hello")}, {Type: End, Stream: 7, Status: StatusFailed}, {Type: Close}, {Type: rekey}, {Type: Pad, Payload: make([]byte, 300)}, {Type: Reset, Stream: 3, Status: StatusCancelled}, {Type: Window, Stream: 1, Credit: 65536},
		{Type: askRecord, Payload: Ask{Documents: allDocuments, Challenge: []byte("challenge")}.append(nil)}, part(GPUEvidence, StatusOK, 300, make([]byte, 300)), part(SessionEvidence, StatusNone, 0, nil)} {
		b, err := appendRecord(nil, &r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(make([]byte, maxPlain))
	f.Fuzz(func(t *testing.T, plain []byte) {
		r, err := parseRecord(plain)
		if err != nil {
			return
		}
		if got, err := appendRecord(nil, &r); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("accepted %x, writes %x, %v", plain, got, err)
		}
	})
}

// A script is a connection whose peer has said everything already and hears nothing.
type script struct {
	io.Reader
	heard *bytes.Buffer // nil: not wanted
}

func (s script) Write(b []byte) (int, error) {
	if s.heard != nil {
		s.heard.Write(b)
	}
	return len(b), nil
}
func (script) Close() error                     { return nil }
func (script) LocalAddr() net.Addr              { return nil }
func (script) RemoteAddr() net.Addr             { return nil }
func (script) SetDeadline(time.Time) error      { return nil }
func (script) SetReadDeadline(time.Time) error  { return nil }
func (script) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer gives a server whatever bytes: it must end, without a session, since no byte string can know
// its ephemeral key.
func FuzzServer(f *testing.F) {
	static, err := GenerateStatic(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	for _, kind := range []Kind{Classical, Hybrid} {
		f.Add(firstFrame(f, kind))
		f.Add(append(firstFrame(f, kind), append([]byte{0, 64}, make([]byte, 64)...)...))
	}
	id := &Identity{Static: static, Payload: []byte("evidence")}
	if id.Decap, err = GenerateDecap(bytes.NewReader(make([]byte, 64))); err != nil {
		f.Fatal(err)
	}
	for _, kind := range []Kind{Classical, Hybrid} { // a reconnect that opens, one that does not, and what may follow
		pin := pinOf(id)
		f.Add(append(reconnectFrame(f, kind, pin), 1, 16))
		pin.Static[0] ^= 1
		f.Add(append(reconnectFrame(f, kind, pin), firstFrame(f, kind)...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := Accept(t.Context(), script{bytes.NewReader(in), nil}, config(Classical, Hybrid), id)
		if c != nil || err == nil {
			t.Fatal("a session out of nothing")
		}
	})
}

// firstFrame is what a client says first.
func firstFrame(f *testing.F, kind Kind) []byte { return reconnectFrame(f, kind, nil) }

func reconnectFrame(f *testing.F, kind Kind, pin *Pin) []byte {
	var out bytes.Buffer
	cfg := config(kind)
	cfg.Pin = pin
	_, err := Client(f.Context(), script{new(bytes.Buffer), &out}, cfg, accept)
	if !errors.Is(err, ErrTruncated) || int(binary.BigEndian.Uint16(out.Bytes())) != out.Len()-2 {
		f.Fatalf("%v, %d bytes", err, out.Len())
	}
	return out.Bytes()
}

// FuzzClient gives a client whatever answer: it must end, and never judge evidence.
func FuzzClient(f *testing.F) {
	f.Add([]byte{0, 2, refusal, 2})
	f.Add(append([]byte{0, 200, Hybrid.reply()}, make([]byte, 199)...))
	f.Add([]byte{0xff, 0xff})
	f.Add([]byte{0, 2, refusal, byte(RefusedKey), 0, 2, refusal, byte(RefusedKey)})
	f.Add(append([]byte{0, 200, ClassicalFallback.reply()}, make([]byte, 199)...))
	id := &Identity{Payload: []byte("evidence")}
	var err error
	if id.Static, err = GenerateStatic(bytes.NewReader(make([]byte, 32))); err != nil {
		f.Fatal(err)
	}
	if id.Decap, err = GenerateDecap(bytes.NewReader(make([]byte, 64))); err != nil {
		f.Fatal(err)
	}
	pin := pinOf(id)
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, kind := range []Kind{Classical, Hybrid} {
			for _, p := range []*Pin{nil, pin} {
				cfg := config(kind)
				cfg.Pin = p
				c, err := Client(t.Context(), script{bytes.NewReader(in), nil}, cfg, accept)
				if c != nil || err == nil {
					t.Fatal("a session out of nothing")
				}
			}
		}
	})
}

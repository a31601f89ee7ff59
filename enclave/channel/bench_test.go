package channel

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"net"
	"testing"

	"github.com/flynn/noise"
)

// BenchmarkHandshake runs both sides over net.Pipe with 12 KiB of evidence; bare is flynn/noise alone, its
// own DH, no connection.
func BenchmarkHandshake(b *testing.B) {
	static, payload := newStatic(b), make([]byte, 12<<10)
	for _, kind := range []Kind{Classical, Hybrid} {
		b.Run(map[Kind]string{Classical: "classical", Hybrid: "hybrid"}[kind], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a, c := net.Pipe()
				cl, sv := shake(b, a, c, config(kind), config(kind), static, payload, accept)
				if cl.err != nil || sv.err != nil {
					b.Fatal(cl.err, sv.err)
				}
				a.Close()
			}
		})
	}
	for _, kind := range []Kind{Classical, Hybrid} {
		b.Run(map[Kind]string{Classical: "classical-reconnect", Hybrid: "hybrid-reconnect"}[kind], func(b *testing.B) {
			id := newIdentity(b, string(payload))
			cfg := config(kind)
			cfg.Pin = pinOf(id)
			b.ReportAllocs()
			for b.Loop() {
				a, c := net.Pipe()
				cl, sv := shakeAs(b, a, c, cfg, config(kind), id, accept)
				if cl.err != nil || sv.err != nil || !cl.conn.Peer().Kind.reconnects() {
					b.Fatal(cl.err, sv.err)
				}
				a.Close()
			}
		})
	}
	b.Run("bare-XX", func(b *testing.B) {
		suite := noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
		si, _ := suite.GenerateKeypair(rand.Reader)
		sr, _ := suite.GenerateKeypair(rand.Reader)
		b.ReportAllocs()
		for b.Loop() {
			bareHandshake(b, suite, si, sr, payload)
		}
	})
}

func bareHandshake(b *testing.B, suite noise.CipherSuite, si, sr noise.DHKey, payload []byte) (w, r *noise.CipherState) {
	i, err := noise.NewHandshakeState(noise.Config{CipherSuite: suite, Pattern: noise.HandshakeXX, Initiator: true, StaticKeypair: si})
	if err != nil {
		b.Fatal(err)
	}
	s, err := noise.NewHandshakeState(noise.Config{CipherSuite: suite, Pattern: noise.HandshakeXX, StaticKeypair: sr})
	if err != nil {
		b.Fatal(err)
	}
	var m []byte
	for n, side := range []*noise.HandshakeState{i, s, i} {
		other, p := map[bool]*noise.HandshakeState{true: s, false: i}[side == i], []byte(nil)
		if n == 1 {
			p = payload
		}
		if m, w, _, err = side.WriteMessage(nil, p); err != nil {
			b.Fatal(err)
		}
		if _, r, _, err = other.ReadMessage(nil, m); err != nil {
			b.Fatal(err)
		}
	}
	return w, r
}

// BenchmarkRecords seals and opens 16 KiB of payload a record: ours through Send and Receive without a
// network, bare through flynn/noise with its buffers reused.
func BenchmarkRecords(b *testing.B) {
	for _, size := range []int{240, 1000, MaxData} {
		b.Run("ours-"+map[int]string{240: "240", 1000: "1000", MaxData: "16376"}[size], func(b *testing.B) {
			a, c := net.Pipe()
			cl, sv := shake(b, a, c, config(), config(), newStatic(b), nil, accept)
			if cl.err != nil || sv.err != nil {
				b.Fatal(cl.err, sv.err)
			}
			wire := new(bytes.Buffer) // from here on a record goes nowhere but to the other side
			cl.conn.conn, sv.conn.conn, sv.conn.r.in = script{nil, wire}, script{wire, nil}, bufio.NewReaderSize(wire, readBuffer)
			r := Record{Type: Data, Stream: 1, Payload: make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := cl.conn.Send(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				if _, err := sv.conn.Receive(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("bare-"+map[int]string{240: "240", 1000: "1000", MaxData: "16376"}[size], func(b *testing.B) {
			suite := noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
			si, _ := suite.GenerateKeypair(rand.Reader)
			sr, _ := suite.GenerateKeypair(rand.Reader)
			w, r := bareHandshake(b, suite, si, sr, nil)
			plain, buf, out := make([]byte, size), make([]byte, 0, size+16), make([]byte, 0, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				ct, err := w.Encrypt(buf, nil, plain)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.Decrypt(out, nil, ct); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

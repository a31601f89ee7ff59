package channel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

// tlsConfigs are a TLS 1.3 server's with a P-256 certificate, and a client's that trusts it.
func tlsConfigs(b testing.TB, curve tls.CurveID) (server, client *tls.Config) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"enclave"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{curve}, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}}}
	client = &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{curve}, RootCAs: roots, ServerName: "enclave"}
	return server, client
}

// BenchmarkTLSHandshake is the peer of BenchmarkHandshake: crypto/tls 1.3, both sides over net.Pipe.
func BenchmarkTLSHandshake(b *testing.B) {
	for name, curve := range map[string]tls.CurveID{"X25519": tls.X25519, "X25519MLKEM768": tls.X25519MLKEM768} {
		b.Run(name, func(b *testing.B) {
			scfg, ccfg := tlsConfigs(b, curve)
			b.ReportAllocs()
			for b.Loop() {
				a, c := net.Pipe()
				done := make(chan error, 1)
				go func() { done <- tls.Server(c, scfg).Handshake() }()
				if err := tls.Client(a, ccfg).Handshake(); err != nil {
					b.Fatal(err)
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				a.Close()
			}
		})
	}
}

// BenchmarkLoopback moves records of 16 KiB one way over TCP on loopback: by a Conn and its peer, crypto/tls 1.3 with AES-GCM, and by
// a stream of a Mux and its peer, HTTP/2 over that. They take turns of 8 MiB, each of which ends when the receiver has
// all of it, so that whatever else this machine does falls on all of them, in an order that changes. It reports the median turn's time for a
// record, and that beside that of TLS (1.0: as fast).
//
// On one processor (-cpu 1) this is what a record costs at both ends together. On two the ends work at a time, and a
// receiver that is done before the next record comes sleeps, which in a virtual machine its sender pays for: the
// sooner it is done, the more. So "four" is four senders and four receivers at a time: with them nobody sleeps.
func BenchmarkLoopback(b *testing.B) {
	for _, row := range []struct {
		name  string
		pairs int
	}{{"one", 1}, {"four", 4}} {
		b.Run(row.name, func(b *testing.B) {
			var lanes []*lane
			for _, way := range ways {
				lanes = append(lanes, newLane(b, way.name, way.open, row.pairs))
			}
			for i := 0; b.Loop(); i++ {
				for k := range lanes {
					lanes[(i+k)%len(lanes)].turn(b)
				}
			}
			beside := median(lanes[3].times)
			for _, l := range lanes {
				b.ReportMetric(median(l.times)/float64(perTurn*row.pairs)*1e9, l.name+"-ns/record")
				if l != lanes[3] {
					b.ReportMetric(beside/median(l.times), l.name+"/tls")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// perTurn is the number of records in a turn.
const perTurn = 512

// A pair is a sender and its receiver, which says on got how many bytes have come.
type pair struct {
	send func([]byte) error
	got  chan int
}

// turn sends 8 MiB and waits until they are all there.
func (l *pair) turn() error {
	chunk, n := make([]byte, MaxData), 0
	for range perTurn {
		if err := l.send(chunk); err != nil {
			return err
		}
	}
	for n < perTurn*MaxData {
		c, ok := <-l.got
		if !ok {
			return errors.New("the receiver ended")
		}
		n += c
	}
	return nil
}

// A lane is one way to move records, over one pair or several at a time.
type lane struct {
	name  string
	pairs []*pair
	times []float64 // seconds, a turn each
}

// ways are the lanes; TLS comes last.
var ways = []struct {
	name string
	open func(testing.TB) *pair
}{{"conn", connPair}, {"stream", streamPair}, {"h2", h2Pair}, {"tls", tlsPair}}

func newLane(b *testing.B, name string, open func(testing.TB) *pair, pairs int) *lane {
	l := &lane{name: name}
	for range pairs {
		l.pairs = append(l.pairs, open(b))
	}
	return l
}

func (l *lane) turn(b *testing.B) {
	start := time.Now()
	done := make(chan error, len(l.pairs))
	for _, p := range l.pairs {
		go func() { done <- p.turn() }()
	}
	for range l.pairs {
		if err := <-done; err != nil {
			b.Fatal(l.name, err)
		}
	}
	l.times = append(l.times, time.Since(start).Seconds())
}

// receive counts what read returns, and tells of each 8 MiB.
func (l *pair) receive(read func() (int, error)) {
	defer close(l.got)
	for n := 0; ; {
		c, err := read()
		if err != nil {
			return
		}
		if n += c; n >= perTurn*MaxData {
			l.got <- n
			n = 0
		}
	}
}

func connPair(b testing.TB) *pair {
	cl, sv := loopback(b)
	l := &pair{got: make(chan int, 1), send: func(p []byte) error {
		return cl.Send(context.Background(), Record{Type: Data, Stream: 1, Payload: p})
	}}
	go l.receive(func() (int, error) {
		r, err := sv.Receive(context.Background())
		return len(r.Payload), err
	})
	return l
}

func streamPair(b testing.TB) *pair {
	cl, sv := loopback(b)
	server, client := NewMux(sv, MuxOptions{Server: true}), NewMux(cl, MuxOptions{})
	b.Cleanup(func() { client.Abort(); server.Abort() })
	s, err := client.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	l := &pair{got: make(chan int, 1), send: func(p []byte) error { _, err := s.Write(p); return err }}
	go func() {
		s, err := server.Accept(b.Context())
		if err != nil {
			close(l.got)
			return
		}
		p := make([]byte, MaxData)
		l.receive(func() (int, error) { return s.Read(p) })
	}()
	return l
}

func tlsPair(b testing.TB) *pair {
	scfg, ccfg := tlsConfigs(b, tls.X25519)
	cc, sc := tcpPair(b)
	server, client := tls.Server(sc, scfg), tls.Client(cc, ccfg)
	l := &pair{got: make(chan int, 1), send: func(p []byte) error { _, err := client.Write(p); return err }}
	p := make([]byte, MaxData)
	go l.receive(func() (int, error) { return server.Read(p) })
	if err := client.Handshake(); err != nil {
		b.Fatal(err)
	}
	return l
}

// h2Lane is the peer of a stream: an upload over HTTP/2 in TLS 1.3, streams and credit included.
func h2Pair(b testing.TB) *pair {
	scfg, ccfg := tlsConfigs(b, tls.X25519)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	r, w := io.Pipe()
	l := &pair{got: make(chan int, 1), send: func(p []byte) error { _, err := w.Write(p); return err }}
	p := make([]byte, MaxData)
	server := &http.Server{TLSConfig: scfg, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			l.receive(func() (int, error) { return r.Body.Read(p) })
		}
	})}
	go server.ServeTLS(ln, "", "")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: ccfg, ForceAttemptHTTP2: true}}
	go client.Post("https://"+ln.Addr().String(), "", r)
	b.Cleanup(func() { w.Close(); client.CloseIdleConnections(); server.Close() })
	return l
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func loopback(b testing.TB) (client, server *Conn) {
	cc, sc := tcpPair(b)
	c, s := shake(b, cc, sc, config(Classical), config(Classical), newStatic(b), nil, accept)
	if c.err != nil || s.err != nil {
		b.Fatal(c.err, s.err)
	}
	return c.conn, s.conn
}

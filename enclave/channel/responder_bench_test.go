package channel

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// A workConn counts the time in which its owner is not in it: what one side of a handshake computes, without the
// other side's time and without waiting.
type workConn struct {
	net.Conn
	since  time.Time
	worked time.Duration
}

func (c *workConn) Read(p []byte) (int, error) {
	c.worked += time.Since(c.since)
	n, err := c.Conn.Read(p)
	c.since = time.Now()
	return n, err
}

func (c *workConn) Write(p []byte) (int, error) {
	c.worked += time.Since(c.since)
	n, err := c.Conn.Write(p)
	c.since = time.Now()
	return n, err
}

// BenchmarkResponder is the enclave's side alone of a handshake with 12 KiB of evidence, over net.Pipe, and the server's of
// TLS 1.3 with a P-256 certificate: how many a core makes in a second.
func BenchmarkResponder(b *testing.B) {
	static, payload := newStatic(b), make([]byte, 12<<10)
	for _, kind := range []Kind{Classical, Hybrid} {
		b.Run(map[Kind]string{Classical: "classical", Hybrid: "hybrid"}[kind], func(b *testing.B) {
			respond(b, func(c net.Conn) error {
				_, err := Server(b.Context(), c, config(kind), static, payload)
				return err
			}, func(c net.Conn) error {
				_, err := Client(b.Context(), c, config(kind), accept)
				return err
			})
		})
	}
	for _, curve := range []tls.CurveID{tls.X25519, tls.X25519MLKEM768} {
		b.Run("tls-"+curve.String(), func(b *testing.B) {
			scfg, ccfg := tlsConfigs(b, curve)
			respond(b, func(c net.Conn) error { return tls.Server(c, scfg).Handshake() }, func(c net.Conn) error { return tls.Client(c, ccfg).Handshake() })
		})
	}
}

func respond(b *testing.B, server, client func(net.Conn) error) {
	var worked time.Duration
	n := 0
	for ; b.Loop(); n++ {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- client(far) }()
		c := &workConn{Conn: near, since: time.Now()}
		err := server(c)
		worked += c.worked + time.Since(c.since)
		if err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		near.Close()
	}
	b.ReportMetric(float64(n)/worked.Seconds(), "handshakes/s")
}

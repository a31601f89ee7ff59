package channel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// tlsConfigs are a TLS 1.3 server's with a P-256 certificate, and a client's that trusts it.
func tlsConfigs(b *testing.B, curve tls.CurveID) (server, client *tls.Config) {
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

// BenchmarkLoopback moves records of 16 KiB one way over TCP on loopback: a Conn, a stream of a Mux, and
// crypto/tls 1.3 with AES-GCM.
func BenchmarkLoopback(b *testing.B) {
	chunk := make([]byte, MaxData)
	b.Run("conn", func(b *testing.B) {
		cl, sv := loopback(b)
		go func() {
			for {
				if _, err := sv.Receive(b.Context()); err != nil {
					return
				}
			}
		}()
		b.SetBytes(MaxData)
		for b.Loop() {
			if err := cl.Send(b.Context(), Record{Type: Data, Stream: 1, Payload: chunk}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stream", func(b *testing.B) {
		cl, sv := loopback(b)
		server := NewMux(sv, MuxOptions{Server: true})
		defer server.Abort()
		go func() {
			if s, err := server.Accept(b.Context()); err == nil {
				io.Copy(io.Discard, s)
			}
		}()
		client := NewMux(cl, MuxOptions{})
		defer client.Abort()
		s, err := client.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(MaxData)
		for b.Loop() {
			if _, err := s.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tls", func(b *testing.B) {
		scfg, ccfg := tlsConfigs(b, tls.X25519)
		cc, sc := tcpPair(b)
		go io.Copy(io.Discard, tls.Server(sc, scfg))
		w := tls.Client(cc, ccfg)
		if _, err := io.Copy(w, bytes.NewReader(chunk)); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(MaxData)
		for b.Loop() {
			if _, err := w.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func loopback(b testing.TB) (client, server *Conn) {
	cc, sc := tcpPair(b)
	c, s := shake(b, cc, sc, config(Classical), config(Classical), newStatic(b), nil, accept)
	if c.err != nil || s.err != nil {
		b.Fatal(c.err, s.err)
	}
	return c.conn, s.conn
}

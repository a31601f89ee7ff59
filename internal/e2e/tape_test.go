package e2e

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"tally/enclave/channel"
)

// A tape records what a client's session is made from: its randomness, and what came and went.
type tape struct {
	net.Conn
	mu            sync.Mutex
	rand, in, out []byte
}

func (r *tape) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in = append(r.in, p[:n]...)
	return n, err
}

func (r *tape) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.out = append(r.out, p...)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// random is the client's source of randomness.
type random struct{ *tape }

func (r random) Read(p []byte) (int, error) {
	n, err := rand.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rand = append(r.rand, p[:n]...)
	return n, err
}

// openTaped opens a session, as kind 03, and exchanges a message: two records of the client's. It changes its key
// for its third.
func openTaped(t *testing.T, addr string) (*tape, *channel.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &tape{Conn: conn}
	c, err := channel.Client(t.Context(), r, channel.Config{Authority: "default", Rand: random{r}, Now: time.Now, Timeout: time.Minute, RekeyAfter: 3},
		func(context.Context, channel.Peer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, 1)
	return r, c
}

// reopenTaped is openTaped by a reconnect, as kind 04, to the key of an earlier session.
func reopenTaped(t *testing.T, addr string, decap *mlkem.DecapsulationKey768, before channel.Peer) (*tape, *channel.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &tape{Conn: conn}
	pin := &channel.Pin{Static: before.Static, EncapKey: decap.EncapsulationKey().Bytes(), Payload: before.Payload}
	c, err := channel.Client(t.Context(), r, channel.Config{Authority: "default", Rand: random{r}, Now: time.Now, Timeout: time.Minute, Pin: pin},
		func(context.Context, channel.Peer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if c.Peer().Kind != channel.HybridReconnect {
		t.Fatalf("a session of %v", c.Peer().Kind)
	}
	exchange(t, c, 1)
	return r, c
}

// A secret is something that a session must not leave behind.
type secret struct {
	name  string
	bytes []byte
}

// suite is the Noise protocol of kind 03. It has as many bytes as a hash, and so is the first chaining key itself.
const suite = "Noise_XXpsk3_25519_AESGCM_SHA256"

// A schedule is Noise's chain of keys (The Noise Protocol Framework, rev. 34, section 5.2), by the standard
// library: what the enclave has held in memory is computed from what the client knows, by nothing of ours.
type schedule struct {
	t   *testing.T
	ck  []byte
	all []secret
}

func (s *schedule) must(b []byte, err error) []byte {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// mix takes in key material and returns n keys, of which the first is the next chaining key.
func (s *schedule) mix(name string, material []byte, n int) (keys [][]byte) {
	s.t.Helper()
	okm := s.must(hkdf.Expand(sha256.New, s.must(hkdf.Extract(sha256.New, material, s.ck)), "", 32*n))
	s.ck = okm[:32]
	for i := range n {
		keys = append(keys, okm[32*i:32*i+32])
		s.all = append(s.all, secret{fmt.Sprintf("%s key %d", name, i+1), keys[i]})
	}
	if len(material) > 0 {
		s.all = append(s.all, secret{name, material})
	}
	return keys
}

// dh is X25519 with a key of the client's.
func (s *schedule) dh(private, public []byte) []byte {
	s.t.Helper()
	k, err := ecdh.X25519().NewPrivateKey(private)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.must(k.ECDH(p))
}

// secretsOf computes the secrets of a taped session. The client draws its static key, the seed of its ML-KEM key
// and its ephemeral key, in this order.
func secretsOf(t *testing.T, r *tape, server channel.PublicKey) []secret {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	static, seed, ephemeral := r.rand[:32], r.rand[32:96], r.rand[96:128]
	base := append([]byte{9}, make([]byte, 31)...)
	s := &schedule{t: t, ck: []byte(suite)}
	e := s.dh(ephemeral, base)
	if !bytes.Contains(frame(r.out, 0), e) {
		t.Fatal("message 1 is not made of the randomness that was taped")
	}
	reply := frame(r.in, 0)[1:] // behind the kind: e, s, payload
	re := reply[:32]
	s.mix("e", e, 2)
	s.mix("re", re, 2)
	s.all = nil // public so far
	s.mix("ee", s.dh(ephemeral, re), 2)
	k := s.mix("es", s.dh(ephemeral, server[:]), 2)[1]
	decap, err := mlkem.NewDecapsulationKey768(seed)
	if err != nil {
		t.Fatal(err)
	}
	psk := s.must(decap.Decapsulate(unsealed(t, k, reply[32+48:])[:mlkem.CiphertextSize768]))
	s.mix("se", s.dh(static, re), 2)
	s.mix("psk", psk, 3)
	keys := s.mix("transport", nil, 2)
	// The keys are the session's: the client's first record opens.
	if _, err := gcm(t, keys[0]).Open(nil, make([]byte, 12), frame(r.out, 2), nil); err != nil {
		t.Fatalf("the first record does not open with the key that was computed: %v", err)
	}
	return s.all
}

// reconnectSuite is that of kind 04, which has as many bytes as a hash, too.
const reconnectSuite = "Noise_IKpsk2_25519_AESGCM_SHA256"

// secretsOfReconnect computes those of a taped reconnect. The client draws its static key, a nonce and its ephemeral key, in this
// order; the ciphertext stands before message 1, and decap is the enclave's.
func secretsOfReconnect(t *testing.T, r *tape, server channel.PublicKey, decap *mlkem.DecapsulationKey768) []secret {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	static, ephemeral := r.rand[:32], r.rand[64:96]
	base := append([]byte{9}, make([]byte, 31)...)
	s := &schedule{t: t, ck: []byte(reconnectSuite)}
	e, first := s.dh(ephemeral, base), frame(r.out, 0)
	at := bytes.Index(first, e)
	if at < mlkem.CiphertextSize768 {
		t.Fatal("message 1 is not made of the randomness that was taped")
	}
	psk := s.must(decap.Decapsulate(first[at-mlkem.CiphertextSize768 : at]))
	re := frame(r.in, 0)[1:33]
	s.mix("e", e, 2)
	s.all = nil // public so far
	s.mix("es", s.dh(ephemeral, server[:]), 2)
	s.mix("ss", s.dh(static, server[:]), 2)
	s.mix("re", re, 2)
	s.all = s.all[:len(s.all)-1] // the enclave's ephemeral key itself is public
	s.mix("ee", s.dh(ephemeral, re), 2)
	s.mix("se", s.dh(static, re), 2)
	s.mix("psk", psk, 3)
	keys := s.mix("transport", nil, 2)
	if _, err := gcm(t, keys[0]).Open(nil, make([]byte, 12), frame(r.out, 1), nil); err != nil {
		t.Fatalf("the confirmation does not open with the key that was computed: %v", err)
	}
	return s.all
}

// rekeyed is the key that Noise's Rekey makes of one (section 4.2).
func rekeyed(t *testing.T, key []byte) []byte {
	nonce := append(make([]byte, 4), bytes.Repeat([]byte{0xff}, 8)...)
	return gcm(t, key).Seal(nil, nonce, make([]byte, 32), nil)[:32]
}

// frame returns frame i of a direction.
func frame(b []byte, i int) []byte {
	for ; i > 0; i-- {
		b = b[2+binary.BigEndian.Uint16(b):]
	}
	return b[2 : 2+binary.BigEndian.Uint16(b)]
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// unsealed decrypts what AES-256-GCM made with nonce 0, without its check, which needs the handshake hash.
func unsealed(t *testing.T, key, in []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, 16)
	iv[15] = 2
	out := make([]byte, len(in))
	cipher.NewCTR(block, iv).XORKeyStream(out, in)
	return out
}

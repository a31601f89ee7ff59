package channel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/mlkem"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/flynn/noise"
)

// A rogue is a client that follows Noise but not PROTOCOL.md.
type rogue struct {
	header   header
	payload1 []byte
	payload3 []byte
	secret   *mlkem.DecapsulationKey768
}

// play runs r against our server and returns both errors.
func (r *rogue) play(t *testing.T, scfg Config) (client, server error) {
	t.Helper()
	cc, sc := tcpPair(t)
	done := make(chan error, 1)
	go func() {
		_, err := Server(t.Context(), sc, scfg, newStatic(t), []byte("evidence"))
		sc.Close()
		done <- err
	}()
	client = r.talk(t, cc)
	cc.Close()
	return client, <-done
}

func (r *rogue) talk(t *testing.T, conn net.Conn) error {
	cfg, err := config(Classical, Hybrid).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	h := &half{cfg: cfg, conn: conn, in: bufio.NewReader(conn), dh: new(dh), isClient: true}
	wire := r.header.append(nil)
	if err := h.start(r.header.kind, newStatic(t), wire, noise.Config{Initiator: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.write(wire, r.payload1); err != nil {
		return err
	}
	if err := h.readReply(r.secret); err != nil {
		return err
	}
	return h.write(nil, r.payload3)
}

func TestRogueClients(t *testing.T) {
	secret, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	ek := secret.EncapsulationKey().Bytes()
	// Every 12 bits of an encapsulation key are a coefficient below 3329 (FIPS 203, 7.2).
	badEK := bytes.Repeat([]byte{0xff}, len(ek))
	both := []Kind{Classical, Hybrid}
	classical := header{Classical, "default", []Kind{Classical}, CarrierStream}
	hybrid := header{Hybrid, "default", []Kind{Hybrid}, CarrierStream}
	for name, c := range map[string]struct {
		rogue rogue
		want  string // of the server; "" for a session
		code  Refusal
	}{
		"none, classical":             {rogue{classical, nil, nil, nil}, "", 0},
		"none, hybrid":                {rogue{hybrid, ek, nil, secret}, "", 0},
		"downgrade in its own offer":  {rogue{header{Classical, "default", both, CarrierStream}, nil, nil, nil}, "kind of handshake", RefusedKind},
		"reserved kind":               {rogue{header{0x05, "default", []Kind{Hybrid, 0x05}, CarrierStream}, nil, nil, nil}, "kind of handshake", RefusedKind},
		"nothing in common":           {rogue{header{0x05, "default", []Kind{0x05}, CarrierStream}, nil, nil, nil}, "kind of handshake", RefusedKind},
		"offer out of order":          {rogue{header{Hybrid, "default", []Kind{Hybrid, Classical}, CarrierStream}, ek, nil, secret}, "ascending", RefusedHeader},
		"offer twice":                 {rogue{header{Hybrid, "default", []Kind{Hybrid, Hybrid}, CarrierStream}, ek, nil, secret}, "ascending", RefusedHeader},
		"kind not in its offer":       {rogue{header{Hybrid, "default", []Kind{Classical}, CarrierStream}, ek, nil, secret}, "do not contain", RefusedHeader},
		"another carrier":             {rogue{header{Hybrid, "default", []Kind{Hybrid}, CarrierWebSocket}, ek, nil, secret}, "came by 1", RefusedHeader},
		"no offer":                    {rogue{header{Hybrid, "default", nil, CarrierStream}, ek, nil, secret}, "do not contain", RefusedHeader},
		"seventeen kinds":             {rogue{header{Hybrid, "default", []Kind("\x01\x03\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13"), CarrierStream}, ek, nil, secret}, "do not contain", RefusedHeader},
		"authority of odd bytes":      {rogue{header{Hybrid, "de fault", []Kind{Hybrid}, CarrierStream}, ek, nil, secret}, "authority", RefusedHeader},
		"no authority":                {rogue{header{Hybrid, "", []Kind{Hybrid}, CarrierStream}, ek, nil, secret}, "authority", RefusedHeader},
		"payload in classical hello":  {rogue{classical, []byte("x"), nil, nil}, "payload of 1 bytes, want 0", 0},
		"hybrid without its key":      {rogue{hybrid, nil, nil, secret}, "payload of 0 bytes, want 1184", 0},
		"hybrid with a long key":      {rogue{hybrid, append(bytes.Clone(ek), 0), nil, secret}, "payload of 1185 bytes", 0},
		"hybrid with a bad key":       {rogue{hybrid, badEK, nil, secret}, "ML-KEM key", 0},
		"payload in message 3":        {rogue{classical, nil, []byte("0-RTT"), nil}, "message 3 has a payload", 0},
		"payload in message 3 hybrid": {rogue{hybrid, ek, []byte("0-RTT"), secret}, "message 3 has a payload", 0},
	} {
		client, server := c.rogue.play(t, config(both...))
		if c.want == "" {
			if client != nil || server != nil {
				t.Errorf("%s: %v, %v", name, client, server)
			}
			continue
		}
		if server == nil || !strings.Contains(server.Error(), c.want) {
			t.Errorf("%s: server %v; want %q", name, server, c.want)
		}
		var refused *RefusedError
		if c.code != 0 && (!errors.As(client, &refused) || refused.Code != c.code) {
			t.Errorf("%s: client %v; want refusal %v", name, client, c.code)
		}
		if c.code == 0 && errors.As(client, &refused) {
			t.Errorf("%s: the server tells: %v", name, client)
		}
	}
}

// TestWrongPSK: a client that guesses the ML-KEM secret gets no session.
func TestWrongPSK(t *testing.T) {
	secret, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	other, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	r := rogue{header{Hybrid, "default", []Kind{Hybrid}, CarrierStream}, secret.EncapsulationKey().Bytes(), nil, other}
	if _, server := r.play(t, config()); !errors.Is(server, ErrDecrypt) {
		t.Errorf("%v", server)
	}
}

// TestRogueServer: an enclave's message 2 that lacks its half of the hybrid secret ends the handshake, before the
// evidence is judged.
func TestRogueServer(t *testing.T) {
	for _, n := range []int{0, 1, mlkem.CiphertextSize768 - 1} {
		cc, sc := tcpPair(t)
		go func() {
			defer sc.Close()
			cfg, err := config().withDefaults()
			if err != nil {
				t.Error(err)
				return
			}
			h := &half{cfg: cfg, conn: sc, in: bufio.NewReader(sc), dh: new(dh)}
			head, wire, msg, err := h.readHello()
			if err == nil {
				err = h.start(head.kind, newStatic(t), wire, noise.Config{})
			}
			if err == nil {
				_, _, _, err = h.hs.ReadMessage(nil, msg)
			}
			if err == nil {
				err = h.write([]byte{Hybrid.reply()}, make([]byte, n))
			}
			if err != nil {
				t.Error(err)
			}
		}()
		judged := false
		c, err := Client(t.Context(), cc, config(), func(context.Context, Peer) error { judged = true; return nil })
		if c != nil || judged || err == nil || !strings.Contains(err.Error(), "no ML-KEM ciphertext") {
			t.Errorf("%d bytes: %v; judged: %v", n, err, judged)
		}
	}
}

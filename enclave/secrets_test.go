package enclave_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/client"
	"tally/enclave/secrets"
)

const secretCanary = "CANARY-5ec7e7"

// A listener keeps what a log is told and what is observed.
type listener struct {
	mu     sync.Mutex
	text   bytes.Buffer
	events []enclave.Event
}

func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *listener) observe(e enclave.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	fmt.Fprintf(&l.text, "%+v\n", e)
}

func operatorKey(t *testing.T) (*ecdsa.PrivateKey, func([]byte) ([]byte, error)) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, func(m []byte) ([]byte, error) {
		sum := sha256.Sum256(m)
		return ecdsa.SignASN1(rand.Reader, k, sum[:])
	}
}

// startWaiting starts an enclave that waits for the secret "token" of at most 32 bytes.
func startWaiting(t *testing.T, e enclave.Engine, operator *ecdsa.PublicKey, kept *[]byte) (addr string, taker *secrets.Taker, said *listener) {
	t.Helper()
	taker, err := secrets.NewTaker(secrets.Options{Operator: operator, Limits: map[string]int{"token": 32}, Keep: func(list []secrets.Secret) error {
		*kept = bytes.Clone(list[0].Value)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	said = new(listener)
	opt := options(t)
	opt.Secrets, opt.Observe = taker, said.observe
	opt.Logger = slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	addr, _ = start(t, insecure.Attester{}, e, opt)
	return addr, taker, said
}

func wantCode(t *testing.T, what string, err error, want secrets.Code) {
	t.Helper()
	var refused *secrets.RefusedError
	if want == secrets.Taken && err != nil || want != secrets.Taken && (!errors.As(err, &refused) || refused.Code != want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestSecrets: the operator's secrets are taken once, in the session and by the enclave that they were signed for,
// and nobody is told what they are.
func TestSecrets(t *testing.T) {
	k, sign := operatorKey(t)
	_, stranger := operatorKey(t)
	var kept, elsewhere []byte
	addr, taker, said := startWaiting(t, silentEngine{t}, &k.PublicKey, &kept)
	other, waiting, _ := startWaiting(t, silentEngine{t}, &k.PublicKey, &elsewhere)
	token := func(value string) []secrets.Secret { return []secrets.Secret{{Name: "token", Value: []byte(value)}} }
	s, again := dial(t, addr, config()), dial(t, addr, config())
	send := func(what string, s *client.Session, list []secrets.Secret, sign func([]byte) ([]byte, error), want secrets.Code) {
		t.Helper()
		wantCode(t, what, s.SendSecrets(t.Context(), list, sign), want)
	}
	raw := func(what string, s *client.Session, message []byte, want secrets.Code) {
		t.Helper()
		answer, err := s.Do(t.Context(), message)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, what, secrets.ReadAnswer(answer), want)
	}
	made := func(handshake, static [32]byte, sign func([]byte) ([]byte, error)) []byte {
		t.Helper()
		m, err := secrets.Message(secrets.Session{Handshake: handshake, Static: static}, token(secretCanary), rand.Reader, sign)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	send("a stranger's", s, token(secretCanary), stranger, secrets.BadSignature)
	send("another name", s, []secrets.Secret{{Name: "tokens", Value: []byte(secretCanary)}}, sign, secrets.UnknownName)
	send("a name too many", s, append(token("x"), secrets.Secret{Name: "more", Value: []byte("x")}), sign, secrets.UnknownName)
	send("long", s, token(strings.Repeat(secretCanary, 9)), sign, secrets.Oversize)
	raw("nothing", s, secrets.Start[:], secrets.Malformed)
	// Of a message for s: its signature left out, and sent in another session.
	recorded := made(s.Peer().Binding, s.Peer().Static, sign)
	head := len(secrets.Start) + 64
	raw("unsigned", s, append(append(bytes.Clone(recorded[:head]), 0), recorded[head+1+int(recorded[head]):]...), secrets.Unsigned)
	raw("recorded in another session", again, recorded, secrets.OtherSession)
	there := dial(t, other, config())
	raw("recorded at another enclave", there, recorded, secrets.OtherSession)
	raw("for another enclave", there, made(there.Peer().Binding, s.Peer().Static, sign), secrets.OtherEnclave)
	forged := bytes.Clone(recorded)
	mine := again.Peer()
	copy(forged[len(secrets.Start):], mine.Binding[:])
	copy(forged[len(secrets.Start)+32:], mine.Static[:])
	raw("recorded, and readdressed", again, forged, secrets.BadSignature)
	if !taker.Waits() || !waiting.Waits() || kept != nil {
		t.Fatalf("taken: %q", kept)
	}
	send("the operator's", s, token(secretCanary), sign, secrets.Taken)
	if taker.Waits() || string(kept) != secretCanary {
		t.Errorf("kept %q", kept)
	}
	send("a second time", s, token("new"), sign, secrets.Again)
	send("a second time, in another session", again, token("new"), sign, secrets.Again)
	if string(kept) != secretCanary || !waiting.Waits() {
		t.Errorf("kept %q", kept)
	}
	said.mu.Lock()
	defer said.mu.Unlock()
	if text := said.text.String(); strings.Contains(text, "CANARY") || !strings.Contains(text, `msg="secrets refused" reason=signature`) || strings.Count(text, "secrets taken Reason:taken") != 1 {
		t.Errorf("said\n%s", text)
	}
}

// silentEngine must not be asked.
type silentEngine struct{ t *testing.T }

func (s silentEngine) Exchange(context.Context, io.Reader, io.Writer) error {
	s.t.Error("the engine was asked")
	return nil
}

// TestSecretsAreNotTheEngines: every other request reaches the engine as it came, also where an enclave waits.
func TestSecretsAreNotTheEngines(t *testing.T) {
	k, sign := operatorKey(t)
	var kept []byte
	addr, _, _ := startWaiting(t, enclave.Echo{}, &k.PublicKey, &kept)
	s := dial(t, addr, config())
	for _, msg := range []string{"", "\xff", "\xff\x00", "\x00\xff\xff", "hello", strings.Repeat("long", 1<<18)} {
		if got, err := s.Do(t.Context(), []byte(msg)); err != nil || string(got) != msg {
			t.Errorf("%.10q: %.10q, %v", msg, got, err)
		}
	}
	// And an enclave that asks for none has none.
	addr, _ = start(t, insecure.Attester{}, enclave.Echo{}, options(t))
	s = dial(t, addr, config())
	if err := s.SendSecrets(t.Context(), []secrets.Secret{{Name: "token", Value: []byte("x")}}, sign); !errors.Is(err, secrets.ErrNotAsked) {
		t.Error(err)
	}
	if got, err := s.Do(t.Context(), []byte("on")); err != nil || string(got) != "on" {
		t.Errorf("the session ended: %q, %v", got, err)
	}
}

// TestSecretsInTurn: a session that sends many messages at a time has room for one; the others are read to their end and dropped.
func TestSecretsInTurn(t *testing.T) {
	k, sign := operatorKey(t)
	var kept []byte
	addr, _, _ := startWaiting(t, silentEngine{t}, &k.PublicKey, &kept)
	s, other := dial(t, addr, config()), dial(t, addr, config())
	r, w := io.Pipe()
	first := make(chan error, 1)
	go func() { first <- s.Exchange(t.Context(), r, io.Discard) }()
	w.Write(secrets.Start[:])
	w.Write([]byte("x")) // the message's start was read
	time.Sleep(50 * time.Millisecond)
	long := append(bytes.Clone(secrets.Start[:]), make([]byte, channel.SessionWindow)...) // more than may lie unread
	if _, err := s.Do(t.Context(), long); err == nil || !strings.Contains(err.Error(), "could not finish") {
		t.Errorf("two messages at a time: %v", err)
	}
	wantCode(t, "another session's", other.SendSecrets(t.Context(), []secrets.Secret{{Name: "token", Value: []byte("v")}}, sign), secrets.Taken)
	w.Close()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := s.Do(t.Context(), secrets.Start[:]); err != nil {
		t.Errorf("one after the other: %v", err)
	}
}

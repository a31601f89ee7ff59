//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
	"tally/enclave/operate"
	"tally/enclave/secrets"
	"tally/internal/guest"
)

// TestWaitsForSecrets: before the secrets that the configuration names are there, the engine is not started and
// nothing is ready, whoever may listen at its socket.
func TestWaitsForSecrets(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	e := new(engine)
	e.secrets, err = newTaker(&guest.Secrets{Operator: &k.PublicKey, Files: []guest.SecretFile{{Name: "a", Max: 4}, {Name: "b", Max: 1}}}, func(list []secrets.Secret) error {
		for _, s := range list {
			kept = append(kept, s.Name+"="+string(s.Value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.Engine, err = infer.New(infer.Options{Socket: infertest.Start(t).Socket}, time.Now); err != nil {
		t.Fatal(err)
	}
	if err := e.ready(t.Context()); !errors.Is(err, operate.ErrWaitsForSecrets) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.secretsTaken(ctx); err != nil || ctx.Err() == nil {
		t.Errorf("%v, %v: the engine may start", err, ctx.Err())
	}
	m, err := secrets.Message(secrets.Session{}, []secrets.Secret{{Name: "b", Value: []byte("2")}, {Name: "a", Value: []byte("1234")}}, rand.Reader, func(m []byte) ([]byte, error) {
		sum := sha256.Sum256(m)
		return ecdsa.SignASN1(rand.Reader, k, sum[:])
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := e.secrets.Take(secrets.Session{}, bytes.NewReader(m)); code != secrets.Taken || err != nil || len(kept) != 2 || kept[0] != "a=1234" || kept[1] != "b=2" {
		t.Errorf("%v, %v, %q", code, err, kept)
	}
	if err := e.secretsTaken(t.Context()); err != nil {
		t.Error(err)
	}
	if err := e.ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestInTurn: an engine on GPUs waits for its secrets before the GPUs are asked, and for the GPUs when it has them.
func TestInTurn(t *testing.T) {
	var order []string
	step := func(name string, err error) func(context.Context) error {
		return func(context.Context) error { order = append(order, name); return err }
	}
	no := errors.New("no")
	for _, c := range []struct {
		first, then func(context.Context) error
		want        string
		err         error
	}{
		{nil, step("gpus", nil), "gpus", nil},
		{step("secrets", nil), step("gpus", nil), "secrets gpus", nil},
		{step("secrets", no), step("gpus", nil), "secrets", no},
		{step("secrets", nil), step("gpus", no), "secrets gpus", no},
	} {
		order = nil
		if err := inTurn(c.first, c.then)(t.Context()); err != c.err || strings.Join(order, " ") != c.want {
			t.Errorf("%q, %v; want %q, %v", order, err, c.want, c.err)
		}
	}
	if (&engine{}).waits() != nil {
		t.Error("an engine without secrets waits for them")
	}
}

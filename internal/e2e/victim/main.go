// Command victim is an enclave whose memory TestProcessForgets reads: it echoes, takes its randomness from
// stdin, and prints its address. Its argument is an operator's public key (SubjectPublicKeyInfo in base64), whose
// secret "token" it takes and does not keep.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/secrets"
)

func main() {
	fmt.Fprintln(os.Stderr, run())
	os.Exit(1)
}

func run() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	taker, err := newTaker(os.Args[1])
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	return enclave.Serve(context.Background(), ln, insecure.Attester{}, enclave.Echo{}, enclave.Options{
		Authority: "default", Rand: os.Stdin, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Tick: -1, KeySessions: 3, Secrets: taker})
}

func newTaker(operator string) (*secrets.Taker, error) {
	der, err := base64.StdEncoding.DecodeString(operator)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	return secrets.NewTaker(secrets.Options{Operator: k.(*ecdsa.PublicKey), Limits: map[string]int{"token": 4096}, Keep: func([]secrets.Secret) error { return nil }})
}

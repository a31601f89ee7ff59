package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"tally/internal/kmsplugin"
	kt "tally/release/keyless/keylesstest"
)

// fileStore is the program sigstore-kms-test of the scripts: it stands for a key service. A key is a file.
type fileStore struct{}

func kmsTestMain() {
	os.Exit(kmsplugin.Main(os.Args, os.Stdin, os.Stdout, fileStore{}))
}

func (fileStore) key(ref string) (*ecdsa.PrivateKey, error) {
	if os.Getenv("TEST_KMS_PIN") != "1234" {
		return nil, errors.New("wrong PIN")
	}
	der, err := os.ReadFile(ref)
	if err != nil {
		return nil, err
	}
	return x509.ParseECPrivateKey(der)
}

func (s fileStore) Public(ref string) (*ecdsa.PublicKey, error) {
	k, err := s.key(ref)
	if err != nil {
		return nil, err
	}
	return &k.PublicKey, nil
}

func (s fileStore) Sign(ref string, digest []byte) ([]byte, error) {
	k, err := s.key(ref)
	if err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, k, digest)
}

func (s fileStore) Create(ref string) (*ecdsa.PublicKey, error) {
	if _, err := os.Lstat(ref); err == nil {
		return nil, os.ErrExist
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, err
	}
	return &k.PublicKey, os.WriteFile(ref, der, 0o600)
}

// sigstoreCmd is `sigstore`: a Sigstore at $SIGSTORE until the script ends, its clock at 2026-01-01T01:00:00Z, with
// root.json, root-without-logs.json and the tokens tag.jwt, branch.jwt and account.jwt.
func sigstoreCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: sigstore")
	}
	w, err := kt.Start()
	ts.Check(err)
	ts.Defer(w.Close)
	ts.Setenv("SIGSTORE", w.URL)
	ts.Setenv("GITHUB_REQUEST_TOKEN", kt.GitHubToken)
	ts.Check(os.WriteFile(ts.MkAbs("root.json"), w.Root, 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("root-without-logs.json"), w.RootWithoutLogs, 0o644))
	for name, c := range map[string]kt.Claims{
		"tag.jwt": kt.Workflow("refs/tags/v1.2.0"), "branch.jwt": kt.Workflow("refs/heads/main"), "account.jwt": kt.Account("release@acme.example"),
	} {
		token, err := w.Token(c)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(token+"\n"), 0o644))
	}
}

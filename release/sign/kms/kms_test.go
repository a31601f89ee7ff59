package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
	"tally/release/sign/kms"
)

// This test binary is also the plug-ins, by the name under which it runs.
func TestMain(m *testing.M) {
	if name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "sigstore-kms-"); ok {
		os.Exit(pluginMain(name))
	}
	os.Exit(m.Run())
}

// cloud stands for a cloud's key service: the plug-in's side is sigstore's own handler and signer.
type cloud struct {
	signature.SignerVerifier
	file string
}

func (c cloud) DefaultAlgorithm() string      { return "ecdsa-p256-sha256" }
func (c cloud) SupportedAlgorithms() []string { return []string{"ecdsa-p256-sha256"} }
func (c cloud) CryptoSigner(context.Context, func(error)) (crypto.Signer, crypto.SignerOpts, error) {
	return nil, nil, errors.New("not part of the protocol")
}

func (c cloud) CreateKey(_ context.Context, alg string) (crypto.PublicKey, error) {
	if alg != c.DefaultAlgorithm() {
		return nil, fmt.Errorf("algorithm %q", alg)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), f.Close()); err != nil {
		return nil, err
	}
	return k.Public(), nil
}

func pluginMain(name string) int {
	switch name {
	case "empty":
		fmt.Print("{}")
		return 0
	case "mute":
		return 1
	case "garbage":
		fmt.Print("hello")
		return 0
	case "flood":
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<16)); err != nil {
				return 1
			}
		}
	case "slow":
		time.Sleep(time.Minute)
		return 1
	}
	args, err := handler.GetPluginArgs(os.Args)
	if err != nil {
		return 2
	}
	c := cloud{file: args.InitOptions.KeyResourceID}
	if args.MethodName != common.CreateKeyMethodName {
		data, err := os.ReadFile(c.file)
		if err != nil {
			handler.WriteErrorResponse(os.Stdout, err)
			return 1
		}
		block, _ := pem.Decode(data)
		k, err := x509.ParseECPrivateKey(block.Bytes)
		if err == nil {
			c.SignerVerifier, err = signature.LoadSignerVerifier(k, args.InitOptions.HashFunc)
		}
		if err != nil {
			handler.WriteErrorResponse(os.Stdout, err)
			return 1
		}
	}
	if _, err := handler.Dispatch(os.Stdout, os.Stdin, args, c); err != nil {
		return 1
	}
	return 0
}

// plugins puts the plug-ins on PATH.
func plugins(t *testing.T, names ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Symlink(self, filepath.Join(dir, "sigstore-kms-"+name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return dir
}

func TestCloud(t *testing.T) {
	ref := "cloud://" + filepath.Join(plugins(t, "cloud"), "key.pem")
	var talk bytes.Buffer
	if _, err := kms.Open(t.Context(), ref, &talk); !errors.Is(err, kms.ErrPlugin) || !strings.Contains(err.Error(), "no such file") {
		t.Fatalf("no key yet: %v", err)
	}
	made, err := kms.Create(t.Context(), ref, &talk)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kms.Create(t.Context(), ref, &talk); !errors.Is(err, kms.ErrPlugin) {
		t.Errorf("a key over a key: %v", err)
	}
	k, err := kms.Open(t.Context(), ref, &talk)
	if err != nil {
		t.Fatal(err)
	}
	if k.Public().ID() != made.Public().ID() {
		t.Error("another key came back")
	}
	w := rt.New(t)
	one, two := w.Sign(t, k, sign.Options{Sequence: 2}), w.Sign(t, k, sign.Options{Sequence: 2})
	if bytes.Equal(one, two) {
		t.Error("the service is deterministic, which makes this test idle")
	}
	first, err := w.TryPublish(t.Context(), t, one, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.TryPublish(t.Context(), t, two, k.Public()); err != nil || !again.Already || again.Leaf != first.Leaf {
		t.Errorf("published twice: %+v, %v", again, err)
	}
	w.Policy.Signers = []release.Signer{{Key: k.Public()}}
	if _, err := release.Verify(first.Bundle, w.Policy, rt.Now); err != nil {
		t.Error(err)
	}
}

// The signature is over the message that was given, by an implementation that is not ours.
func TestSignature(t *testing.T) {
	ref := "cloud://" + filepath.Join(plugins(t, "cloud"), "key.pem")
	k, err := kms.Create(t.Context(), ref, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	message := bytes.Repeat([]byte("DSSEv1 "), 1<<18)
	sig, err := k.SignPAE(message)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(k.Public().PEM())
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if d := sha256.Sum256(message); !ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), d[:], sig) {
		t.Error("the signature does not verify")
	}
}

func TestBadPlugins(t *testing.T) {
	plugins(t, "empty", "mute", "garbage", "flood", "slow")
	for ref, want := range map[string]string{
		"absent://k":   "no program sigstore-kms-absent on PATH",
		"empty://k":    "no publicKey",
		"mute://k":     "no JSON",
		"garbage://k":  "no JSON",
		"flood://k":    "more than 65536 bytes",
		"../x://k":     "want NAME://ID",
		"A://k":        "want NAME://ID",
		"empty://":     "want NAME://ID",
		"empty://a\nb": "want NAME://ID",
		"k.pem":        "want NAME://ID",
	} {
		if _, err := kms.Open(t.Context(), ref, os.Stderr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", ref, err, want)
		}
		if _, err := kms.Create(t.Context(), ref, os.Stderr); err == nil {
			t.Errorf("%q: a key was made", ref)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := kms.Open(ctx, "slow://k", os.Stderr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("slow: %v", err)
	}
}

func TestIsRef(t *testing.T) {
	for s, want := range map[string]bool{"tpm://81010001": true, "awskms:///alias/x": true, "cosign.key": false, "/a/b": false, "C:\\x": false, "://x": false, "a://": false} {
		if kms.IsRef(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

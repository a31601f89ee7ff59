//go:build unix

package main

import (
	"bytes"
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"

	"tally/internal/testtool"
	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
	ours "tally/release/sign/kms"
)

// This test binary is also the plug-in.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "sigstore-kms-tpm") && os.Getenv("TALLY_TEST_PLUGIN") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// startTPM starts a software TPM and puts the plug-in on PATH; it returns the data socket.
func startTPM(t *testing.T) string {
	t.Helper()
	swtpm := testtool.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "tally-tpm-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "tpm")
	cmd := exec.Command(swtpm, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+sock,
		"--ctrl", "type=unixio,path="+filepath.Join(dir, "ctrl"), "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 500 {
		if _, err := os.Stat(sock); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "sigstore-kms-tpm")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("TALLY_TEST_PLUGIN", "1")
	t.Setenv("TPM_KEY_AUTH", "secret")
	return sock
}

func TestTPM(t *testing.T) {
	sock := startTPM(t)
	ref := "tpm://81010001@" + sock
	if _, err := ours.Open(t.Context(), ref, os.Stderr); err == nil || !strings.Contains(err.Error(), "no key at 81010001") {
		t.Errorf("no key yet: %v", err)
	}
	made, err := ours.Create(t.Context(), ref, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Create(t.Context(), ref, os.Stderr); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("a key over a key: %v", err)
	}
	k, err := ours.Open(t.Context(), ref, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if k.Public().ID() != made.Public().ID() {
		t.Error("another key came back")
	}
	if other, err := ours.Create(t.Context(), "tpm://81010002@"+sock, os.Stderr); err != nil || other.Public().ID() == k.Public().ID() {
		t.Errorf("a second key: %v", err)
	}
	w := rt.New(t)
	first, err := w.TryPublish(t.Context(), t, w.Sign(t, k, sign.Options{Sequence: 2}), k.Public())
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.TryPublish(t.Context(), t, w.Sign(t, k, sign.Options{Sequence: 2}), k.Public())
	if err != nil || !again.Already || again.Leaf != first.Leaf {
		t.Errorf("published twice: %+v, %v", again, err)
	}
	w.Policy.Signers = []release.Signer{{Key: k.Public()}}
	if _, err := release.Verify(first.Bundle, w.Policy, rt.Now); err != nil {
		t.Error(err)
	}
	t.Setenv("TPM_KEY_AUTH", "wrong")
	if _, err := k.SignPAE([]byte("x")); err == nil || !strings.Contains(err.Error(), "TPM_KEY_AUTH is not the key's") {
		t.Errorf("a wrong password: %v", err)
	}
}

// Sigstore's own client, which is cosign's, gets along with the plug-in.
func TestSigstoreClient(t *testing.T) {
	ref := "tpm://81010001@" + startTPM(t)
	c, err := kms.Get(t.Context(), ref, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateKey(t.Context(), c.DefaultAlgorithm()); err != nil {
		t.Fatal(err)
	}
	sig, err := c.SignMessage(strings.NewReader("message"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.VerifySignature(bytes.NewReader(sig), strings.NewReader("message")); err != nil {
		t.Error(err)
	}
	if err := c.VerifySignature(bytes.NewReader(sig), strings.NewReader("massage")); err == nil {
		t.Error("a signature of another message verifies")
	}
	if _, err := c.CreateKey(t.Context(), "rsa-pss-2048-sha256"); err == nil {
		t.Error("an algorithm that we do not have")
	}
	if got := c.SupportedAlgorithms(); len(got) != 1 || got[0] != "ecdsa-p256-sha256" {
		t.Errorf("algorithms %q", got)
	}
}

func TestParseRef(t *testing.T) {
	for ref, want := range map[string]string{"tpm://81010001": device, "81010001": device, "tpm://817FFFFF@/run/x": "/run/x"} {
		if _, path, err := parseRef(ref); err != nil || path != want {
			t.Errorf("%q: %q, %v", ref, path, err)
		}
	}
	for _, ref := range []string{"", "tpm://", "tpm://1", "tpm://81800000", "tpm://80ffffff", "tpm://0x81010001", "tpm://81010001@", "pkcs11://81010001", "tpm://-81010001"} {
		if _, _, err := parseRef(ref); err == nil {
			t.Errorf("%q: accepted", ref)
		}
	}
}

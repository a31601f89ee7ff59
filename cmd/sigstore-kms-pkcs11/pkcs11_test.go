package main

import (
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature/kms"

	"tally/internal/testtool"
	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
	ours "tally/release/sign/kms"
)

// softHSM makes a token "rel" with a key "made-elsewhere" by other programs, builds the plug-in and puts it on PATH.
// It returns the part of the references that names the module.
func softHSM(t *testing.T) string {
	t.Helper()
	util, tool := testtool.Need(t, "softhsm2-util"), testtool.Need(t, "pkcs11-tool")
	testtool.Need(t, "gcc")
	module := ""
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so", "/usr/lib/pkcs11/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			module = path
			break
		}
	}
	if module == "" {
		testtool.Missing(t, "module libsofthsm2.so is not installed")
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "sigstore-kms-pkcs11")
	build := exec.Command("go", "build", "-tags", "pkcs11", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	for _, args := range [][]string{
		{util, "--init-token", "--free", "--label", "rel", "--so-pin", "4321", "--pin", "1234"},
		{tool, "--module", module, "--login", "--pin", "1234", "--token-label", "rel", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "made-elsewhere", "--id", "01"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	t.Setenv("PATH", dir+":"+filepath.Dir(tool))
	t.Setenv("PKCS11_PIN", "1234")
	t.Setenv("PKCS11_MODULE", "")
	return "?module-path=" + module
}

func TestSoftHSM(t *testing.T) {
	module := softHSM(t)
	ref := "pkcs11://token=rel;object=signkey" + module
	if _, err := ours.Open(t.Context(), ref, os.Stderr); err == nil || !strings.Contains(err.Error(), "0 key pairs") {
		t.Errorf("no key yet: %v", err)
	}
	made, err := ours.Create(t.Context(), ref, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Create(t.Context(), ref, os.Stderr); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("a key over a key: %v", err)
	}
	w := rt.New(t)
	for _, ref := range []string{ref, "pkcs11://token=rel;object=made-elsewhere;id=%01" + module} {
		k, err := ours.Open(t.Context(), ref, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
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
		if made != nil && k.Public().ID() != made.Public().ID() {
			t.Error("another key came back")
		}
		made = nil
	}
	sigstoreClient(t, ref)
	privateKeyIsKept(t, strings.TrimPrefix(module, "?module-path="), "signkey")
	for want, ref := range map[string]string{
		"no PKCS #11 module":      "pkcs11://token=rel;object=signkey",
		"token \"other\"":         "pkcs11://token=other;object=signkey" + module,
		"0 key pairs":             "pkcs11://token=rel;object=made-elsewhere;id=%02" + module,
		"/nowhere":                "pkcs11://token=rel;object=signkey?module-path=/nowhere",
		"attribute \"pin-value\"": "pkcs11://token=rel;object=signkey" + module + "&pin-value=1234",
	} {
		if _, err := ours.Open(t.Context(), ref, os.Stderr); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `\"`, `"`), want) {
			t.Errorf("%s: %v, want %q in it", ref, err, want)
		}
	}
	t.Setenv("PKCS11_PIN", "0000")
	if _, err := ours.Open(t.Context(), ref, os.Stderr); err == nil || !strings.Contains(err.Error(), "PIN") {
		t.Errorf("a wrong PIN: %v", err)
	}
}

// sigstoreClient signs and verifies through sigstore's own client, which is cosign's.
func sigstoreClient(t *testing.T, ref string) {
	t.Helper()
	c, err := kms.Get(t.Context(), ref, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := c.SignMessage(strings.NewReader("message"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.VerifySignature(strings.NewReader(string(sig)), strings.NewReader("message")); err != nil {
		t.Error(err)
	}
	if err := c.VerifySignature(strings.NewReader(string(sig)), strings.NewReader("massage")); err == nil {
		t.Error("a signature of another message verifies")
	}
}

func TestParseRef(t *testing.T) {
	for ref, want := range map[string]keyRef{
		"token=a;object=b":                        {token: "a", object: "b"},
		"pkcs11://object=b%20c;id=%00%ff;token=a": {token: "a", object: "b c", id: "\x00\xff"},
		"token=a;object=b?module-path=/usr/lib/x": {token: "a", object: "b", module: "/usr/lib/x"},
	} {
		if got, err := parseRef(ref); err != nil || got != want {
			t.Errorf("%q: %+v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"", "token=a", "object=b", "token=a;object=b;", "token=a;object=b;object=c", "token=a;object=", "token=a;object=%zz", "token=a;object=b;pin-value=1", "token=a;object=b?pin-source=x", "tpm://81010001"} {
		if _, err := parseRef(ref); err == nil {
			t.Errorf("%q: accepted", ref)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("token=a;object=b;id=%01?module-path=/x")
	f.Fuzz(func(t *testing.T, ref string) {
		if r, err := parseRef(ref); err == nil && (r.token == "" || r.object == "") {
			t.Errorf("%q: %+v", ref, r)
		}
	})
}

// The pair that Create makes is one that the token never gives out.
func privateKeyIsKept(t *testing.T, module, label string) {
	t.Helper()
	out, err := exec.Command(testtool.Need(t, "pkcs11-tool"), "--module", module, "--login", "--pin", "1234", "--token-label", "rel", "--list-objects", "--type", "privkey").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, object := range strings.Split(string(out), "Private Key Object") {
		if strings.Contains(object, label) {
			if !strings.Contains(object, "sensitive") || !strings.Contains(object, "never extractable") {
				t.Errorf("key %s: %s", label, object)
			}
			return
		}
	}
	t.Errorf("no key %s in\n%s", label, out)
}

package keylesswire_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/keylesswire"
	"tally/release"
	rt "tally/release/releasetest"
)

// A message is one object of known fields, and not larger than it may be.
func TestDecode(t *testing.T) {
	long := func(n int) string { return `{"op":"` + strings.Repeat("x", n-len(`{"op":""}`)) + `"}` }
	for in, want := range map[string]string{
		`{"op":"verify"}`:                 "",
		` {"op":"verify"} ` + "\n":        "",
		long(keylesswire.MaxMessage):      "",
		long(keylesswire.MaxMessage + 1):  "message: more than 16777216 bytes",
		``:                                "EOF",
		`{"op":`:                          "unexpected EOF",
		`{"op":1}`:                        "cannot unmarshal",
		`{"op":"verify","unknown":1}`:     `unknown field "unknown"`,
		`{"op":"verify"}{"op":"seal"}`:    "data after its end",
		`{"op":"verify"}]`:                "data after its end",
		`{"op":"verify","bundle":"not*"}`: "illegal base64",
	} {
		var q keylesswire.Request
		err := keylesswire.Decode(strings.NewReader(in), &q)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", in, err, want)
		}
	}
}

// program puts a shell script in the place of tally-keyless.
func program(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keylesswire.Program), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// What the program says is an answer only when it is one.
func TestAsk(t *testing.T) {
	w := rt.New(t)
	b, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	verify := func() (*release.Certified, error) { return keylesswire.Verifier{}.VerifyCertificate(b, []byte("root")) }
	const drain = "cat >/dev/null\n"
	for script, want := range map[string]string{
		drain + `echo '{"certified":{"issuer":"https://a.example","subject":"b","signed":"2026-01-01T00:00:00Z","certificate_logged":true}}'`: "",
		drain + `echo '{"error":"the certificate is not good"}'`:                                                                              "the certificate is not good",
		drain + `echo '{"certified":{"issuer":"a"},"error":"no"}'`:                                                                            "no",
		drain + `echo '{}'`: "tally-keyless: reply: says nothing about the certificate",
		drain + `echo '{"certified":{"issuer":"a"},"more":1}'`: `tally-keyless: reply: json: unknown field "more"`,
		drain + `echo '{"certified":{"issuer":"a"}}'; exit 3`:  "tally-keyless: exit status 3: ",
		drain + `echo broken >&2; exit 1`:                      "tally-keyless: exit status 1: broken",
		drain:                                                  "tally-keyless: reply: EOF",
		drain + "yes":                                          fmt.Sprintf("tally-keyless: more than %d bytes: ", keylesswire.MaxMessage),
		drain + "yes >&2":                                      fmt.Sprintf("tally-keyless: more than %d bytes: y", keylesswire.MaxMessage),
		`grep -q '"op":"verify","bundle":"[A-Za-z0-9+/=]*","trusted_root":"cm9vdA=="' && echo '{"error":"as asked"}'`: "as asked",
	} {
		program(t, script)
		c, err := verify()
		switch {
		case want == "" && (err != nil || c.Issuer != "https://a.example" || c.Subject != "b" || !c.Logged || c.Signed.IsZero()):
			t.Errorf("%q: %+v, %v", script, c, err)
		case want != "" && (err == nil || c != nil || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 700):
			t.Errorf("%q: %+v, %.900v, want %q", script, c, err, want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := verify(); err == nil || !strings.Contains(err.Error(), "neither beside tally nor on PATH") {
		t.Errorf("no program: %v", err)
	}
}

// What lies beside the running program goes before PATH; a directory of that name does not.
func TestBeside(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(self), keylesswire.Program)
	program(t, `cat >/dev/null; echo '{"error":"on PATH"}'`)
	ask := func() string {
		_, err := keylesswire.Ask(t.Context(), keylesswire.Request{Op: "verify"})
		return fmt.Sprint(err)
	}
	if got := ask(); got != "on PATH" {
		t.Error(got)
	}
	if err := os.Mkdir(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != "on PATH" {
		t.Errorf("a directory beside: %s", got)
	}
	if err := os.Remove(beside); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(beside, []byte("#!/bin/sh\ncat >/dev/null; echo '{\"error\":\"beside\"}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(beside)
	if got := ask(); got != "beside" {
		t.Error(got)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"tally/internal/petest"
	"tally/release/sign"
)

// tinyKernel is a kernel in form: an EFI application that does nothing.
func tinyKernel() string { return string(petest.EFI(".text", "kernel")) }

// mkstubCmd is `mkstub FILE`: a stub in form, to which a build appends its sections.
func mkstubCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkstub FILE")
	}
	const sbat = "sbat,1,SBAT Version,sbat,1,https://example.org/\nstub,1,Test,stub,1,https://example.org/\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), petest.EFI(".text", "stub", ".sbat", sbat), 0o644))
}

// payloadCmd is `payload BUNDLE FILE`: writes what the bundle's envelope signs.
func payloadCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: payload BUNDLE FILE")
	}
	var b struct {
		DSSEEnvelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &b))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.DSSEEnvelope.Payload, 0o644))
}

// claimwireCmd is `claimwire BUNDLE KEY FILE`: writes the bundle of a release that says, signed by KEY, that its enclave is
// reached by another wire, too.
func claimwireCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: claimwire BUNDLE KEY FILE")
	}
	s, _, err := parseStatement([]byte(ts.ReadFile(args[0])), args[0])
	ts.Check(err)
	key, err := sign.ParseKey([]byte(ts.ReadFile(args[1])), []byte(ts.Getenv("COSIGN_PASSWORD")))
	ts.Check(err)
	s.Predicate.Wires = []string{"confer"}
	s.Predicate.Release.Sequence++
	b, err := sign.Sign(s, key)
	ts.Check(err)
	data, err := b.Marshal()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), data, 0o644))
}

// cancelCmd is `cancel WORDS tally ARGS…`: runs the command in this process, interrupted as soon as it says WORDS, and wants
// what an interruption is: exit code 1, nothing on stdout. Names in ARGS are absolute.
func cancelCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: cancel WORDS tally ARGS...")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var stdout bytes.Buffer
	said := &cancelWriter{words: args[0], cancel: cancel}
	code := Main(ctx, args[1:], strings.NewReader(""), &stdout, said)
	if code != exitFailed || stdout.Len() > 0 || ctx.Err() == nil {
		ts.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout.String(), said.all.String())
	}
}

type cancelWriter struct {
	words  string
	cancel func()
	all    bytes.Buffer
}

func (w *cancelWriter) Write(b []byte) (int, error) {
	w.all.Write(b)
	if strings.Contains(w.all.String(), w.words) {
		w.cancel()
	}
	return len(b), nil
}

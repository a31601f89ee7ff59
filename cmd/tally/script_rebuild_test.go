package main

import (
	"encoding/json"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"tally/internal/petest"
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

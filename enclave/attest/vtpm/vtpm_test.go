package vtpm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/appraise/tpm"
	"tally/enclave/attest/vtpm"
	"tally/enclave/evidence"
	"tally/internal/testtool"
	"tally/measure"
)

// softTPM is a software TPM that nobody but the host answers for.
func softTPM(t *testing.T) transport.TPM {
	t.Helper()
	bin := testtool.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "tally-vtpm-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "s")
	cmd := exec.Command(bin, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+sock, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); os.RemoveAll(dir) })
	for range 500 {
		if c, err := net.Dial("unix", sock); err == nil {
			t.Cleanup(func() { c.Close() })
			return transport.FromReadWriter(c)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm does not answer")
	return nil
}

func extend(t *testing.T, dev transport.TPM, pcr uint32, what string) {
	t.Helper()
	sum := sha256.Sum256([]byte(what))
	_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: sum[:]}}}}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
}

// extended is a PCR that began as zeros and took one measurement.
func extended(what string) []byte {
	sum := sha256.Sum256([]byte(what))
	v := sha256.Sum256(append(make([]byte, 32), sum[:]...))
	return v[:]
}

// TestQuote runs the attester on a software TPM, and the appraisal on what it says.
func TestQuote(t *testing.T) {
	dev := softTPM(t)
	for pcr, what := range map[uint32]string{0: "firmware", 2: "drivers", 4: "boot", 11: "uki"} {
		extend(t, dev, pcr, what)
	}
	a, err := vtpm.New(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var _ enclave.Attester = a
	c := evidence.Claims{Authority: "default", Static: [32]byte{1}, Epoch: 1, NotBefore: 1, NotAfter: 2}
	report, end, err := a.Attest(t.Context(), c.ReportData())
	if err != nil || end != nil {
		t.Fatal(err)
	}
	doc, err := (&evidence.Document{Platform: a.Platform(), Claims: c, Report: report}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	rv := &measure.ReferenceValues{Name: "minimal", Version: "1"}
	for _, n := range []int{4, 5, 7, 9, 11, 12, 13} {
		v := measure.Value{Platform: measure.Platform{Name: "q", TEE: "vtpm"}, Register: fmt.Sprintf("pcr%d", n), Digest: make([]byte, 32)}
		switch n {
		case 4:
			v.Digest = extended("boot")
		case 11:
			v.Digest, v.Covers = extended("uki"), []measure.Part{measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot}
		}
		rv.Values = append(rv.Values, v)
	}
	in := appraise.Input{Document: doc, Static: c.Static, Authority: "default", Reference: rv, Now: time.Unix(1767225600, 0)}
	p := appraise.Policy{Platforms: []string{vtpm.Platform}, Freshness: appraise.FreshNone,
		VTPM: &appraise.VTPM{PCR0: []string{fmt.Sprintf("%x", extended("firmware"))}, PCR2: []string{fmt.Sprintf("%x", extended("drivers"))}}}
	r, err := appraise.Appraise(in, p)
	if err != nil || !r.Accepted || !r.Insecure {
		t.Fatalf("%v", err)
	}
	for _, k := range r.Checks {
		if k.Note != "vtpm-unendorsed, insecure: the host can forge this" {
			t.Errorf("check %q without the note", k.Name)
		}
	}
	refused(t, "another firmware", in, appraise.Policy{Platforms: p.Platforms, Freshness: appraise.FreshNone, VTPM: &appraise.VTPM{PCR0: p.VTPM.PCR2, PCR2: p.VTPM.PCR2}}, appraise.BadMeasurement, "want pcr0")
	refused(t, "no policy", in, appraise.Policy{Platforms: p.Platforms, Freshness: appraise.FreshNone, VTPM: &appraise.VTPM{}}, appraise.PolicyEmpty, "pcr0")
	// A host that hands the stub a command line or a credential moves PCR 12.
	extend(t, dev, 12, "a credential")
	if report, _, err = a.Attest(t.Context(), c.ReportData()); err != nil {
		t.Fatal(err)
	}
	if in.Document, err = (&evidence.Document{Platform: a.Platform(), Claims: c, Report: report}).Marshal(); err != nil {
		t.Fatal(err)
	}
	refused(t, "PCR 12", in, p, appraise.BadMeasurement, "want pcr12 0000")
	corrupted(t, report)
}

func refused(t *testing.T, name string, in appraise.Input, p appraise.Policy, reason appraise.Reason, words string) {
	t.Helper()
	r, err := appraise.Appraise(in, p)
	var e *appraise.Error
	if !errors.As(err, &e) || r.Reason != reason || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %q, %v; want %q with %q", name, r.Reason, err, reason, words)
	}
}

// corrupted flips a bit of each byte of evidence and cuts it at each: none is accepted.
func corrupted(t *testing.T, report []byte) {
	t.Helper()
	if _, err := tpm.Verify(report); err != nil {
		t.Fatal(err)
	}
	for i := range report {
		b := bytes.Clone(report)
		b[i] ^= 1 << (i % 8)
		if _, err := tpm.Verify(b); err == nil {
			t.Errorf("byte %d of %d: accepted", i, len(report))
		}
		if _, err := tpm.Verify(report[:i]); err == nil {
			t.Errorf("%d of %d bytes: accepted", i, len(report))
		}
	}
	if _, err := tpm.Verify(append(bytes.Clone(report), 0)); err == nil {
		t.Error("a byte more: accepted")
	}
	if _, err := tpm.Verify(make([]byte, tpm.MaxEvidence+1)); err == nil {
		t.Error("oversize: accepted")
	}
}

package e2e

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
)

var (
	pcrLine = regexp.MustCompile(`pcr(\d+) sha256 ([0-9a-f]{64})`)
	logLine = regexp.MustCompile(`tally-enclave: eventlog ([0-9A-Za-z+/=]+)`)
)

// TestPredictedPCRs boots the image with OVMF and a software TPM and compares every register that
// `tally measure pcr` predicts from files with what the guest read from its TPM, and then every event behind
// them with the guest's own event log.
func TestPredictedPCRs(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	testtool.Need(t, qemu.TPMBinary)
	predicted := map[string]string{}
	for _, m := range pcrLine.FindAllStringSubmatch(l.tallyMust(t, "measure", "pcr", "--uki", filepath.Join(l.out, "uki.efi"), "--disk", filepath.Join(l.out, "disk.raw"),
		"--ovmf", filepath.Join(l.out, "firmware", "ovmf.fd"), "--machine", "q35"), -1) {
		predicted[m[1]] = m[2]
	}
	if len(predicted) != 14 {
		t.Fatalf("%d registers predicted, want 14", len(predicted))
	}
	out, err := exec.Command(l.tally, "run", l.out, "--tpm", "--accel", "tcg", "--until-serving").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := 0
	for _, m := range pcrLine.FindAllStringSubmatch(string(out), -1) {
		want, ok := predicted[m[1]]
		if !ok {
			continue // 1 and 10: not predicted
		}
		seen++
		if m[2] != want {
			t.Errorf("PCR %s: the TPM holds %s, predicted %s", m[1], m[2], want)
		}
	}
	if seen != len(predicted) {
		t.Errorf("the guest printed %d of %d registers:\n%s", seen, len(predicted), strings.TrimSpace(string(out)))
	}
	compareEvents(t, l, string(out))
	compareReferenceValues(t, l, string(out))
}

// compareReferenceValues measures the image for a machine with a TPM and compares each value with the guest's
// register.
func compareReferenceValues(t *testing.T, l *line, console string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"disk.raw", "vmlinuz", "initrd", "cmdline", "uki.efi", "manifest.json", "firmware"} {
		if err := os.Symlink(filepath.Join(l.out, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	platforms := filepath.Join(dir, "platforms.yaml")
	if err := os.WriteFile(platforms, []byte("- {name: vm, tee: vtpm, bank: sha256, secure-boot: empty, firmware: ovmf, machine: q35}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for _, m := range pcrLine.FindAllStringSubmatch(console, -1) {
		held[m[1]] = m[2]
	}
	values := regexp.MustCompile(`(?m)^vm pcr(\d+) sha256 ([0-9a-f]{64}) `).FindAllStringSubmatch(l.tallyMust(t, "measure", "image", dir, "--platforms", platforms), -1)
	if len(values) != 8 {
		t.Errorf("%d values, want those of PCR 0, 4, 5, 7, 9, 11, 12 and 13", len(values))
	}
	for _, v := range values {
		if held[v[1]] != v[2] {
			t.Errorf("PCR %s: reference value %s, the TPM held %s", v[1], v[2], held[v[1]])
		}
	}
	l.tallyMust(t, "measure", "verify", filepath.Join(dir, "reference-values.json"))
}

// compareEvents takes the event log from a guest's console and lets `tally measure pcr --log` judge it.
func compareEvents(t *testing.T, l *line, console string) {
	t.Helper()
	var text strings.Builder
	for _, m := range logLine.FindAllStringSubmatch(console, -1) {
		text.WriteString(m[1])
	}
	data, err := base64.StdEncoding.DecodeString(text.String())
	if err != nil || len(data) < 5000 {
		t.Fatalf("event log of %d bytes, %v\n%s", len(data), err, console)
	}
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, data, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"measure", "pcr", "--uki", filepath.Join(l.out, "uki.efi"), "--disk", filepath.Join(l.out, "disk.raw"),
		"--ovmf", filepath.Join(l.out, "firmware", "ovmf.fd"), "--machine", "q35", "--log", log}
	for _, bank := range []string{"sha1", "sha256", "sha384"} {
		out, err := exec.Command(l.tally, append(args, "--bank", bank)...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", bank, err, out)
		}
	}
	// The same log is not that of a machine with another form of SecureBoot: the comparison can fail.
	out, err := exec.Command(l.tally, append(args, "--secure-boot", "zero")...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "pcr7 differs at its event 1") {
		t.Errorf("planted difference: %v\n%s", err, out)
	}
}

package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
)

var pcrLine = regexp.MustCompile(`pcr(\d+) sha256 ([0-9a-f]{64})`)

// TestPredictedPCRs boots the image with OVMF and a software TPM and compares every register that
// `tally measure pcr` predicts from files with what the guest read from its TPM.
func TestPredictedPCRs(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	testtool.Need(t, qemu.TPMBinary)
	predicted := map[string]string{}
	for _, m := range pcrLine.FindAllStringSubmatch(l.tallyMust(t, "measure", "pcr", "--uki", filepath.Join(l.out, "uki.efi"), "--disk", filepath.Join(l.out, "disk.raw")), -1) {
		predicted[m[1]] = m[2]
	}
	if len(predicted) != 13 {
		t.Fatalf("%d registers predicted, want 13", len(predicted))
	}
	out, err := exec.Command(l.tally, "run", l.out, "--tpm", "--accel", "tcg", "--until-serving").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := 0
	for _, m := range pcrLine.FindAllStringSubmatch(string(out), -1) {
		want, ok := predicted[m[1]]
		if !ok {
			continue // 0, 1 and 10: not predicted
		}
		seen++
		if m[2] != want {
			t.Errorf("PCR %s: the TPM holds %s, predicted %s", m[1], m[2], want)
		}
	}
	if seen != len(predicted) {
		t.Errorf("the guest printed %d of %d registers:\n%s", seen, len(predicted), strings.TrimSpace(string(out)))
	}
}

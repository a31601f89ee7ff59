package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestQuoteGPUManifests: the names are those under which the vendor's service gave the manifests that are vectors here, and which the vendor's
// samples have. Of Blackwells none was published: those are made as the vendor's SDK makes them.
func TestQuoteGPUManifests(t *testing.T) {
	const sdk = "attestation-sdk/"
	for report, want := range map[string]string{
		"nvtrust/hopperAttestationReport.txt hopperCertChain.txt":                 "NV_GPU_DRIVER_GH100_550.90.07 NV_GPU_VBIOS_1010_0200_882_96009F0001",
		"go-nvtrust/attestationReport.txt gpuAkCertChain.txt":                     "NV_GPU_DRIVER_GH100_545.00 NV_GPU_VBIOS_1010_0200_882_96005E0001",
		sdk + "gpu/hopperAttestationReport.txt hopperCertChain.txt":               "NV_GPU_DRIVER_GH100_535.86.09 NV_GPU_VBIOS_1010_0200_882_96005E0001",
		sdk + "switchAttestationReport.txt switchCertChain.txt":                   "NV_SWITCH_BIOS_5612_0002_890_9610550001",
		sdk + "gpu/blackwellAttestationReport.txt blackwellCertChain.txt":         "NV_GPU_CC_DRIVER_GB100_575.32 NV_GPU_VBIOS_G525_0220_886_970088000F",
		sdk + "gpu/hopperAttestationReportExpired.txt hopperCertChainExpired.txt": "NV_GPU_DRIVER_GH100_570.124.03 NV_GPU_VBIOS_1010_0205_862_96005E0004",
	} {
		name, chain, _ := strings.Cut(report, " ")
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "chain.pem"), gpuVector(t, filepath.Join(filepath.Dir(name), chain)), 0o644); err != nil {
			t.Fatal(err)
		}
		code, out, talk := quoteGPU("show", gpuVectors+name, "--collateral", dir, "--json")
		var a struct{ Devices []gpuShown }
		if err := json.Unmarshal([]byte(out), &a); err != nil || code != 0 || len(a.Devices) != 1 || strings.Join(a.Devices[0].RIMs, " ") != want {
			t.Errorf("%s: exit %d, %s%v, want %s\n%.400s", name, code, talk, err, want, out)
		}
		_, out, _ = quoteGPU("show", gpuVectors+name, "--collateral", dir)
		for _, n := range strings.Fields(want) {
			if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool { return slices.Equal(strings.Fields(line), []string{"manifest", n}) }) {
				t.Errorf("%s: no line of manifest %s", name, n)
			}
		}
	}
	if got := withName(nil, "NV", ""); got != nil {
		t.Errorf("a part is missing: %q", got)
	}
	if got := withName(nil, "NV", "a\x1b[2J"); got != nil {
		t.Errorf("a part that is not to be printed: %q", got)
	}
}

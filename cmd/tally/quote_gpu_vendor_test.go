package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// gpuVectors are files of the vendor and of others.
const gpuVectors = "../../enclave/appraise/gpu/testdata/vectors/"

func gpuVector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(gpuVectors + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// gpuDevice is a sample report with its chain, as the vendor's tools write it.
func gpuDevice(t *testing.T, arch, report, chain string) map[string]string {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimSpace(string(gpuVector(t, report))))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"arch": arch, "certificate": base64.StdEncoding.EncodeToString(gpuVector(t, chain)),
		"evidence": base64.StdEncoding.EncodeToString(b), "nonce": hex.EncodeToString(b[4:36])}
}

// TestQuoteGPUVendor: whoever has the vendor's samples as files is told of each what is wrong with it, in text and in JSON. All manifests are
// pinned, so that nothing but what they are made for keeps them out. Where a sample cannot show what its name says, that stands beside it.
func TestQuoteGPUVendor(t *testing.T) {
	const sdk, complete, production = "attestation-sdk/", "complete", "production"
	rims := map[string][]string{
		complete:   {"nvtrust/Driver_RIM_test_no_gpu.swidtag", "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag"},
		production: {"go-nvattest-tools/rim/NV_GPU_DRIVER_GH100_550.90.07.xml", "go-nvattest-tools/rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"},
	}
	gpu := gpuDevice(t, "HOPPER", "go-nvtrust/attestationReport.txt", "go-nvtrust/gpuAkCertChain.txt")
	ls10 := gpuDevice(t, "LS10", sdk+"switchAttestationReport.txt", sdk+"switchCertChain.txt")
	h100 := gpuDevice(t, "HOPPER", "nvtrust/hopperAttestationReport.txt", "nvtrust/hopperCertChain.txt")
	old := gpuDevice(t, "HOPPER", sdk+"gpu/hopperAttestationReport.txt", sdk+"gpu/hopperCertChain.txt")
	expired := gpuDevice(t, "HOPPER", sdk+"gpu/hopperAttestationReportExpired.txt", sdk+"gpu/hopperCertChainExpired.txt")
	invalid := gpuDevice(t, "HOPPER", sdk+"gpu/hopperAttestationReportInvalidSignature.txt", sdk+"gpu/hopperCertChain.txt") // its own chain is not published
	held := gpuVector(t, sdk+"hopper_evidence_cert_hold.json")
	for name, c := range map[string]struct {
		evidence any
		rims     []string
		ocsp     string
		reason   string // "": accepted
	}{
		"complete":                              {[]any{gpu}, rims[complete], "none", ""},
		"in use":                                {[]any{h100}, rims[production], "none", ""},
		"signature of a report":                 {[]any{invalid}, rims[complete], "none", "signature"},
		"signature of a switch's report":        {[]any{gpu, gpuDevice(t, "LS10", sdk+"switch/switchAttestationReportInvalidSignature.txt", sdk+"switch/switchCertChain.txt")}, rims[complete], "none", "signature"},
		"chain without a certificate":           {[]any{gpuDevice(t, "HOPPER", "go-nvtrust/attestationReport.txt", "go-nvtrust/invalidCertChain.txt")}, rims[complete], "none", "chain"},
		"certificate on hold, without response": {json.RawMessage(held), rims[complete], "24h", "ocsp"}, // the responder's word is not published
		"VBIOS of other measurements":           {[]any{gpu}, []string{rims[complete][0], sdk + "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml"}, "none", "measurement"},
		"driver of other measurements":          {[]any{old}, []string{sdk + "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml", rims[complete][1]}, "none", "rim-signature"}, // edited after it was signed
		"driver's signer that has ended":        {[]any{expired}, []string{sdk + "NV_GPU_DRIVER_GH100_570.124.03_expired.xml"}, "none", "rim-signature"},                            // likewise
		"driver that was changed":               {[]any{gpu}, []string{sdk + "incorrect_signature_driver_rim.xml"}, "none", "rim-missing"},                                          // of driver 550.144.03, of which no report is published
		"switch of another machine":             {[]any{gpu, ls10}, append(rims[complete], sdk+"switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"), "none", "topology"},
		"switch's manifest that was changed":    {[]any{gpu, ls10}, append(rims[complete], sdk+"NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml"), "none", "rim-signature"},
		"switch's manifest that is a GPU's":     {[]any{gpu, ls10}, append(rims[complete], sdk+"NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml"), "none", "rim-missing"},
		"switch without its GPUs":               {[]any{ls10}, rims[complete], "none", "no-devices"},
	} {
		dir := t.TempDir()
		put := func(name string, data []byte) string {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			return path
		}
		evidence, err := json.Marshal(c.evidence)
		if err != nil {
			t.Fatal(err)
		}
		var pins []string
		for i, name := range c.rims {
			data := gpuVector(t, name)
			put(fmt.Sprintf("nvidia/%d.xml", i), data)
			pins = append(pins, fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(data))))
		}
		policy := put("policy.yaml", fmt.Appendf(nil, "schema: tally.policy/v1\ngpu:\n  accept: [{family: hopper, driver: \"535.00\", vbios: \"96.00\"}, {family: ls10, vbios: \"96.10\"}]\n"+
			"  modes: [unstated, spt]\n  rims: [%s]\n  ocsp-max-age: %s\n  gpus: 1\n", strings.Join(pins, ", "), c.ocsp))
		args := []string{"verify", put("gpus.json", evidence), "--collateral", filepath.Join(dir, "nvidia"), "--policy", policy}
		code, out, talk := quoteGPU(args...)
		jcode, text, _ := quoteGPU(append(args, "--json")...)
		var a gpuAnswer
		if err := json.Unmarshal([]byte(text), &a); err != nil || a.Accepted == nil || string(a.Reason) != c.reason || jcode != code || *a.Accepted != (code == 0) || a.Verified != (code != exitUnverified) {
			t.Errorf("%s: exit %d and %d, reason %q, want %q (%v)\n%s", name, code, jcode, a.Reason, c.reason, err, text)
		}
		if (code == 0) != (c.reason == "") || !strings.Contains(out, "reason: "+c.reason+"\n") && c.reason != "" || code != 0 && strings.Count(talk, "\n") != 1 {
			t.Errorf("%s: exit %d, want reason %q\n%s%s", name, code, c.reason, talk, out)
		}
	}
}

package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestQuoteManifest: a manifest is judged without a device that needs it; the vendor's negatives are refused for what they stand for, as far as
// it was not edited into them after they were signed.
func TestQuoteManifest(t *testing.T) {
	const sdk, at, later = "attestation-sdk/", "2025-01-01T12:00:00Z", "2026-07-01T00:00:00Z"
	for name, want := range map[string]struct {
		at, reason string
		code       int
	}{
		sdk + "NV_GPU_DRIVER_GH100_550.144.03.xml":                                   {at, "", 0},
		"nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag":                       {at, "", 0},
		sdk + "incorrect_signature_driver_rim.xml":                                   {at, "rim-signature", 4},
		sdk + "incorrect_cert_chain_driver_rim.xml":                                  {later, "rim-chain", 4},
		sdk + "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml":               {later, "rim-signature", 4},
		sdk + "NV_GPU_DRIVER_GH100_570.124.03_expired.xml":                           {at, "rim-signature", 4},
		sdk + "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml":        {at, "rim-signature", 4},
		"nvtrust/1010_0200_882_96005E0001_PROD.swidtag":                              {later, "rim-expired", 4},
		"nvtrust/1010_0205_862_96005E0002_PROD.swidtag":                              {"2023-01-01T00:00:00Z", "rim-expired", 4},
		"attestation-sdk/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml": {later, "", 0},
	} {
		code, out, talk := quoteGPU("verify", gpuVectors+name, "--at", want.at, "--json")
		var a rimAnswer
		if err := json.Unmarshal([]byte(out), &a); err != nil || a.Kind != "nvidia-rim" || a.Verified == nil || *a.Verified != (want.code == 0) || a.Accepted != nil ||
			string(a.Reason) != want.reason || code != want.code || a.Manifest == nil || a.Manifest.SHA256 != fmt.Sprintf("%x", sha256.Sum256(gpuVector(t, name))) {
			t.Errorf("%s: exit %d, %s%v, want %+v\n%.300s", name, code, talk, err, want, out)
		}
		_, text, _ := quoteGPU("verify", gpuVectors+name, "--at", want.at)
		if last := strings.Contains(text, "VERIFIED"); !last || strings.Contains(text, "NOT VERIFIED  ") != (want.code != 0) || want.code != 0 && !strings.Contains(text, "reason: "+want.reason+"\n") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestQuoteManifestPolicy: with a policy a manifest is pinned, or not, and has responses.
func TestQuoteManifestPolicy(t *testing.T) {
	const name = "nvtrust/1010_0200_882_96005E0001_PROD.swidtag"
	pin := fmt.Sprintf("%x", sha256.Sum256(gpuVector(t, name)))
	dir := t.TempDir()
	for what, c := range map[string]struct{ rims, ocsp, reason string }{
		"pinned, though its signer has ended": {pin, "none", ""},
		"another is pinned":                   {strings.Repeat("a", 64), "none", "rim-unpinned"},
		"without responses":                   {pin, "24h", "ocsp"},
	} {
		policy := filepath.Join(dir, "policy.yaml")
		if err := os.WriteFile(policy, fmt.Appendf(nil, "schema: tally.policy/v1\ngpu:\n  accept: [{family: hopper, driver: \"535.00\", vbios: \"96.00\"}]\n  modes: [unstated]\n"+
			"  rims: [%q]\n  ocsp-max-age: %s\n  gpus: 1\n", c.rims, c.ocsp), 0o644); err != nil {
			t.Fatal(err)
		}
		code, out, talk := quoteGPU("verify", gpuVectors+name, "--at", "2026-07-01T00:00:00Z", "--policy", policy, "--json")
		var a rimAnswer
		if err := json.Unmarshal([]byte(out), &a); err != nil || a.Accepted == nil || *a.Accepted != (c.reason == "") || string(a.Reason) != c.reason || (code == 0) != (c.reason == "") {
			t.Errorf("%s: exit %d, %s%v\n%.300s", what, code, talk, err, out)
		}
		if c.reason == "" && !strings.Contains(out, "accepted because it is pinned") {
			t.Errorf("%s: %s", what, out)
		}
	}
}

// TestQuoteManifestFiles: show verifies nothing, and what is no manifest, or has nothing to do with one, is refused in one line.
func TestQuoteManifestFiles(t *testing.T) {
	const name = "attestation-sdk/incorrect_signature_driver_rim.xml"
	code, out, talk := quoteGPU("show", gpuVectors+name)
	if code != 0 || !strings.Contains(out, "550.144.03") || !strings.Contains(out, "measurement 40") || !strings.Contains(out, "not verified") {
		t.Errorf("show: exit %d, %s%s", code, talk, out)
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	whole := string(gpuVector(t, name))
	for what, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"cut, verify":      {[]string{"verify", put("cut.xml", whole[:len(whole)/2])}, "cut.xml: RIM: line", 4},
		"cut, show":        {[]string{"show", put("cut.xml", whole[:len(whole)/2])}, "cut.xml: RIM: line", 1},
		"huge":             {[]string{"verify", put("huge.xml", strings.Repeat("<", 3<<20))}, "huge.xml: more than", 1},
		"larger":           {[]string{"verify", put("larger.xml", strings.Repeat("<", 300000))}, "larger.xml: RIM: 300000 bytes, want at most", 4},
		"a page":           {[]string{"verify", put("page.html", "<html></html>")}, "want SoftwareIdentity", 4},
		"a nonce":          {[]string{"verify", gpuVectors + name, "--nonce", strings.Repeat("0", 64)}, "--nonce goes with a device", 2},
		"show, collateral": {[]string{"show", gpuVectors + name, "--collateral", dir}, "--collateral goes with a device", 2},
		"no collateral":    {[]string{"verify", gpuVectors + name, "--collateral", dir + "/none"}, "no such file", 1},
		"a bundle alone":   {[]string{"verify", gpuVectors + name, "--bundle", "b.json"}, "--bundle goes with --policy", 2},
		"a bare report":    {[]string{"show", gpuVectors + "nvtrust/hopperAttestationReport.txt"}, "want --collateral DIR with chain.pem", 1},
	} {
		code, _, talk := quoteGPU(c.args...)
		if code != c.code || !strings.Contains(talk, c.want) || strings.Count(talk, "\n") != 1 {
			t.Errorf("%s: exit %d, %q; want %d, %q", what, code, talk, c.code, c.want)
		}
	}
}

package policy_test

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/policy"
	"tally/release"
)

const gpuPolicy = `schema: tally.policy/v1
gpu:
  accept:
    - {family: hopper, driver: "550.90.07", vbios: "96.00.5E.00.01"}
    - {family: ls10, vbios: "96.10.55.00.01"}
  modes: [unstated, mpt]
  rims: [release, "1111111111111111111111111111111111111111111111111111111111111111"]
  ocsp-max-age: 24h
  gpus: 8
  switches: 4
`

func TestGPU(t *testing.T) {
	p, err := policy.Parse([]byte(gpuPolicy), "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	g := p.GPU.Policy([]release.RIM{{Name: "a", SHA256: release.Digest{0: 7}}})
	if g.Floors[gpu.Hopper] != (gpu.Floor{Driver: "550.90.07", VBIOS: "96.00.5E.00.01"}) || g.Floors[gpu.LS10].VBIOS != "96.10.55.00.01" || len(g.Floors) != 2 ||
		len(g.Modes) != 2 || len(g.RIMs) != 2 || g.RIMs[0][0] != 0x11 || g.RIMs[1][0] != 7 || g.UnpinnedRIM || g.NoOCSP || g.OCSPMaxAge != 24*time.Hour ||
		g.MinGPUs != 8 || g.MinSwitches != 4 || !p.GPU.FromRelease() {
		t.Errorf("%+v", g)
	}
	if p, err = policy.Parse([]byte("schema: tally.policy/v1\n"), "p", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := gpu.Verify(gpu.Input{Policy: p.GPU.Policy(nil)}); err == nil || !strings.Contains(err.Error(), "no family") {
		t.Errorf("no section: %v, want a refusal", err)
	}
}

// TestGPUAppraisal: what the section says reaches an appraisal, and nothing does without it.
func TestGPUAppraisal(t *testing.T) {
	v, err := gputest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := v.Roots()
	read := func(string) ([]byte, error) { return append(certificate(roots.Device), certificate(roots.RIM)...), nil }
	p, err := policy.Parse([]byte(strings.Replace(gpuPolicy, "switches: 4", "switches: 4\n  roots: fake.pem", 1)), "p", read)
	if err != nil {
		t.Fatal(err)
	}
	a := p.Appraisal([]release.RIM{{Name: "a", SHA256: release.Digest{0: 7}}})
	if a.GPU == nil || len(a.GPU.RIMs) != 2 || a.GPU.MinGPUs != 8 || !a.GPU.Roots.Device.Equal(roots.Device) || !a.GPU.Roots.RIM.Equal(roots.RIM) {
		t.Errorf("%+v", a.GPU)
	}
	if r, err := p.GPU.Roots(); err != nil || r != *a.GPU.Roots {
		t.Errorf("roots %v, %v", r, err)
	}
	if p, err = policy.Parse([]byte(gpuPolicy), "p", nil); err != nil || p.Appraisal(nil).GPU.Roots != nil {
		t.Errorf("no roots named: %v", err)
	}
	if r, err := p.GPU.Roots(); err != nil || r.Device.Subject.CommonName != "NVIDIA Device Identity CA" {
		t.Errorf("roots %v, %v", r, err)
	}
	if p, err = policy.Parse([]byte("schema: tally.policy/v1\n"), "p", nil); err != nil || p.Appraisal(nil).GPU != nil {
		t.Errorf("no section: %v", err)
	}
}

// TestGPULenient: what a policy leaves unchecked it has to say, and then that alone is left.
func TestGPULenient(t *testing.T) {
	text := strings.NewReplacer("ocsp-max-age: 24h", "ocsp-max-age: none", "[release, \""+strings.Repeat("1", 64)+"\"]", "[any]").Replace(gpuPolicy)
	p, err := policy.Parse([]byte(text), "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	named := []release.RIM{{Name: "a", SHA256: release.Digest{0: 7}}}
	if g := p.GPU.Policy(named); !g.NoOCSP || !g.UnpinnedRIM || g.OCSPMaxAge != 0 || len(g.RIMs) != 0 || p.GPU.FromRelease() {
		t.Errorf("%+v", g)
	}
	var none *policy.GPU
	if roots, err := none.Roots(); none.FromRelease() || err != nil || roots.Device.Subject.CommonName != "NVIDIA Device Identity CA" {
		t.Errorf("no section: %+v, %v", roots, err)
	}
}

func certificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func TestGPURefused(t *testing.T) {
	v, err := gputest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	read := func(string) ([]byte, error) { return certificate(v.Roots().RIM), nil }
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":       {"gpus: 8", "gpus: 8\n  developer-mode: true", "developer-mode"},
		"no modes":          {"  modes: [unstated, mpt]\n", "", "modes"},
		"empty modes":       {"[unstated, mpt]", "[]", "at least one"},
		"mode":              {"[unstated, mpt]", "[off]", `mode "off"`},
		"mode twice":        {"[unstated, mpt]", "[mpt, mpt]", "each once"},
		"no family":         {"family: hopper", "family: turing", `family "turing"`},
		"family twice":      {"family: ls10", "family: hopper", "each once"},
		"GPU's driver":      {`driver: "550.90.07", `, "", "driver"},
		"switch's driver":   {"{family: ls10,", `{family: ls10, driver: "1",`, "none for switches"},
		"driver version":    {"550.90.07", "550.x", "550.x"},
		"VBIOS version":     {"96.00.5E.00.01", "96.00.5G", "96.00.5G"},
		"no VBIOS":          {`, vbios: "96.10.55.00.01"`, "", "vbios"},
		"rim":               {"[release,", "[latest,", `rim "latest"`},
		"any beside others": {"[release,", "[any,", "any alone"},
		"no age":            {"  ocsp-max-age: 24h\n", "", "ocsp-max-age"},
		"age":               {"24h", "0s", `age "0s"`},
		"no GPU":            {"gpus: 8", "gpus: 0", "gpus 0"},
		"too many GPUs":     {"gpus: 8", "gpus: 33", "gpus 33"},
		"switches of -1":    {"switches: 4", "switches: -1", "switches -1"},
		"no manifests":      {"[release,", "[] #", "at least one"},
		"no age at all":     {"24h", "soon", `age "soon"`},
		"too many":          {"switches: 4", "switches: 33", "switches 33"},
		"empty accept":      {"  accept:\n    - {family: hopper, driver: \"550.90.07\", vbios: \"96.00.5E.00.01\"}\n    - {family: ls10, vbios: \"96.10.55.00.01\"}\n", "  accept: []\n", "at least one"},
		"empty rims":        {"[release, \"1111111111111111111111111111111111111111111111111111111111111111\"]", "[]", "at least one"},
		"short rim":         {"\"1111", "\"11", "rim \"11"},
		"long rim":          {"\"1111", "\"111111", "rim \"11"},
		"roots":             {"switches: 4", "switches: 4\n  roots: one.pem", "one.pem: 1 certificates, want 2"},
	} {
		text := strings.Replace(gpuPolicy, c.old, c.new, 1)
		if _, err := policy.Parse([]byte(text), "p", read); text == gpuPolicy || err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "p:") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

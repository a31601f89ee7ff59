package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/enclave/attest/insecure"
	"tally/enclave/evidence"
)

// oneFakeGPU is a GPU that an enclave has.
type oneFakeGPU struct {
	vendor *gputest.Vendor
	device *gputest.Device
	rims   [][]byte
}

func newFakeGPU(t *testing.T) *oneFakeGPU {
	t.Helper()
	v, err := gputest.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	g := &oneFakeGPU{vendor: v}
	if g.device, err = v.Device(gpu.Hopper, "550.90.07", "96.00.5E.00.01"); err != nil {
		t.Fatal(err)
	}
	for i, version := range []string{g.device.Driver, g.device.VBIOS} {
		text, err := v.RIM(gpu.Hopper, version, i)
		if err != nil {
			t.Fatal(err)
		}
		g.rims = append(g.rims, text)
	}
	return g
}

func (g *oneFakeGPU) Attest(_ context.Context, c evidence.Claims) (*enclave.GPUSet, error) {
	e, err := g.device.Evidence(gpu.Nonce(c))
	if err != nil {
		return nil, err
	}
	s := &gpu.Shipment{RIMs: g.rims}
	s.Document, err = (&gpu.Set{Driver: gpu.DriverState{ConfidentialCompute: true, GPUs: 1}, Devices: []gpu.Device{e}}).Marshal()
	return &enclave.GPUSet{Digest: gpu.SetDigest(s.Document), Ship: s.Marshal}, err
}
func (*oneFakeGPU) Serving(context.Context) error { return nil }
func (*oneFakeGPU) Changed() <-chan struct{}      { return nil }

func (g *oneFakeGPU) section(t *testing.T) string {
	t.Helper()
	rims, err := gpu.ParseRIMs(g.rims...)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("gpu:\n  accept: [{family: hopper, driver: \"550.90.07\", vbios: \"96.00.5E.00.01\"}]\n  modes: [unstated]\n  rims: [%x, %x]\n  ocsp-max-age: 1h\n  gpus: 1\n  roots: gpu.pem\n", rims[0].SHA256, rims[1].SHA256)
}

// TestConnectGPU: connect asks for the GPUs, shows each check, keeps their evidence, and verify says the same of the files. The
// OCSP responses are the client's own.
func TestConnectGPU(t *testing.T) {
	g := newFakeGPU(t)
	w := newConnectWorld(t, insecure.Attester{}, enclave.Echo{}, func(o *enclave.Options) { o.GPUs = g })
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(w.path(name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	roots := g.vendor.Roots()
	put("gpu.pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: roots.Device.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: roots.RIM.Raw})...))
	who, err := os.ReadFile(w.path("policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	good := string(who) + g.section(t)
	put("gpu.yaml", []byte(good))
	put("real.yaml", []byte(strings.Replace(good, "  roots: gpu.pem\n", "", 1)))
	put("floor.yaml", []byte(strings.Replace(good, "driver: \"550.90.07\"", "driver: \"551\"", 1)))
	if err := os.Mkdir(w.path("col"), 0o755); err != nil {
		t.Fatal(err)
	}
	all, err := g.vendor.OCSP(g.device, gputest.Good, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		put(fmt.Sprintf("col/%d.der", i), r)
	}
	code, out, talk := w.run("--policy", "{}/gpu.yaml", "--bundle", "{}/b.json", "--gpu-collateral", "{}/col", "--message", "hello", "--evidence", "{}/e.bin", "--gpus", "{}/gpus.json")
	if code != 0 || !strings.Contains(out, "gpu 0 rim-driver") || !strings.Contains(out, "developer tools off, 1 GPUs") || !strings.Contains(out, "NOT NVIDIA's") || !strings.Contains(out, `"hello"`) {
		t.Fatalf("exit %d\n%s%s", code, out, talk)
	}
	for _, c := range []struct {
		name, policy string
		more         []string
		code         int
		want         string
	}{
		{"no section", "policy.yaml", nil, 5, "section gpu is missing"},
		{"no responses", "gpu.yaml", nil, 5, "ocsp: "},
		{"the vendor's roots", "real.yaml", []string{"--gpu-collateral", "{}/col"}, 5, "chain: "},
		{"driver's floor", "floor.yaml", []string{"--gpu-collateral", "{}/col"}, 5, "rollback: "},
		{"no directory", "gpu.yaml", []string{"--gpu-collateral", "{}/none"}, 1, "none"},
		{"nothing to save", "policy.yaml", []string{"--gpus", "{}/x"}, 2, "no section gpu"},
	} {
		code, out, talk := w.run(append([]string{"--policy", "{}/" + c.policy, "--bundle", "{}/b.json", "--message", "hello"}, c.more...)...)
		if code != c.code || !strings.Contains(out+talk, c.want) || strings.Contains(out, `"hello"`) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", c.name, code, c.code, c.want, out, talk)
		}
	}
	verify := func(args ...string) (int, string) {
		var out, talk bytes.Buffer
		all := []string{"tally", "verify"}
		for _, a := range args {
			all = append(all, strings.ReplaceAll(a, "{}", w.dir))
		}
		code := Main(context.Background(), all, strings.NewReader(""), &out, &talk)
		return code, out.String() + talk.String()
	}
	base := []string{"{}/e.bin", "--policy", "{}/gpu.yaml", "--bundle", "{}/b.json", "--gpu-collateral", "{}/col"}
	if code, out := verify(append(base, "--gpus", "{}/gpus.json")...); code != 0 || !strings.Contains(out, "gpu 0 measurement") {
		t.Errorf("verify: exit %d\n%s", code, out)
	}
	if code, out := verify(base...); code != 5 || !strings.Contains(out, "want evidence of its GPUs") {
		t.Errorf("verify without the GPUs: exit %d\n%s", code, out)
	}
	quote := func(args ...string) (int, string) {
		var out, talk bytes.Buffer
		all := []string{"tally", "quote"}
		for _, a := range args {
			all = append(all, strings.ReplaceAll(a, "{}", w.dir))
		}
		code := Main(context.Background(), all, strings.NewReader(""), &out, &talk)
		return code, out.String() + talk.String()
	}
	if code, out := quote("show", "{}/gpus.json"); code != 0 || !strings.Contains(out, "HOPPER") {
		t.Errorf("quote show: exit %d\n%s", code, out)
	}
	if code, out := quote("verify", "{}/gpus.json", "--collateral", "{}/col", "--policy", "{}/gpu.yaml"); code != 0 || !strings.Contains(out, "1 devices  [under ") || strings.Count(out, ", NOT NVIDIA's]\n") != 1+strings.Count(out, "  ok  ")+strings.Count(out, "  not-checked  ") {
		t.Errorf("quote verify, with the manifests that came: exit %d\n%s", code, out)
	}
	if code, out := quote("verify", "{}/gpus.json", "--collateral", "{}/col", "--policy", "{}/gpu.yaml", "--json"); code != 0 || !strings.Contains(out, `"note": "under `) {
		t.Errorf("quote verify --json under other roots: exit %d\n%s", code, out)
	}
	if code, out := quote("verify", "{}/gpus.json"); code != 4 || !strings.Contains(out, "chain") || strings.Contains(out, "of the policy") {
		t.Errorf("quote verify under the vendor's roots: exit %d\n%s", code, out)
	}
	put("other.json", []byte(`{"schema":"tally.gpu-set/v2","set":{}}`))
	if code, out := verify(append(base, "--gpus", "{}/other.json")...); code != 5 || !strings.Contains(out, "binding: ") {
		t.Errorf("verify with another set: exit %d\n%s", code, out)
	}
}

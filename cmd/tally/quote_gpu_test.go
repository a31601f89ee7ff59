package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/releasetest"
	"tally/release/sign"
)

// TestQuoteGPURelease: a stranger with the evidence, the manifests and the release comes to a verdict without a network,
// and the manifests are those that the release names.
func TestQuoteGPURelease(t *testing.T) {
	vectors := "../../enclave/appraise/gpu/testdata/vectors/"
	world, dir := releasetest.New(t), t.TempDir()
	var named []release.RIM
	collateral := filepath.Join(dir, "nvidia")
	if err := os.Mkdir(collateral, 0o755); err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{
		"chain.pem": "go-nvtrust/gpuAkCertChain.txt", "driver.swidtag": "nvtrust/Driver_RIM_test_no_gpu.swidtag", "vbios.swidtag": "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag",
	} {
		data, err := os.ReadFile(vectors + from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(collateral, to), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(to, ".swidtag") {
			named = append(named, release.RIM{Name: to, SHA256: sha256.Sum256(data)})
		}
	}
	if named[0].Name > named[1].Name {
		named[0], named[1] = named[1], named[0]
	}
	put := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bundle := func(name string, sequence uint64, rims []release.RIM) string {
		return put(name, world.Publish(t, world.Sign(t, world.Key, sign.Options{Sequence: sequence, Claims: sign.Claims{GPURIMs: rims}})).Bundle)
	}
	both, one, no := bundle("both.json", 2, named), bundle("one.json", 3, named[:1]), bundle("no.json", 4, nil)
	put("key.pub", world.Key.Public().PEM())
	policy := put("policy.yaml", []byte("schema: tally.policy/v1\nrelease:\n  signers: [{file: key.pub}]\n  log: {vkey: \""+world.Log.String()+"\", witnesses: none}\n"+
		"gpu:\n  accept: [{family: hopper, driver: \"545.00\", vbios: \"96.00.5E.00.01\"}]\n  modes: [unstated]\n  rims: [release]\n  ocsp-max-age: none\n  gpus: 1\n"))

	for _, c := range []struct {
		bundle string
		code   int
		want   string
	}{
		{both, exitOK, "ACCEPTED"}, {one, exitAppraisal, "rim-unpinned"}, {no, exitAppraisal, "reason: policy"}, {put("none.json", []byte("{}")), exitUnverified, "reason: bundle"},
	} {
		var out, talk bytes.Buffer
		code := Main(context.Background(), []string{"tally", "quote", "verify", vectors + "go-nvtrust/attestationReport.txt", "--collateral", collateral, "--policy", policy, "--bundle", c.bundle},
			strings.NewReader(""), &out, &talk)
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit %d, want %d\n%s%s", c.bundle, code, c.code, &out, &talk)
		}
	}
}

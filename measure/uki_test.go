package measure

import (
	"crypto/sha256"
	"strings"
	"testing"

	"tally/internal/petest"
	"tally/measure/snp"
)

const ukiPlatform = `[{"name":"u","tee":"snp","vmm":"QEMU","firmware":"amdsev","kernel-hashes":true,"vcpu-type":"EPYC-v4","vcpus":[1,4],"guest-features":1,"boot":"uki"}]`

// TestUKIAsKernel: the value is that of the UKI handed over alone, and it covers what the UKI holds.
func TestUKIAsKernel(t *testing.T) {
	cmdline := "roothash=" + root
	ps, err := ParsePlatforms([]byte(ukiPlatform))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := Image(t.Context(), bootable(t, cmdline), ps)
	if err != nil {
		t.Fatal(err)
	}
	sig, _ := snp.VCPUSignature("EPYC-v4")
	hashes := snp.KernelHashes{Kernel: sha256.Sum256(petest.UKI("257.13", cmdline, "kernel", "initrd")), Initrd: snp.NoInitrd(), Cmdline: snp.HashCmdline("")}
	want, err := snp.Measure(snp.Input{VMM: snp.QEMU, Firmware: rv.Static.Firmware[0].SNP, Hashes: &hashes, VCPUs: 4, Signature: sig, Features: 1})
	if err != nil {
		t.Fatal(err)
	}
	if v := rv.Values[1]; v.Digest.String() != want.Digest.String() || len(v.Covers) != 5 || v.Profile != "snp-qemu-uki/1" {
		t.Errorf("%+v, want %s", v, want.Digest)
	}
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(data); err != nil {
		t.Error(err)
	}
	rv.Static.UKI = nil
	if err := rv.Recompute(); err == nil || !strings.Contains(err.Error(), "uki_sha256") {
		t.Errorf("without the UKI's hash: %v", err)
	}
}

func TestUKIAsKernelRefusals(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(ukiPlatform, `"kernel-hashes":true`, `"kernel-hashes":false`, 1): `boot "uki"`,
		strings.Replace(ukiPlatform, `"boot":"uki"`, `"boot":"disk"`, 1):                 `boot "disk"`,
	} {
		if _, err := ParsePlatforms([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
	ps, err := ParsePlatforms([]byte(ukiPlatform))
	if err != nil {
		t.Fatal(err)
	}
	fsys := out(t, "roothash="+root)
	add(t, fsys, "uki.efi", "uki", petest.UKI("257", "quiet", "kernel", "initrd"))
	if _, err := Image(t.Context(), fsys, ps); err == nil || !strings.Contains(err.Error(), "the image's is") {
		t.Errorf("other command line: %v", err)
	}
	if _, err := Image(t.Context(), out(t, "roothash="+root), ps); err == nil || !strings.Contains(err.Error(), `role "uki"`) {
		t.Errorf("no UKI: %v", err)
	}
}

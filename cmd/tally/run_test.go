package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/mkimage"
)

// builtOut is a directory with the names that a boot reads and nothing in them.
func builtOut(t *testing.T, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"vmlinuz": "", "initrd": "", "disk.raw": "", "cmdline": "panic=-1", "manifest.json": manifest} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRunWithoutQEMUNamesThePackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	code, stdout, stderr := run(t, "run", builtOut(t, ""), "--boot", "direct")
	want := "tally: error: qemu-system-x86_64 is not installed\ntally: hint: on Debian: apt-get install qemu-system-x86\n"
	if code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestRunFindsFirmwareInTheManifest(t *testing.T) {
	m := mkimage.Manifest{Schema: mkimage.ManifestSchema, Name: "x", Version: "1", Layout: mkimage.LayoutVersion, Platforms: json.RawMessage("[]"),
		Verity: mkimage.VerityParams{Salt: "-"}}
	manifest := func(fw ...mkimage.Firmware) string {
		m.Firmware = fw
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	two := manifest(mkimage.Firmware{Name: "ovmf", File: "firmware/ovmf.fd"}, mkimage.Firmware{Name: "amdsev", File: "firmware/amdsev.fd"})
	for _, c := range []struct{ manifest, name, file, want string }{
		{two, "", "firmware/ovmf.fd", ""},
		{two, "amdsev", "firmware/amdsev.fd", ""},
		{two, "seabios", "", `no firmware "seabios": want one of ["ovmf" "amdsev"]`},
		{manifest(), "", "", "no firmware, which a UKI boot needs"},
		{manifest(mkimage.Firmware{Name: "x", File: "../x.fd"}), "", "", "is not below"},
		{manifest(mkimage.Firmware{Name: "x", File: "/x.fd"}), "x", "", "is not below"},
		{"{}", "", "", "manifest.json: manifest: "},
	} {
		out, b := builtOut(t, c.manifest), &bootRun{}
		err := b.firmware(out, c.name)
		if c.want == "" && (err != nil || b.m.Firmware != filepath.Join(out, c.file)) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %q, %v, want %q%q", c.name, b.m.Firmware, err, c.file, c.want)
		}
	}
}

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"tally/internal/petest"
	"tally/measure"
	"tally/measure/tdx"
)

// readXZ returns what a compressed file holds.
func readXZ(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tdxReference writes the reference values of a TDX platform of two shapes and returns them.
func tdxReference(t *testing.T, path string) *measure.ReferenceValues {
	t.Helper()
	firmware := readXZ(t, "../../examples/minimal/firmware/OVMF.amdsev.fd.xz")
	shape := func(vcpus, memory, digit string) string {
		h := `"` + strings.Repeat(digit, 96) + `"`
		return `{"vcpus":` + vcpus + `,"memory":` + memory + `,"acpi":{"tables":` + h + `,"loader":` + h + `,"rsdp":` + h + `,"smbios":` + h + `}}`
	}
	ps, err := measure.ParsePlatforms([]byte(`[{"name":"t","tee":"tdx","profile":"qemu-10.2/debian-inteltdx-2026.08","firmware":"f","boot":"direct","shapes":[` + shape("1", "2048", "1") + `,` + shape("4", "4096", "4") + `]}]`))
	if err != nil {
		t.Fatal(err)
	}
	profile, err := ps[0].Profile()
	if err != nil {
		t.Fatal(err)
	}
	a := &measure.Artifacts{Name: "x", Version: "1", FirmwareBytes: firmware, Kernel: petest.Image(".text", "kernel"), InitrdFile: tdx.HashInitrd(strings.NewReader("initrd"), 6)}
	a.Cmdline = "roothash=" + strings.Repeat("1", 64)
	measured, err := tdx.ReadFirmware(firmware)
	if err != nil {
		t.Fatal(err)
	}
	a.Firmware = []measure.Firmware{{Name: "f", TDX: measured}}
	rv, err := measure.Compute(a, profile)
	if err != nil {
		t.Fatal(err)
	}
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return rv
}

// TestMatchQuoteValues: a quote of the second shape is found to be that; with another RTMR2 that register is named.
func TestMatchQuoteValues(t *testing.T) {
	dir := t.TempDir()
	values, quote := filepath.Join(dir, "values"), filepath.Join(dir, "quote")
	rv := tdxReference(t, values)
	b := make([]byte, 48+584)
	copy(b, []byte{4, 0, 2, 0, 0x81})
	for _, v := range rv.Values {
		if off, ok := map[string]int{"mrtd": 136, "rtmr0": 328, "rtmr1": 376, "rtmr2": 424, "rtmr3": 472}[v.Register]; ok && v.Platform.Shapes[0].VCPUs == 4 {
			copy(b[48+off:], v.Digest)
		}
	}
	write := func() {
		if err := os.WriteFile(quote, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	code, out, errs := run(t, "match", quote, "--values", values)
	if code != exitOK || !strings.Contains(out, "platform t, qemu-10.2/debian-inteltdx-2026.08, 4 vcpus, 4096 MiB\n") || strings.Contains(out, "unexplained") {
		t.Errorf("code %d\n%s%s", code, out, errs)
	}
	b[48+424] ^= 1
	write()
	code, out, errs = run(t, "match", quote, "--values", values)
	if code != exitDiffers || !strings.Contains(out, "rtmr2 unexplained: another command line or initrd") || !strings.Contains(errs, "do not explain rtmr2") {
		t.Errorf("code %d\n%s%s", code, out, errs)
	}
	if code, out, _ := run(t, "match", quote, "--values", values, "--ovmf", "x"); code != exitUsage || out != "" {
		t.Errorf("code %d, %s", code, out)
	}
}

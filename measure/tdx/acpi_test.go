package tdx

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// A fixture is a guest of tdx-rtmr0-fixtures.json.
type fixture struct {
	Name     string
	Metadata struct {
		Boot struct {
			CPUs   int
			Memory string
		} `json:"boot_config"`
	}
	Expected struct{ RTMR0 string }
	Events   map[string]string `json:"rtmr0_events_sha384"`
	GzipACPI string            `json:"acpi_tables_gzip_base64"`
}

func (f fixture) acpi(t testing.TB) []byte {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(f.GzipACPI)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f fixture) memory(t testing.TB) uint64 {
	t.Helper()
	var mib uint64
	if _, err := fmt.Sscanf(f.Metadata.Boot.Memory, "%dM", &mib); err != nil {
		t.Fatal(err)
	}
	return mib << 20
}

func readVector(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/" + name)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func fixtures(t testing.TB) []fixture {
	t.Helper()
	var v struct{ Fixtures []fixture }
	readVector(t, "tdx-rtmr0-fixtures.json", &v)
	if len(v.Fixtures) != 2 {
		t.Fatalf("%d fixtures, want 2", len(v.Fixtures))
	}
	return v.Fixtures
}

// TestDerivedFiles derives table-loader and rsdp of two guests from their tables.
func TestDerivedFiles(t *testing.T) {
	for _, f := range fixtures(t) {
		a, err := ReadACPI(f.acpi(t))
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		for what, b := range map[string][]byte{"acpi tables": a.Tables, "acpi table-loader": a.Loader, "acpi rsdp": a.RSDP} {
			if got := fmt.Sprintf("%x", sha512.Sum384(b)); got != f.Events[what] {
				t.Errorf("%s: %s: %s, want %s", f.Name, what, got, f.Events[what])
			}
		}
		if a.VCPUs != f.Metadata.Boot.CPUs {
			t.Errorf("%s: %d processors, want %d", f.Name, a.VCPUs, f.Metadata.Boot.CPUs)
		}
	}
}

func TestACPIRefusals(t *testing.T) {
	good := fixtures(t)[0].acpi(t)
	const facp = 8454 // RSDT at 8942
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"nothing":          {func(b []byte) []byte { return nil }, "want FACS"},
		"too big":          {func(b []byte) []byte { return make([]byte, maxACPI+1) }, "want at most"},
		"truncated":        {func(b []byte) []byte { return b[:8000] }, `byte 64: table "DSDT" of 8390 bytes, want 36 to 7936`},
		"stray":            {func(b []byte) []byte { return append(b[:8994:8994], 1, 2) }, "byte 8994: 2 stray bytes"},
		"zero length":      {func(b []byte) []byte { clear(b[68:72]); return b }, `byte 64: table "DSDT" of 0 bytes`},
		"huge":             {func(b []byte) []byte { b[71] = 0xff; return b }, "want 36 to"},
		"order":            {func(b []byte) []byte { copy(b[64:], "SSDT"); return b }, "want FACS, DSDT"},
		"unknown":          {func(b []byte) []byte { copy(b[8842:], "TPM2"); return b }, `byte 8842: table "TPM2"`},
		"twice":            {func(b []byte) []byte { copy(b[8842:], "APIC"); return b }, `byte 8842: a second table "APIC"`},
		"points elsewhere": {func(b []byte) []byte { b[facp+40]++; return b }, `table "FACP" points to 65, want 64`},
		"points to itself": {func(b []byte) []byte { binary.LittleEndian.PutUint32(b[8942+36:], 8942); return b }, `table "RSDT" points to 8942, want 8454`},
		"linked already":   {func(b []byte) []byte { b[facp+9] = 1; return b }, "the firmware has linked it"},
		"RSDT too short":   {func(b []byte) []byte { b = b[:8994]; b[8942+4] -= 4; return b[:8990] }, "RSDT of 48 bytes"},
	} {
		if a, err := ReadACPI(c.change(bytes.Clone(good))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, a != nil, err, c.want)
		}
	}
}

func FuzzReadACPI(f *testing.F) {
	for _, x := range fixtures(f) {
		f.Add(x.acpi(f)[:9700])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ReadACPI(b); err == nil && (len(a.Loader)%loaderAlign != 0 || len(a.RSDP) != rsdpSize) {
			t.Errorf("loader of %d bytes, rsdp of %d", len(a.Loader), len(a.RSDP))
		}
	})
}

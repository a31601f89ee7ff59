package measure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"tally/internal/xz"
	"tally/measure/eventlog"
	"tally/measure/pcr"
)

// unpacked reads a file of package pcr's or snp's vectors, once.
var unpacked = func() func(string) ([]byte, error) {
	var mu sync.Mutex
	all := map[string][]byte{}
	return func(name string) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if all[name] != nil {
			return all[name], nil
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r, err := xz.NewReader(f, xz.MaxDict)
		if err != nil {
			return nil, err
		}
		all[name], err = io.ReadAll(r)
		return all[name], err
	}
}()

// withFirmware is bootable with the firmware of a file under the name ovmf.
func withFirmware(t testing.TB, file string) fstest.MapFS {
	t.Helper()
	data, err := unpacked(file)
	if err != nil {
		t.Fatal(err)
	}
	fsys := bootable(t, "roothash="+root)
	addFirmware(t, fsys, "ovmf", data)
	return fsys
}

// addFirmware adds a firmware file to an image.
func addFirmware(t testing.TB, fsys fstest.MapFS, name string, data []byte) {
	t.Helper()
	file := "firmware/" + name + ".fd"
	add(t, fsys, file, "firmware", data)
	var m map[string]any
	if err := json.Unmarshal(fsys["manifest.json"].Data, &m); err != nil {
		t.Fatal(err)
	}
	m["firmware"] = append(m["firmware"].([]any), map[string]any{"name": name, "file": file})
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	fsys["manifest.json"] = &fstest.MapFile{Data: b}
}

const (
	ovmf2026 = "pcr/testdata/vectors/OVMF-2026.08.fd.xz"
	ovmf2025 = "snp/testdata/vectors/ovmf/OVMF.fd.xz"
)

// withPCR0 measures for two banks with the firmware named, and for a machine without.
func withPCR0(t testing.TB) *ReferenceValues {
	t.Helper()
	ps, err := ParsePlatforms([]byte(`[{"name":"v","tee":"vtpm","bank":"sha256","secure-boot":"empty","firmware":"ovmf"},
		{"name":"w","tee":"vtpm","bank":"sha384","secure-boot":"empty","firmware":"ovmf"},{"name":"x","tee":"vtpm","bank":"sha1","secure-boot":"empty"}]`))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := Image(t.Context(), withFirmware(t, ovmf2026), ps)
	if err != nil {
		t.Fatal(err)
	}
	return rv
}

// TestPCR0IsAValue where the firmware is named and decides it: the one that a guest's TPM held, through the file.
func TestPCR0IsAValue(t *testing.T) {
	rv := withPCR0(t)
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if rv, err = Parse(data); err != nil {
		t.Fatal(err)
	}
	if len(rv.Static.Firmware) != 1 || len(rv.Static.Firmware[0].VTPM.Digests) != 2 || rv.Static.Firmware[0].VTPM.Version != "2026.08+ds-2" {
		t.Errorf("static firmware %+v", rv.Static.Firmware)
	}
	// measure/pcr/testdata/vectors/pcr0-debian.json
	v := rv.Values[0]
	if v.Register != "pcr0" || v.Digest.String() != "c52ccebcb2f9e66ae492acf8a1d80ff26df1176c9fc52cb53bf08ffbb838069b" || fmt.Sprint(v.Covers) != "[firmware]" || v.Profile != "vtpm-uki-firmware/1" {
		t.Errorf("%+v", v)
	}
	var at []string
	for _, v := range rv.Values {
		if v.Register == "pcr0" || v.Register == "pcr4" {
			at = append(at, v.Platform.Name+" "+v.Register)
		}
	}
	if want := []string{"v pcr0", "v pcr4", "w pcr0", "w pcr4", "x pcr4"}; !slices.Equal(at, want) {
		t.Errorf("values %v, want %v", at, want)
	}
}

func TestPCR0EditsAreRefused(t *testing.T) {
	first := withPCR0(t)
	data, err := first.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ReferenceValues){
		"digest":              func(rv *ReferenceValues) { rv.Values[0].Digest[0] ^= 1 },
		"event and its value": func(rv *ReferenceValues) { rv.Values[0].Events[1].Digest[0] ^= 1; rv.Values[0].replay() },
		"no events":           func(rv *ReferenceValues) { rv.Values[0].Events = nil; rv.Values[0].replay() },
		"volume":              func(rv *ReferenceValues) { rv.Static.Firmware[0].VTPM.Digests[pcr.SHA256].PEI[0] ^= 1 },
		"release":             func(rv *ReferenceValues) { rv.Static.Firmware[0].VTPM.Version = "2026.09" },
		"control character":   func(rv *ReferenceValues) { rv.Static.Firmware[0].VTPM.Version = "\n" },
		"no digests":          func(rv *ReferenceValues) { rv.Static.Firmware[0].VTPM.Digests = nil },
		"short digest": func(rv *ReferenceValues) {
			rv.Static.Firmware[0].VTPM.Digests[pcr.SHA1] = pcr.FirmwareDigests{PEI: eventlog.Digest{1}, DXE: eventlog.Digest{2}}
		},
		"no measurement":  func(rv *ReferenceValues) { rv.Static.Firmware[0].VTPM = nil },
		"no firmware":     func(rv *ReferenceValues) { rv.Static.Firmware = []Firmware{} },
		"without PCR 0":   func(rv *ReferenceValues) { rv.Values = rv.Values[1:] },
		"coverage":        func(rv *ReferenceValues) { rv.Values[0].Covers = allParts() },
		"firmware's name": func(rv *ReferenceValues) { rv.Values[0].Platform.Firmware = "other" },
	} {
		rv, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		change(rv)
		if err := rv.Recompute(); err == nil {
			t.Errorf("%s: no error", name)
		} else if name == "event and its value" && !errors.Is(err, ErrUnfounded) {
			t.Errorf("%s: %v does not say that the value does not follow", name, err)
		}
	}
}

func TestPCR0Refusals(t *testing.T) {
	for name, c := range map[string]struct{ file, firmware, says string }{
		"changes itself": {ovmf2025, `amdsev`, `firmware/amdsev.fd: PCR 0 cannot be computed: `},
		"no machine":     {ovmf2025, `ovmf`, `firmware "ovmf", machine "": want the machine type`},
		"a machine":      {ovmf2026, `ovmf","machine":"q35`, `firmware "ovmf", machine "q35": want it absent`},
		"not there":      {ovmf2026, "other", `firmware "other" is not in the image: its manifest lists amdsev, ovmf`},
	} {
		ps, err := ParsePlatforms([]byte(`[{"name":"v","tee":"vtpm","bank":"sha256","secure-boot":"empty","firmware":"` + c.firmware + `"}]`))
		if err != nil {
			t.Fatal(err)
		}
		if rv, err := Image(t.Context(), withFirmware(t, c.file), ps); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %q", name, rv, err, c.says)
		}
	}
}

// TestPCR0OnEachMachine: of a firmware whose PCR 0 depends on the machine type there are both, through the file, and
// they are what the logs of real boots on both give.
func TestPCR0OnEachMachine(t *testing.T) {
	const platform = `{"name":"NAME","tee":"vtpm","bank":"sha256","secure-boot":"empty","firmware":"ovmf","machine":"TYPE"}`
	on := func(name, machine string) string {
		return strings.NewReplacer("NAME", name, "TYPE", machine).Replace(platform)
	}
	rv := imageValues(t, withFirmware(t, ovmf2025), on("v", "q35"), on("w", "pc"))
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if rv, err = Parse(data); err != nil {
		t.Fatal(err)
	}
	logs := map[string]string{"v": "uki-q72-trixiefw", "w": "uki-q72-pc"}
	for _, v := range rv.Values {
		if v.Register != "pcr0" {
			continue
		}
		var banks map[string]map[string]string
		held, err := os.ReadFile("eventlog/testdata/vectors/" + logs[v.Platform.Name] + ".pcrs.json")
		if err == nil {
			err = json.Unmarshal(held, &banks)
		}
		if want := banks["sha256"]["0"]; err != nil || v.Digest.String() != want || fmt.Sprint(v.Covers) != "[firmware]" {
			t.Errorf("%s: %s, the TPM held %s (%v)", v, v.Digest, want, err)
		}
		delete(logs, v.Platform.Name)
	}
	if len(logs) != 0 {
		t.Errorf("no PCR 0 of %v", logs)
	}
	for name, c := range map[string]struct{ old, new string }{
		"other machine": {`"machine": "q35"`, `"machine": "pc"`},
		"no machine":    {",\n        \"machine\": \"q35\"", ""},
		"static":        {`"pc": "`, `"isapc": "`},
		"half":          {`"pei_on"`, `"pei"`},
	} {
		bad := strings.Replace(string(data), c.old, c.new, 1)
		if bad == string(data) {
			t.Fatalf("%s: nothing replaced in\n%.2000s", name, data)
		}
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for old, says := range map[string]string{`"q35"`: `machine "microvm": want one of [pc q35]`, `"firmware":"ovmf",`: "machine: goes with firmware"} {
		bad := strings.Replace(on("v", "q35"), old, map[bool]string{true: `"microvm"`}[old == `"q35"`], 1)
		if _, err := ParsePlatforms([]byte("[" + bad + "]")); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", bad, err, says)
		}
	}
}

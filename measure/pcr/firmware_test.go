package pcr

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"tally/internal/xz"
	"tally/measure/internal/ffs"
	"tally/measure/internal/fw"
)

// Debian's OVMF of two releases.
const (
	ovmf2026 = "testdata/vectors/OVMF-2026.08.fd.xz"
	ovmf2025 = "../snp/testdata/vectors/ovmf/OVMF.fd.xz"
)

func firmware(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := xz.NewReader(f, xz.MaxDict)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A boot is one of pcr0-debian.json.
type boot struct {
	Machine string `json:"machine"`
	File    string `json:"file"`
	SHA256  string `json:"file_sha256"`
	PCR0    string `json:"pcr0_sha256"`
	Events  []struct {
		Type    uint32         `json:"type"`
		Digests map[Bank]Value `json:"digests"`
	} `json:"events"`
}

func boots(t *testing.T) []boot {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/pcr0-debian.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Boots []boot }
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v.Boots
}

// TestFirmwareOfRealBoots computes PCR 0 from the firmware's file, in every bank and event by event. The file
// is there twice: with a variable store, and the code alone.
func TestFirmwareOfRealBoots(t *testing.T) {
	whole := firmware(t, ovmf2026)
	files := map[string]*Firmware{}
	for _, image := range [][]byte{whole, whole[0x84000:]} {
		f, err := ReadFirmware(image, SHA1, SHA256, SHA384, SHA512)
		if err != nil || f.Reason() != "" || f.Version != "2026.08+ds-2" {
			t.Fatalf("%+v, %v", f, err)
		}
		sum := sha256.Sum256(image)
		files[hex.EncodeToString(sum[:])] = f
	}
	seen := 0
	for _, b := range boots(t) {
		f, ok := files[b.SHA256]
		if !ok {
			continue
		}
		seen++
		for bank := range f.Digests {
			events, err := f.Events(bank, "")
			if err != nil || len(events) != len(b.Events) {
				t.Fatalf("%s: %d events, %v; the log has %d", b.Machine, len(events), err, len(b.Events))
			}
			for i, e := range events {
				if want := b.Events[i].Digests[bank]; e.Register != "pcr0" || !bytes.Equal(e.Digest, want) {
					t.Errorf("%s: %s of %s: %s, the log has %s", b.Machine, e.What, bank, e.Digest, want)
				}
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d boots of this firmware, want 3", seen)
	}
	r, err := Boot(Input{UKI: fakeUKI("257", nil), Firmware: whole}, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if want := boots(t)[0].PCR0; r.PCRs[0].String() != want || r.Events[0].What != "CRTM version" {
		t.Errorf("PCR 0 %s, the TPM held %s", r.PCRs[0], want)
	}
	if len(r.Undecided) != 2 || r.Undecided[0].Register != "pcr1" || r.Undecided[1].Register != "pcr10" {
		t.Errorf("undecided: %+v", r.Undecided)
	}
}

// TestUndecided names what each kind of firmware lacks.
func TestUndecided(t *testing.T) {
	known := []fw.GUID{fw.ParseGUID("52c05b14-0b98-496c-bc3b-04b50211d680"), fw.ParseGUID("a0c98b77-cba5-4bb8-993b-4af6ce33ece4")}
	smm := append(slices.Clone(known), fw.ParseGUID("6c0e75b4-b0b9-44d1-8210-3377d7b4e066"))
	for _, c := range []struct {
		v    ffs.Volumes
		says string
	}{
		{ffs.Volumes{Measures: true, Version: "2026.08", Modules: known}, ""},
		{ffs.Volumes{Measures: true, Version: "2026.08+ds-2", Modules: known}, ""},
		{ffs.Volumes{Version: "2026.08", Modules: known}, "no module that measures it"},
		{ffs.Volumes{Measures: true, Modules: known}, "no string"},
		{ffs.Volumes{Measures: true, Version: "2026.081", Modules: known}, `release "2026.081"`},
		{ffs.Volumes{Measures: true, Version: "2026.11", Modules: known}, `release "2026.11"`},
		{ffs.Volumes{Measures: true, Version: "2022.11", Modules: known}, "of 2025.02, 2026.08 it is known what they do"},
		{ffs.Volumes{Measures: true, Version: "2025.02-9", Modules: known}, "no place surely known"},
		{ffs.Volumes{Measures: true, Version: "2026.08+ds-2", Modules: smm}, "PEI module 6c0e75b4-b0b9-44d1-8210-3377d7b4e066 may"},
	} {
		if got := undecided(&c.v); c.says == "" != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%q: %q, want %q", c.v.Version, got, c.says)
		}
	}
}

// TestBuildsWithSMM holds the rule of modules to the boot that showed it: the same release, another digest.
func TestBuildsWithSMM(t *testing.T) {
	var digests []string
	for _, b := range boots(t) {
		if strings.HasSuffix(b.File, "secboot.fd") {
			digests = append(digests, b.Events[0].Digests[SHA256].String(), b.Events[1].Digests[SHA256].String())
		}
	}
	// The volume of that file, unpacked by Python's lzma.
	const inFile = "7dc26c2a9bf8da46a397aa48736acb6c5af6960e03975bc20e425fb5f59c76fc"
	if len(digests) != 2 || digests[0] != "3dcd83b78f36d658fc07a513efd37e430bdb3b521053f54d16651f55a0c1fa95" || digests[1] == inFile {
		t.Errorf("release and PEI volume %v, want 2026.08+ds-2 and not %s", digests, inFile)
	}
}

func TestReadFirmwareRefuses(t *testing.T) {
	if _, err := ReadFirmware(make([]byte, 4096), SHA256); err == nil || !strings.Contains(err.Error(), "byte 0x0: no firmware volume") {
		t.Error(err)
	}
	if _, err := ReadFirmware(firmware(t, ovmf2025), "md5"); err == nil || !strings.Contains(err.Error(), `bank "md5"`) {
		t.Error(err)
	}
	for _, f := range []Firmware{{Version: "v"}, {Version: "v", Digests: map[Bank]FirmwareDigests{SHA256: {PEI: make(Value, 20), DXE: make(Value, 32)}}}} {
		if _, err := f.Events(SHA256, ""); err == nil {
			t.Errorf("%+v: no error", f)
		}
	}
	ok := map[Bank]FirmwareDigests{SHA256: {PEI: make(Value, 32), DXE: make(Value, 32)}}
	onBoth := map[Machine]Value{Q35: make(Value, 32), PC: make(Value, 32)}
	for _, d := range []map[Bank]FirmwareDigests{ok, {SHA256: {PEIOn: onBoth, DXE: make(Value, 32)}}} {
		if err := (&Firmware{Version: "v", Digests: d}).Check(); err != nil {
			t.Error(err)
		}
	}
	for _, f := range []Firmware{{Version: "", Digests: ok}, {Version: "a\n", Digests: ok}, {Version: "\u00e9", Digests: ok}, {Version: strings.Repeat("v", 129), Digests: ok},
		{Version: "v"}, {Version: "v", Digests: map[Bank]FirmwareDigests{"md5": {}}}, {Version: "v", Digests: map[Bank]FirmwareDigests{SHA256: {PEIOn: map[Machine]Value{Q35: make(Value, 32)}, DXE: make(Value, 32)}}},
		{Version: "v", Digests: map[Bank]FirmwareDigests{SHA256: {PEIOn: map[Machine]Value{Q35: make(Value, 32), "x": make(Value, 32)}, DXE: make(Value, 32)}}},
		{Version: "v", Digests: map[Bank]FirmwareDigests{SHA256: {PEI: make(Value, 32), PEIOn: onBoth, DXE: make(Value, 32)}}},
		{Version: "v", Digests: map[Bank]FirmwareDigests{SHA256: ok[SHA256], SHA1: {PEIOn: map[Machine]Value{Q35: make(Value, 20), PC: make(Value, 20)}, DXE: make(Value, 20)}}}, {Version: "v", Digests: map[Bank]FirmwareDigests{SHA384: ok[SHA256]}}} {
		if f.Check() == nil {
			t.Errorf("%+v: no error", f)
		}
	}
}

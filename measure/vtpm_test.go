package measure

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"tally/internal/petest"
	"tally/measure/eventlog"
	"tally/measure/pcr"
)

const vtpmPlatform = `[{"name":"v","tee":"vtpm","bank":"sha256","secure-boot":"empty"}]`

// bootable is out with a UKI of the same command line and a disk.
func bootable(t testing.TB, cmdline string) fstest.MapFS {
	t.Helper()
	fsys := out(t, cmdline)
	add(t, fsys, "uki.efi", "uki", petest.UKI("257.13", cmdline, "kernel", "initrd"))
	add(t, fsys, "disk.raw", "disk", gptDisk())
	return fsys
}

// add puts a file into an image and its manifest.
func add(t testing.TB, fsys fstest.MapFS, name, role string, data []byte) {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(fsys["manifest.json"].Data, &m); err != nil {
		t.Fatal(err)
	}
	m["artifacts"] = append(m["artifacts"].([]any), map[string]any{"name": name, "role": role, "sha256": fmt.Sprintf("%x", sha256.Sum256(data)), "size": len(data)})
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	fsys[name], fsys["manifest.json"] = &fstest.MapFile{Data: data}, &fstest.MapFile{Data: b}
}

// gptDisk is a disk with a partition table of one entry.
func gptDisk() []byte {
	b := make([]byte, 64<<10)
	le := binary.LittleEndian
	h := b[512:]
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	copy(b[1024:], "partition type..")
	le.PutUint32(h[88:], crc32.ChecksumIEEE(b[1024:1024+128*128]))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return b
}

func vtpmValues(t testing.TB, cmdline string) *ReferenceValues {
	t.Helper()
	ps, err := ParsePlatforms([]byte(vtpmPlatform))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := Image(t.Context(), bootable(t, cmdline), ps)
	if err != nil {
		t.Fatal(err)
	}
	return rv
}

// TestVTPMValues are what package pcr computes, with the events to compute them again, through the file.
func TestVTPMValues(t *testing.T) {
	cmdline := "roothash=" + root
	rv := vtpmValues(t, cmdline)
	r, err := pcr.Boot(pcr.Input{UKI: petest.UKI("257.13", cmdline, "kernel", "initrd"), Disk: bytes.NewReader(gptDisk()), SecureBoot: pcr.SecureBootEmpty}, pcr.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var registers []string
	for _, v := range rv.Values {
		registers = append(registers, v.Register)
		var n int
		if _, err := fmt.Sscanf(v.Register, "pcr%d", &n); err != nil || v.Digest.String() != r.PCRs[n].String() {
			t.Errorf("%s: %s, package pcr says %s", v.Register, v.Digest, r.PCRs[n])
		}
	}
	if !slices.Equal(registers, vtpmRegisters()) {
		t.Errorf("registers %v", registers)
	}
	if got := fmt.Sprint(rv.Values[0].Covers); got != "[kernel initrd cmdline root]" {
		t.Errorf("pcr4 covers %s", got)
	}
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(data); err != nil {
		t.Error(err)
	}
}

// TestBothKindsTogether: one image, an SNP and a vTPM platform.
func TestBothKindsTogether(t *testing.T) {
	snp := `{"name":"q","tee":"snp","vmm":"QEMU","firmware":"amdsev","kernel-hashes":true,"vcpu-type":"EPYC-v4","vcpus":[1,2],"guest-features":1}`
	ps, err := ParsePlatforms([]byte("[" + snp + "," + vtpmPlatform[1:]))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := Image(t.Context(), bootable(t, "roothash="+root), ps)
	if err != nil {
		t.Fatal(err)
	}
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(data); err != nil || len(again.Values) != 2+len(vtpmRegisters()) {
		t.Errorf("%v", err)
	}
}

func TestVTPMRefusals(t *testing.T) {
	good := "roothash=" + root
	for name, c := range map[string]struct {
		fsys func() fstest.MapFS
		want string
	}{
		"no uki": {func() fstest.MapFS { return out(t, good) }, `no artefact with role "uki"`},
		"other cmdline": {func() fstest.MapFS {
			f := out(t, good)
			add(t, f, "uki.efi", "uki", petest.UKI("257", "quiet", "k", "i"))
			add(t, f, "disk.raw", "disk", gptDisk())
			return f
		}, "the image's is"},
		"no root hash": {func() fstest.MapFS { return bootable(t, "quiet") }, "exactly one roothash="},
		"uki changed":  {func() fstest.MapFS { f := bootable(t, good); f["uki.efi"].Data[0] ^= 1; return f }, "uki.efi: SHA-256"},
		"disk changed": {func() fstest.MapFS { f := bootable(t, good); f["disk.raw"].Data[0] ^= 1; return f }, "disk.raw: SHA-256"},
	} {
		ps, err := ParsePlatforms([]byte(vtpmPlatform))
		if err != nil {
			t.Fatal(err)
		}
		if rv, err := Image(t.Context(), c.fsys(), ps); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, rv, err, c.want)
		}
	}
	for text, want := range map[string]string{
		strings.Replace(vtpmPlatform, `"bank":"sha256"`, `"bank":"md5"`, 1):                                `bank "md5"`,
		strings.Replace(vtpmPlatform, `"bank":"sha256",`, ``, 1):                                           "bank: missing",
		strings.Replace(vtpmPlatform, `"secure-boot":"empty"`, `"secure-boot":"on"`, 1):                    `secure-boot "on"`,
		strings.Replace(vtpmPlatform, `"secure-boot":"empty"`, `"secure-boot":"zero","vmm":"QEMU"`, 1):     `unknown key "vmm"`,
		strings.Replace(vtpmPlatform, `"secure-boot":"empty"`, `"secure-boot":"zero","phases":["a:b"]`, 1): `phase "a:b"`,
		strings.Replace(vtpmPlatform, `"secure-boot":"empty"`, `"secure-boot":"zero","firmware":""`, 1):    "firmware: empty",
		strings.Replace(vtpmPlatform, `"secure-boot":"empty"`, `"secure-boot":"zero","firmware":null`, 1):  "firmware: empty",
	} {
		if _, err := ParsePlatforms([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}

// TestVTPMEditsAreRefused changes one thing of a value and leaves the rest.
func TestVTPMEditsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*ReferenceValues){
		"digest":           func(rv *ReferenceValues) { rv.Values[0].Digest[0] ^= 1 },
		"event":            func(rv *ReferenceValues) { rv.Values[0].Events[2].Digest[0] ^= 1 },
		"coverage":         func(rv *ReferenceValues) { rv.Values[6].Covers = []Part{PartRoot} },
		"unknown part":     func(rv *ReferenceValues) { rv.Values[0].Events[0].Covers = []Part{"everything"} },
		"profile":          func(rv *ReferenceValues) { rv.Values[0].Profile = "vtpm-uki/2" },
		"mark":             func(rv *ReferenceValues) { rv.Values[0].Mark = FirmwareOnly },
		"register missing": func(rv *ReferenceValues) { rv.Values = rv.Values[1:] },
		"other register":   func(rv *ReferenceValues) { rv.Values[0].Events[0].Register = "pcr5" },
		"cmdline":          func(rv *ReferenceValues) { rv.Static.Cmdline += " quiet" },
		"short digest":     func(rv *ReferenceValues) { rv.Values[0].Events[0].Digest = eventlog.Digest{1} },
	} {
		rv := vtpmValues(t, "roothash="+root)
		change(rv)
		if err := rv.Recompute(); err == nil {
			t.Errorf("%s: no error", name)
		} else if name == "digest" && !errors.As(err, new(*MismatchError)) {
			t.Errorf("%s: %v is no mismatch", name, err)
		} else if (name == "digest" || name == "cmdline") && !errors.Is(err, ErrUnfounded) {
			t.Errorf("%s: %v does not say that the value does not follow", name, err)
		}
	}
}

// TestVTPMCmdline: the events that fix the command line are found by what enters the registers, not by what they are
// called.
func TestVTPMCmdline(t *testing.T) {
	sum := func(s string) eventlog.Digest { d := sha256.Sum256([]byte(s)); return d[:] }
	wide := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			b.WriteString(s[i:i+1] + "\x00")
		}
		return b.String() + "\x00\x00"
	}
	value := func(rv *ReferenceValues, register string) *Value {
		return &rv.Values[slices.IndexFunc(rv.Values, func(v Value) bool { return v.Register == register })]
	}
	claim := "roothash=" + strings.Repeat("c", 64)
	for name, c := range map[string]struct {
		register string
		change   func(*Value)
	}{
		"PCR 11: another section's text": {"pcr11", func(v *Value) {
			for i, e := range v.Events {
				if e.What == ".cmdline (content)" {
					v.Events[i].What = ".osrel (content)"
				}
			}
			v.Events = append(v.Events, eventlog.Event{Register: "pcr11", What: ".osrel (name)", Digest: sum(".osrel\x00")},
				eventlog.Event{Register: "pcr11", What: ".cmdline (content)", Digest: sum(claim), Covers: []Part{PartCmdline}})
		}},
		"PCR 11: twice": {"pcr11", func(v *Value) {
			v.Events = append(v.Events, eventlog.Event{Register: "pcr11", What: "x", Digest: sum(".cmdline\x00")}, eventlog.Event{Register: "pcr11", What: "x", Digest: sum(claim)})
		}},
		"PCR 11: none":   {"pcr11", func(v *Value) { v.Events = v.Events[:1] }},
		"PCR 11: empty":  {"pcr11", func(v *Value) { v.Events = nil }},
		"PCR 9: another": {"pcr9", func(v *Value) {}},
		"PCR 9: empty":   {"pcr9", func(v *Value) { v.Events = nil }},
	} {
		rv := vtpmValues(t, "roothash="+root)
		rv.Static.Cmdline = claim
		if c.register == "pcr9" { // PCR 11 comes behind it
			v := value(rv, "pcr11")
			v.Events[slices.IndexFunc(v.Events, func(e eventlog.Event) bool { return e.What == ".cmdline (content)" })].Digest = sum(claim)
		} else {
			value(rv, "pcr9").Events[0].Digest = sum(wide(claim))
		}
		c.change(value(rv, c.register))
		for _, r := range []string{"pcr9", "pcr11"} {
			if err := value(rv, r).replay(); err != nil {
				t.Fatal(err)
			}
		}
		if err := rv.Recompute(); !errors.Is(err, ErrUnfounded) || !strings.Contains(err.Error(), c.register+": the command line's event") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestProfiles: each name once, each with its backing and source, and every platform has one.
func TestProfiles(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Profiles() {
		if seen[p.Name] || p.Version < 1 || p.Source == "" || len(p.Covers) == 0 || len(p.Registers) == 0 {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if !slices.Contains([]Backing{HardwareReport, RealBoot, PeerTool, SourceReading}, p.Backing) {
			t.Errorf("%s: backing %q", p.Name, p.Backing)
		}
		if only := slices.Equal(p.Covers, []Part{PartFirmware}); only != (p.Mark == FirmwareOnly) {
			t.Errorf("%s covers %v, mark %q", p.Name, p.Covers, p.Mark)
		}
	}
	if _, err := (Platform{}).Profile(); err == nil {
		t.Error("the zero platform has a profile")
	}
	if _, err := Compute(&Artifacts{}, Profile{}); err == nil {
		t.Error("the zero profile computes")
	}
}

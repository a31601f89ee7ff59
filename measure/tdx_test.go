package measure

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/petest"
	"tally/measure/eventlog"
	"tally/measure/tdx"
)

// tdxPlatform is a platform of two shapes, with digests that stand for ACPI files.
func tdxPlatform(boot, rules string) string {
	h := func(s string) string { return fmt.Sprintf("%x", sha512.Sum384([]byte(s))) }
	acpi := func(n string) string {
		return fmt.Sprintf(`{"tables":%q,"loader":%q,"rsdp":%q,"smbios":%q}`, h("t"+n), h("l"+n), h("r"+n), h("s"+n))
	}
	slot := ""
	if boot == "uki" {
		slot = `,"disk-slot":"1.0"`
	}
	return fmt.Sprintf(`[{"name":"t","tee":"tdx","profile":%q,"firmware":"amdsev","boot":%q%s,"shapes":[{"vcpus":1,"memory":2048,"acpi":%s},{"vcpus":4,"memory":4096,"acpi":%s}],"rtmr3":[%q]}]`,
		rules, boot, slot, acpi("1"), acpi("4"), h("app"))
}

const tdxRulesDirect = "qemu-10.2/debian-inteltdx-2026.08"

func tdxValues(t testing.TB, platform, cmdline string) *ReferenceValues {
	t.Helper()
	ps, err := ParsePlatforms([]byte(platform))
	if err != nil {
		t.Fatal(err)
	}
	kernel := string(petest.Image(".text", "kernel"))
	fsys := outOf(t, kernel, "initrd", cmdline)
	add(t, fsys, "uki.efi", "uki", petest.UKI("257.13", cmdline, kernel, "initrd"))
	add(t, fsys, "disk.raw", "disk", gptDisk())
	rv, err := Image(t.Context(), fsys, ps)
	if err != nil {
		t.Fatal(err)
	}
	return rv
}

// TestTDXValues are what package tdx computes, one value a shape and register, through the file.
func TestTDXValues(t *testing.T) {
	cmdline := "roothash=" + root
	for _, boot := range []string{"direct", "uki"} {
		rv := tdxValues(t, tdxPlatform(boot, tdxRulesDirect), cmdline)
		data, err := rv.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", boot, err)
		}
		if d := cmp.Diff(rv, again); d != "" {
			t.Errorf("%s: %s", boot, d)
		}
		if len(rv.Values) != 10 {
			t.Fatalf("%s: %d values, want 5 registers of 2 shapes", boot, len(rv.Values))
		}
		var covers []Part
		for i, v := range rv.Values[:5] {
			if v.Register != tdxRegisters[i] || v.Profile != "tdx-qemu-"+boot+"/1" {
				t.Errorf("%s: value %d is %s of %s", boot, i, v.Register, v.Profile)
			}
			for _, p := range v.Covers {
				if !slices.Contains(covers, p) {
					covers = append(covers, p)
				}
			}
		}
		if len(covers) != 5 {
			t.Errorf("%s: all registers together cover %v", boot, covers)
		}
		b := amdsev(t)
		m, err := tdx.Measure(bytes.NewReader(b), int64(len(b)), tdx.SinglePass)
		if err != nil {
			t.Fatal(err)
		}
		if rv.Values[0].Digest.String() != m.Digest.String() {
			t.Errorf("%s: mrtd %s, want %s", boot, rv.Values[0].Digest, m.Digest)
		}
		same := func(i int) bool { return rv.Values[i].Digest.String() == rv.Values[i+5].Digest.String() }
		if !same(0) || same(1) || !same(2) || !same(3) || !same(4) {
			t.Errorf("%s: want the shapes to differ in rtmr0 alone", boot)
		}
	}
}

// TestTDXEditsAreRefused edits a file of reference values in each way that its inputs contradict.
func TestTDXEditsAreRefused(t *testing.T) {
	data, err := tdxValues(t, tdxPlatform("direct", tdxRulesDirect), "roothash="+root).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	h := func(s string) string { return fmt.Sprintf("%x", sha512.Sum384([]byte(s))) }
	for name, c := range map[string]struct{ old, new, want string }{
		"memory":      {`"memory": 2048`, `"memory": 2049`, "value 0 (t)"},
		"vcpus":       {`"vcpus": 4`, `"vcpus": 5`, "value 0 (t)"},
		"ACPI":        {h("t1"), h("t2"), "value 0 (t)"},
		"rtmr3":       {h("app"), h("other"), "value 0 (t)"},
		"cmdline":     {`"cmdline": "roothash=`, `"cmdline": "quiet roothash=`, `no event "load options"`},
		"firmware":    {`"gpa": 8388608`, `"gpa": 8392704`, "value 0 (t)"},
		"profile":     {"tdx-qemu-direct/1", "tdx-qemu-uki/1", "says mrtd"},
		"event order": {`"what": "initrd"`, `"what": "Initrd"`, ""},
	} {
		edited := bytes.Replace(data, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(edited, data) {
			t.Fatalf("%s: nothing to replace", name)
		}
		_, err := Parse(edited)
		if c.want == "" { // names are for people
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	// Everywhere at once: then the events contradict.
	uki, err := tdxValues(t, tdxPlatform("uki", tdxRulesDirect), "roothash="+root).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	moved := bytes.ReplaceAll(uki, []byte(`"disk-slot": "1.0"`), []byte(`"disk-slot": "2.0"`))
	if _, err := Parse(moved); bytes.Equal(moved, uki) || err == nil || !strings.Contains(err.Error(), `no event "Boot0001 (UEFI Misc Device)"`) {
		t.Errorf("disk-slot: error %v", err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"memory": {`"memory": 2048`, `"memory": 3072`, `no event "TD HOB"`},
		"ACPI":   {`"tables": "` + h("t1"), `"tables": "` + h("t2"), `no event "ACPI tables"`},
		"SMBIOS": {`"smbios": "` + h("s1"), `"smbios": "` + h("s2"), `no event "SMBIOS tables"`},
		"rtmr3":  {`        "` + h("app"), `        "` + h("other"), `application event 1`},
		"cfv":    {`"cfv": "344bc51c`, `"cfv": "344bc51d`, `no event "configuration firmware volume"`},
	} {
		edited := bytes.ReplaceAll(data, []byte(c.old), []byte(c.new))
		if bytes.Equal(edited, data) {
			t.Errorf("%s: nothing to replace", name)
			continue
		}
		if _, err := Parse(edited); !errors.Is(err, ErrUnfounded) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

// TestTDXEventsOfOneName: names are for people, so that two events may share one. Each must be what the platform declares.
func TestTDXEventsOfOneName(t *testing.T) {
	app := func(s string) tdx.Digest { return sha512.Sum384([]byte(s)) }
	platform := strings.Replace(tdxPlatform("direct", tdxRulesDirect), `"rtmr3":[`, fmt.Sprintf(`"rtmr3":[%q,`, app("first")), 1)
	rv := tdxValues(t, platform, "roothash="+root)
	if err := rv.Recompute(); err != nil {
		t.Fatal(err)
	}
	for at, c := range map[int]struct {
		register, want string
		forge          func(events []eventlog.Event)
	}{
		4: {"rtmr3", "rtmr3: event 1", func(events []eventlog.Event) {
			forged, second := app("forged"), app("app")
			events[0].What, events[1].What = "x", "x"
			events[0].Digest, events[1].Digest = second[:], forged[:]
		}},
		1: {"rtmr0", `no event "TD HOB"`, func(events []eventlog.Event) { events[len(events)-1].What = "TD HOB" }},
	} {
		v := rv.Values[at]
		if v.Register != c.register {
			t.Fatalf("value %d is %s", at, v.Register)
		}
		v.Events = slices.Clone(v.Events)
		c.forge(v.Events)
		if err := v.replay(); err != nil {
			t.Fatal(err)
		}
		edited := *rv
		edited.Values = slices.Clone(rv.Values)
		edited.Values[at] = v
		if err := edited.Recompute(); !errors.Is(err, ErrUnfounded) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.register, err, c.want)
		}
	}
}

func TestTDXRefusals(t *testing.T) {
	good := tdxPlatform("direct", tdxRulesDirect)
	for name, c := range map[string]struct{ old, new, want string }{
		"open rules":      {tdxRulesDirect, "qemu-10.2", "one set of rules"},
		"unknown rules":   {tdxRulesDirect, "qemu-99/x", "want HOST/FIRMWARE"},
		"gce, open":       {tdxRulesDirect, "gce/c3-standard-4", "one set of rules"},
		"gce, direct":     {tdxRulesDirect, "gce/c3-standard-4/2026-03", "on gce"},
		"boot":            {`"direct"`, `"disk"`, `boot "disk"`},
		"no slot":         {`"direct"`, `"uki"`, "disk-slot"},
		"no firmware":     {`"firmware":"amdsev",`, ``, "firmware: missing"},
		"no shapes":       {`"shapes":[`, `"shapes":[],"x":[`, "unknown key"},
		"key":             {`"rtmr3"`, `"rtmr4"`, `unknown key "rtmr4"`},
		"key in shape":    {`"vcpus":1`, `"VCPUs":1`, "shapes: 0: unknown key"},
		"no memory":       {`"memory":2048,`, ``, "shapes: 0: memory: missing"},
		"key in acpi":     {`"rsdp"`, `"RSDP"`, "shapes: 0: acpi: unknown key"},
		"zero":            {`"vcpus":1`, `"vcpus":0`, "vcpus 0"},
		"digest":          {`"tables":"`, `"tables":"0`, "want 96 lower-case hex"},
		"no boot":         {`"boot":"direct",`, ``, "boot: missing"},
		"key of another":  {`"boot"`, `"bank":"sha256","boot"`, `unknown key "bank"`},
		"no acpi at last": {`"acpi"`, `"acpi":null,"acpi"`, ""},
	} {
		edited := strings.Replace(good, c.old, c.new, 1)
		if edited == good {
			t.Fatalf("%s: nothing to replace", name)
		}
		_, err := ParsePlatforms([]byte(edited))
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	// What only the image can tell.
	ps, err := ParsePlatforms([]byte(tdxPlatform("direct", "qemu-10.2/edk2-202502")))
	if err != nil {
		t.Fatal(err)
	}
	fsys := outOf(t, string(petest.Image(".text", "kernel")), "initrd", "roothash="+root)
	if _, err := Image(t.Context(), fsys, ps); err == nil || !strings.Contains(err.Error(), "the rules leave it open") {
		t.Errorf("a firmware whose Secure Boot the rules do not know: error %v", err)
	}
	if ps, err = ParsePlatforms([]byte(tdxPlatform("direct", "qemu-10.2/edk2-202502,secure-boot"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Image(t.Context(), fsys, ps); err != nil {
		t.Errorf("rules that say it: %v", err)
	}
	if _, err := Image(t.Context(), outOf(t, string(petest.Image(".text", "kernel")), "initrd", "quiet"), ps); err == nil || !strings.Contains(err.Error(), ErrCmdline.Error()) {
		t.Errorf("no root hash: error %v", err)
	}
	if _, err := Image(t.Context(), out(t, "roothash="+root), ps); err == nil || !strings.Contains(err.Error(), "kernel: PE image") {
		t.Errorf("a kernel that is none: error %v", err)
	}
}

// TestTDXCmdline: the event that fixes the command line is found by its place, not by what it is called.
func TestTDXCmdline(t *testing.T) {
	claim := "roothash=" + strings.Repeat("c", 64)
	for _, boot := range []string{"direct", "uki"} {
		release := 0
		if boot == "direct" {
			release = 202508
		}
		for name, change := range map[string]func([]eventlog.Event) []eventlog.Event{
			"renamed": func(all []eventlog.Event) []eventlog.Event {
				d := tdx.LoadOptions(release, claim)
				all[len(all)-2].What = "x"
				return slices.Insert(all, 0, eventlog.Event{Register: "rtmr2", What: "load options", Digest: d[:]})
			},
			"one": func(all []eventlog.Event) []eventlog.Event { return all[:1] },
		} {
			rv := tdxValues(t, tdxPlatform(boot, tdxRulesDirect), "roothash="+root)
			i := slices.IndexFunc(rv.Values, func(v Value) bool { return v.Register == "rtmr2" })
			rv.Static.Cmdline, rv.Values[i].Events = claim, change(slices.Clone(rv.Values[i].Events))
			if err := rv.Values[i].replay(); err != nil {
				t.Fatal(err)
			}
			if err := rv.Recompute(); !errors.Is(err, ErrUnfounded) || !strings.Contains(err.Error(), `rtmr2: no event "load options"`) {
				t.Errorf("%s, %s: error %v", boot, name, err)
			}
		}
	}
}

package tdx

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"tally/internal/petest"
	"tally/measure/eventlog"
)

func compute(t testing.TB, in Input, profile string) *Result {
	t.Helper()
	p, err := ParseProfile(profile)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Compute(in, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// one returns the only value of a register.
func one(t testing.TB, r *Result, register string) Register {
	t.Helper()
	var found []Register
	for _, x := range r.Registers {
		if x.Register == register {
			found = append(found, x)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d values of %s, want one; lacks %+v", len(found), register, r.Lacks)
	}
	return found[0]
}

// TestPublishedRTMR0 computes RTMR0 of two guests from memory size, ACPI tables and Debian's firmware, event
// by event.
func TestPublishedRTMR0(t *testing.T) {
	for _, f := range fixtures(t) {
		in := Input{Firmware: ovmf(t), Memory: f.memory(t), VCPUs: f.Metadata.Boot.CPUs, ACPI: f.acpi(t)}
		got := one(t, compute(t, in, "qemu-10.0/debian-ovmf-2025.02"), "rtmr0")
		if got.Digest.String() != f.Expected.RTMR0 {
			t.Errorf("%s: %s, want %s", f.Name, got.Digest, f.Expected.RTMR0)
		}
		names := map[string]string{"TD HOB": "TD_HOB", "configuration firmware volume": "CFV", "variable SecureBoot": "SecureBoot", "variable PK": "PK", "variable KEK": "KEK",
			"variable db": "db", "variable dbx": "dbx", "separator": "separator", "ACPI table-loader": "acpi table-loader", "ACPI rsdp": "acpi rsdp", "ACPI tables": "acpi tables",
			"BootOrder": "BootOrder", "Boot0000 (UiApp)": "Boot0000"}
		if len(got.Events) != len(f.Events) || len(f.Events) != 13 {
			t.Errorf("%s: %d events, want %d", f.Name, len(got.Events), len(f.Events))
		}
		for _, e := range got.Events {
			if want := f.Events[names[e.What]]; e.Digest.String() != want {
				t.Errorf("%s: %s: %s, want %s", f.Name, e.What, e.Digest, want)
			}
		}
	}
}

// TestTDHOB holds memory sizes against the published digests.
func TestTDHOB(t *testing.T) {
	var v struct {
		Files []struct {
			HOB map[string]string `json:"td_hob_sha384"`
		}
	}
	readVector(t, "tdx-mrtd-debian.json", &v)
	if len(v.Files) != 1 || len(v.Files[0].HOB) != 6 {
		t.Fatalf("%+v", v)
	}
	for size, want := range v.Files[0].HOB {
		f := fixture{}
		f.Metadata.Boot.Memory = size
		hob, err := tdHOB(sections(t), f.memory(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := event("", hob).Digest.String(); got != want {
			t.Errorf("%s: %s, want %s", size, got, want)
		}
	}
}

// TestHardwareQuote replays a real quote's registers: its RTMR0 to RTMR2 from its own log and from what is
// computed here of the same inputs.
func TestHardwareQuote(t *testing.T) {
	var v struct {
		Quotes []struct {
			Regs   map[string]string
			Events [][]any
		}
		Inputs struct{ Kernel, Cmdline, Initrd string } `json:"-"`
		Raw    map[string]string                        `json:"tdx_lite_separate_inputs"`
	}
	readVector(t, "tdx-dstack-quote.json", &v)
	q := v.Quotes[0]
	logged := map[string][]eventlog.Event{}
	for _, e := range q.Events {
		d, err := hex.DecodeString(e[2].(string))
		if err != nil {
			t.Fatal(err)
		}
		r := eventlog.RTMR(int(e[0].(float64)))
		logged[r] = append(logged[r], eventlog.Event{Digest: d})
	}
	for _, r := range []string{"rtmr0", "rtmr1", "rtmr2"} {
		if got := Replay(logged[r]).String(); got != q.Regs[r] || len(logged[r]) == 0 {
			t.Errorf("%s: log gives %s, quote says %s", r, got, q.Regs[r])
		}
	}
	f, b := Firmware{Release: 202502}, &boot{direct: true, what: "kernel", cmdline: "x", initrd: unhex(t, v.Raw["initrd_sha384"]), image: map[bool]eventlog.Digest{true: unhex(t, v.Raw["kernel_authenticode_sha384"])}}
	rtmr1, err := b.rtmr1(f, true, modeNever)
	if err != nil || Replay(rtmr1).String() != q.Regs["rtmr1"] {
		t.Errorf("rtmr1: %s, %v; quote says %s", Replay(rtmr1), err, q.Regs["rtmr1"])
	}
	rtmr2 := b.rtmr2(f)
	rtmr2[0].Digest = unhex(t, v.Raw["cmdline_sha384_utf16"])
	if Replay(rtmr2).String() != q.Regs["rtmr2"] {
		t.Errorf("rtmr2: %s, quote says %s", Replay(rtmr2), q.Regs["rtmr2"])
	}
	// What of RTMR0 does not depend on files that the vector lacks.
	store := new(store)
	same := slices.Concat(store.policy(modeNever), bootVariables(Firmware{Release: 202502, Build: BuildOVMF}.options(nil)))
	at := []int{2, 3, 4, 5, 6, 7, 11, 12}
	for i, e := range same {
		if got, want := e.Digest.String(), logged["rtmr0"][at[i]].Digest.String(); got != want {
			t.Errorf("rtmr0, event %d (%s): %s, logged %s", at[i], e.What, got, want)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 48 {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

// TestLabels wants alternatives told apart, whatever is undecided, and one value where a profile decides.
func TestLabels(t *testing.T) {
	kernel := petest.Image(".text", "kernel")
	copy(kernel[setupMagic:], "HdrS\x0f\x02")
	kernel[setupXFlags] = above4G
	f := fixtures(t)[0]
	in := Input{Firmware: ovmf(t), Memory: f.memory(t), ACPI: f.acpi(t), SMBIOS: smbiosTable(t), Kernel: kernel, Cmdline: "quiet",
		Initrd: HashInitrd(strings.NewReader("initrd"), 6)}
	profiles := []string{""}
	for _, h := range Hosts() {
		profiles = append(profiles, h.Name, h.Name+"/debian-ovmf-2025.02", h.Name+"/debian-inteltdx-2026.08")
	}
	for _, f := range Firmwares() {
		profiles = append(profiles, "qemu-10.1/"+f.Name)
	}
	for _, name := range profiles {
		r := compute(t, in, name)
		if len(r.Lacks) != 0 {
			t.Errorf("%q: lacks %+v", name, r.Lacks)
		}
		seen := map[string]bool{}
		for _, v := range r.Registers {
			if seen[v.Register+" "+v.Label] {
				t.Errorf("%q: %s has the label %q twice", name, v.Register, v.Label)
			}
			seen[v.Register+" "+v.Label] = true
			if strings.Contains(name, "/debian-") && v.Label != "" && !strings.HasPrefix(name, "qemu-10.1") {
				t.Errorf("%q: %s is not decided: %q", name, v.Register, v.Label)
			}
			if last := v.Events[len(v.Events)-1]; v.Register != "mrtd" && Replay(v.Events) != v.Digest || v.Register == "mrtd" && last.Digest.String() != v.Digest.String() {
				t.Errorf("%q: %s is not what its events give", name, v.Register)
			}
		}
		for _, want := range []string{"mrtd", "rtmr0", "rtmr1", "rtmr2"} {
			if !slices.ContainsFunc(r.Registers, func(v Register) bool { return v.Register == want }) {
				t.Errorf("%q: no %s", name, want)
			}
		}
	}
}

// TestGCE: what of GCE's seen digests can be computed is.
func TestGCE(t *testing.T) {
	r := compute(t, Input{Firmware: ovmf(t)}, "gce/c3-standard-44")
	n := 0
	for _, v := range r.Registers {
		if v.Register != "rtmr0" {
			continue
		}
		n++
		off := Firmware{Release: 202502}
		for at, want := range map[int]eventlog.Event{2: new(store).policy(modeOff)[0], 14: bootVariables(off.options(nil))[1]} {
			if got := v.Events[at]; got.Digest.String() != want.Digest.String() {
				t.Errorf("%s: event %d (%s): %s, computed %s", v.Label, at, got.What, got.Digest, want.Digest)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d values of rtmr0, want 3", n)
	}
	for _, s := range GCEShapes() {
		if _, err := ParseProfile("gce/" + s.Name); err != nil || len(s.Seen) == 0 {
			t.Errorf("%s: %v, %d generations", s.Name, err, len(s.Seen))
		}
	}
}

package tdx

import (
	"encoding/hex"
	"slices"
	"testing"

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

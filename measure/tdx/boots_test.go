package tdx

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"tally/internal/petest"
	"tally/measure/eventlog"
)

// A realBoot is a boot of boots-without-tdx.json.
type realBoot struct {
	Name    string
	Cmdline string
	SMBIOS  string
	Events  [][3]any
}

// of returns the digests of events of some PCRs and types, in order.
func (b realBoot) of(pcr int, types ...string) (digests []string) {
	for _, e := range b.Events {
		if int(e[0].(float64)) == pcr && (types == nil || slices.Contains(types, e[1].(string))) {
			digests = append(digests, e[2].(string))
		}
	}
	return digests
}

func realBoots(t testing.TB) (initrd []byte, boots map[string]realBoot) {
	t.Helper()
	var v struct {
		Initrd struct{ SHA384 string }
		Boots  []realBoot
	}
	readVector(t, "boots-without-tdx.json", &v)
	boots = map[string]realBoot{}
	for _, b := range v.Boots {
		boots[b.Name] = b
	}
	if len(boots) != 5 {
		t.Fatalf("%d boots, want 5", len(boots))
	}
	return unhex(t, v.Initrd.SHA384), boots
}

func digests(events []eventlog.Event) (all []string) {
	for _, e := range events {
		all = append(all, e.Digest.String())
	}
	return all
}

// TestRealDirectBoots holds the rules of two edk2 releases against what the same firmware logged without
// TDX: boot variables, SMBIOS tables, load options, the order around the kernel.
func TestRealDirectBoots(t *testing.T) {
	initrd, boots := realBoots(t)
	for name, c := range map[string]struct {
		f       Firmware
		patched bool
	}{
		"direct-q10-trixiefw": {Firmware{Release: 202502, Build: BuildOVMF}, false},
		"direct-q72-trixiefw": {Firmware{Release: 202502, Build: BuildOVMF}, true},
		"direct-q10-sidfw":    {Firmware{Release: 202608, Build: BuildOVMF}, false},
	} {
		rb := boots[name]
		kernel := rb.of(4, "0x80000003")[0]
		b := &boot{direct: true, what: "kernel", cmdline: rb.Cmdline, initrd: initrd, image: map[bool]eventlog.Digest{c.patched: unhex(t, kernel)}}
		if got, want := digests(b.rtmr2(c.f)), rb.of(9); !slices.Equal(got, want) {
			t.Errorf("%s: rtmr2 %v, PCR 9 %v", name, got, want)
		}
		rtmr1, err := b.rtmr1(c.f, c.patched, modeNever)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(rb.of(4), rb.of(5, "0x80000007"))
		if got := digests(rtmr1); !slices.Equal(got, want) {
			t.Errorf("%s: rtmr1 %v, PCR 4 and 5 %v", name, got, want)
		}
		if got, want := digests(new(store).policy(modeNever)), rb.of(7); !slices.Equal(got, want) {
			t.Errorf("%s: policy %v, PCR 7 %v", name, got, want)
		}
		var late []eventlog.Event
		if rb.SMBIOS != "" {
			late = append(late, event("SMBIOS tables", filtered(t, rb.SMBIOS)))
		}
		late = append(late, bootVariables(c.f.options(nil))...)
		if got, want := digests(late), rb.of(1, "0x80000009", "0x80000002"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, PCR 1 %v", name, got, want)
		}
	}
}

func filtered(t testing.TB, table string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(table)
	if err != nil {
		t.Fatal(err)
	}
	b, err := measuredSMBIOS(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRealDiskBoot holds the options of a boot from a virtio disk at slot 1 against a log: its network
// card's options stand between the disk's and the shell's.
func TestRealDiskBoot(t *testing.T) {
	_, boots := realBoots(t)
	logged := boots["uki-q72-trixiefw"].of(1, "0x80000002")
	options := Firmware{Release: 202502, Build: BuildOVMF}.options(&PCIAddress{Slot: 1})
	got := digests(bootVariables(options))[1:]
	want := []string{logged[1], logged[2], logged[len(logged)-1]}
	if !slices.Equal(got, want) {
		t.Errorf("%v, logged %v", got, want)
	}
}

// TestIntelTdxMenu: Debian's inteltdx build of 2026.08, booted without TDX, kept this one option.
func TestIntelTdxMenu(t *testing.T) {
	const logged = "5068e6a9ded2" // of a memory dump, as in the log of the other build
	_, boots := realBoots(t)
	events := bootVariables(Firmware{Release: 202608, Build: BuildIntelTdx}.options(nil))
	if len(events) != 2 || events[1].Digest.String() != boots["direct-q10-sidfw"].of(1, "0x80000002")[1] || events[1].Digest.String()[:12] != logged {
		t.Errorf("%+v", events)
	}
	if events := bootVariables(Firmware{Release: 202605, Build: BuildIntelTdx}.options(nil)); len(events) != 0 {
		t.Errorf("202605: %+v, want none", events)
	}
}

// TestRealSecureBoot holds the variables of a store with enrolled keys, and the event of the certificate that
// vouched for the kernel, against what the firmware with that store logged.
func TestRealSecureBoot(t *testing.T) {
	_, boots := realBoots(t)
	cfv, err := unxz("testdata/vectors/OVMF_VARS_4M.snakeoil.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	s, err := readStore(cfv)
	if err != nil {
		t.Fatal(err)
	}
	modes, err := s.modes(Firmware{Release: 202502})
	if err != nil || len(modes) != 1 || modes[0] != modeOn {
		t.Fatalf("modes %v, %v; want on alone", modes, err)
	}
	authorities, err := s.authorities()
	if err != nil || len(authorities) != 1 {
		t.Fatalf("%d certificates, %v; want one", len(authorities), err)
	}
	want := boots["direct-q10-secureboot"].of(7)
	if got := digests(append(s.policy(modeOn), authorities...)); !slices.Equal(got, want) {
		t.Errorf("%v, PCR 7 %v", got, want)
	}
	never := false
	if _, err := s.modes(Firmware{Release: 202502, SecureBoot: &never}); err == nil {
		t.Error("keys in a firmware built without Secure Boot: no error")
	}
}

// TestSecureBootRTMR0 puts the store with keys before Debian's firmware.
func TestSecureBootRTMR0(t *testing.T) {
	cfv, err := unxz("testdata/vectors/OVMF_VARS_4M.snakeoil.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	firmware := ovmf(t)
	copy(firmware, cfv)
	f := fixtures(t)[0]
	in := Input{Firmware: firmware, Memory: f.memory(t), ACPI: f.acpi(t)}
	direct := one(t, compute(t, in, "qemu-10.2/edk2-202502"), "rtmr0")
	names := func(r Register) (all []string) {
		for _, e := range r.Events {
			all = append(all, e.What)
		}
		return all
	}
	got := names(direct)
	if i := slices.Index(got, "authority: certificate 1 of db"); len(got) != 14 || i != 11 || got[i-1] != "ACPI tables" {
		t.Errorf("%q: want the authority behind the ACPI tables", got)
	}
	in.UKI, in.Kernel = nil, petest.Image(".text", "unsigned")
	in.Cmdline = "quiet"
	p, _ := ParseProfile("qemu-10.2/edk2-202502")
	if _, err := Compute(in, p); err == nil || !strings.Contains(err.Error(), "kernel: not signed") {
		t.Errorf("an unsigned kernel under Secure Boot: error %v", err)
	}
}

// TestBlankStore: a firmware with keys whose store is blanked, as a specification's vars: blank does, measures
// Debian's blank store, whose digest real quotes have, and starts without Secure Boot. MRTD stays.
func TestBlankStore(t *testing.T) {
	cfv, err := unxz("testdata/vectors/OVMF_VARS_4M.snakeoil.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Files []struct {
			CFV string `json:"cfv_sha384"`
		}
	}
	readVector(t, "tdx-mrtd-debian.json", &v)
	keys, blank := ovmf(t), ovmf(t)
	copy(keys, cfv)
	a, err := ReadFirmware(keys)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadFirmware(blank)
	if err != nil {
		t.Fatal(err)
	}
	if b.CFV.String() != v.Files[0].CFV || a.CFV == b.CFV || a.SinglePass != b.SinglePass || a.TwoPass != b.TwoPass {
		t.Errorf("with keys %+v, blank %+v, want a CFV of %s", a, b, v.Files[0].CFV)
	}
	yes := true
	s, err := readStore(blank[:len(cfv)])
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.modes(Firmware{SecureBoot: &yes}); err != nil || len(m) != 1 || m[0] != modeOff {
		t.Errorf("modes %v, %v; want off alone", m, err)
	}
}

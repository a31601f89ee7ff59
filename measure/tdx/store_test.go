package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"tally/internal/petest"
	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// storeOf is Debian's blank variable store with variables in it.
func storeOf(t testing.TB, vars ...fw.Variable) []byte {
	const first = 0x48 + 28 // behind the headers of volume and store
	b, le := ovmf(t)[:0x84000], binary.LittleEndian
	at := first
	for _, v := range vars {
		name := utf16le(v.Name + "\x00")
		h := make([]byte, 60)
		le.PutUint16(h, 0x55aa)
		h[2] = 0x3f
		le.PutUint32(h[4:], 7)
		le.PutUint32(h[36:], uint32(len(name)))
		le.PutUint32(h[40:], uint32(len(v.Data)))
		copy(h[44:], v.Vendor[:])
		at += copy(b[at:], slices.Concat(h, name, v.Data)) + 3
		at &^= 3
	}
	return b
}

// TestStore: which variables count, by name and namespace.
func TestStore(t *testing.T) {
	pk := fw.Variable{Vendor: globalVariable, Name: "PK", Data: []byte("pk")}
	enable := func(data string) fw.Variable {
		return fw.Variable{Vendor: secureEnable, Name: "SecureBootEnable", Data: []byte(data)}
	}
	var all []fw.Variable
	for _, n := range []string{"PK", "KEK", "db", "dbx", "dbt", "SecureBootEnable", "BootOrder"} { // in no namespace where it means something
		all = append(all, fw.Variable{Vendor: uiApp, Name: n, Data: []byte{0}})
	}
	for name, c := range map[string]struct {
		vars  []fw.Variable
		modes []bootMode
		want  string // in the error
	}{
		"blank":           {nil, []bootMode{modeNever, modeOff}, ""},
		"keys":            {[]fw.Variable{pk}, []bootMode{modeOn}, ""},
		"empty key":       {[]fw.Variable{{Vendor: globalVariable, Name: "PK"}}, []bootMode{modeNever, modeOff}, ""},
		"enabled":         {[]fw.Variable{pk, enable("\x01")}, []bootMode{modeOn}, ""},
		"disabled":        {[]fw.Variable{pk, enable("\x00")}, []bootMode{modeOff}, ""},
		"neither":         {[]fw.Variable{pk, enable("\x02")}, nil, "SecureBootEnable"},
		"other namespace": {all, []bootMode{modeNever, modeOff}, ""},
		"boot order":      {[]fw.Variable{pk, {Vendor: globalVariable, Name: "BootOrder", Data: []byte{0, 0}}}, nil, `"BootOrder"`},
	} {
		s, err := readStore(storeOf(t, c.vars...))
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: error %v, want one with %q", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := s.modes(Firmware{Release: 202502}); err != nil || !slices.Equal(got, c.modes) {
			t.Errorf("%s: modes %v, %v; want %v", name, got, err, c.modes)
		}
		if len(c.vars) == len(all) && (s.pk != nil || s.kek != nil || s.db != nil || s.dbx != nil || s.hasDBT) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	var named []fw.Variable
	for _, n := range []string{"db", "dbx", "dbt"} {
		named = append(named, fw.Variable{Vendor: imageSecurity, Name: n, Data: []byte("of " + n)})
	}
	named = append(named, pk, fw.Variable{Vendor: globalVariable, Name: "KEK", Data: []byte("of KEK")})
	s, err := readStore(storeOf(t, named...))
	if err != nil {
		t.Fatal(err)
	}
	data := func(vendor fw.GUID, name, value string) string {
		b := binary.LittleEndian.AppendUint64(vendor[:], uint64(len(name)))
		b = append(binary.LittleEndian.AppendUint64(b, uint64(len(value))), utf16le(name)...)
		d := sha512.Sum384(append(b, value...))
		return eventlog.Digest(d[:]).String()
	}
	sep := sha512.Sum384(make([]byte, 4))
	want := []string{data(globalVariable, "SecureBoot", "\x00"), data(globalVariable, "PK", "pk"), data(globalVariable, "KEK", "of KEK"), data(imageSecurity, "db", "of db"),
		data(imageSecurity, "dbx", "of dbx"), data(imageSecurity, "dbt", "of dbt"), eventlog.Digest(sep[:]).String()}
	if got := digests(s.policy(modeOff)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestSecondRefusals: what Compute finds out late.
func TestSecondRefusals(t *testing.T) {
	f := fixtures(t)[0]
	sections := sections(t)
	sectionsWith := func(change func([]fw.TDSection)) []byte {
		list := slices.Clone(sections)
		change(list)
		return withSections(t, list)
	}
	cfv := slices.IndexFunc(sections, func(s fw.TDSection) bool { return s.Type == fw.TDConfiguration })
	other := slices.IndexFunc(sections, func(s fw.TDSection) bool { return s.Type == fw.TDTempMemory })
	keys := ovmf(t)
	copy(keys, storeOf(t, fw.Variable{Vendor: globalVariable, Name: "PK", Data: []byte{1}}))
	tables := &Tables{}
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"processors":       {Input{Firmware: ovmf(t), Memory: f.memory(t), ACPI: f.acpi(t), VCPUs: f.Metadata.Boot.CPUs + 1}, "MADT with"},
		"tables and ACPI":  {Input{Firmware: ovmf(t), Memory: 1 << 30, Tables: tables, ACPI: []byte{1}}, "want one of them"},
		"tables, SMBIOS":   {Input{Firmware: ovmf(t), Memory: 1 << 30, Tables: tables, SMBIOS: []byte{1}}, "want one of them"},
		"tables and vcpus": {Input{Firmware: ovmf(t), Memory: 1 << 30, Tables: tables, VCPUs: 1}, "want one of them"},
		"db is empty":      {Input{Firmware: keys, Memory: f.memory(t), ACPI: f.acpi(t)}, "db holds no certificate"},
		"no CFV":           {Input{Firmware: sectionsWith(func(s []fw.TDSection) { s[cfv].Type = fw.TDTempMemory })}, "no CFV section"},
		"empty CFV":        {Input{Firmware: sectionsWith(func(s []fw.TDSection) { s[cfv].RawSize = 0 })}, "no CFV section"},
		"two CFVs":         {Input{Firmware: sectionsWith(func(s []fw.TDSection) { s[other].Type = fw.TDConfiguration })}, "two CFV sections"},
	} {
		p, err := ParseProfile("qemu-10.2/edk2-202502")
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Compute(c.in, p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, r, err, c.want)
		}
	}
}

// TestOrderOfRTMR0: every event, in order, with what edk2's releases changed.
func TestOrderOfRTMR0(t *testing.T) {
	vars := []string{"variable SecureBoot", "variable PK", "variable KEK", "variable db", "variable dbx", "separator"}
	acpi := []string{"ACPI table-loader", "ACPI rsdp", "ACPI tables"}
	start, menu, order := []string{"TD HOB", "configuration firmware volume"}, []string{"fw_cfg BootMenu"}, []string{"fw_cfg bootorder"}
	for _, c := range []struct {
		release int
		disk    *PCIAddress
		want    [][]string
	}{
		{202408, nil, [][]string{start, vars, acpi, {"BootOrder", "Boot0000 (UiApp)", "separator"}}},
		{202411, nil, [][]string{start, vars, acpi, {"BootOrder", "Boot0000 (UiApp)"}}},
		{202505, nil, [][]string{start, menu, order, vars, acpi, {"SMBIOS tables", "BootOrder", "Boot0000 (BootManagerMenuApp)", "Boot0001 (EFI Firmware Setup)"}}},
		{202505, &PCIAddress{}, [][]string{start, menu, vars, acpi, {"SMBIOS tables", "BootOrder", "Boot0000 (BootManagerMenuApp)", "Boot0001 (EFI Firmware Setup)",
			"Boot0002 (UEFI Misc Device)", "Boot0003 (EFI Internal Shell)"}}},
	} {
		p := &platform{store: new(store), tables: Tables{SMBIOS: new(Digest)}, direct: c.disk == nil, disk: c.disk}
		events, err := p.rtmr0(Firmware{Release: c.release, Build: BuildOVMF}, modeOff, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events {
			got = append(got, e.What)
		}
		if want := slices.Concat(c.want...); !slices.Equal(got, want) {
			t.Errorf("%d: %q, want %q", c.release, got, want)
		}
		for text, data := range map[string]string{"fw_cfg BootMenu": "\x00\x00", "fw_cfg bootorder": "/rom@genroms/linuxboot_dma.bin\x00", "separator": "\x00\x00\x00\x00"} {
			want := sha512.Sum384([]byte(data))
			if i := slices.Index(got, text); i >= 0 && !bytes.Equal(events[i].Digest, want[:]) {
				t.Errorf("%d: %s %s", c.release, text, events[i].Digest)
			}
		}
	}
}

// TestDigestsForTables: the digests of the tables stand for their bytes.
func TestDigestsForTables(t *testing.T) {
	f := fixtures(t)[0]
	in := Input{Firmware: ovmf(t), Memory: f.memory(t), ACPI: f.acpi(t), SMBIOS: smbiosTable(t)}
	tables, err := readTables(in)
	if err != nil || tables.SMBIOS == nil {
		t.Fatalf("%+v, %v", tables, err)
	}
	short := Input{Firmware: in.Firmware, Memory: in.Memory, Tables: &tables}
	for _, release := range []string{"edk2-202502,secure-boot", "edk2-202508,secure-boot"} {
		want := one(t, compute(t, in, "qemu-10.2/"+release), "rtmr0")
		if got := one(t, compute(t, short, "qemu-10.2/"+release), "rtmr0"); got.Digest != want.Digest {
			t.Errorf("%s: %s, want %s", release, got.Digest, want.Digest)
		}
	}
	tables.SMBIOS = nil
	if r := compute(t, short, "qemu-10.2/edk2-202508,secure-boot"); len(r.Lacks) != 1 || !strings.Contains(r.Lacks[0].Needs, "SMBIOS") {
		t.Errorf("without SMBIOS: %+v", r.Lacks)
	}
}

// TestUKIOfTDX: what RTMR0 needs for a boot from disk, and what stub 262 adds to it.
func TestUKIOfTDX(t *testing.T) {
	p := &platform{hob: []byte("hob"), cfv: []byte("cfv"), store: new(store), smbios: smbiosTable(t), disk: &PCIAddress{Slot: 1}, stub: 262}
	f := Firmware{Release: 202502, Build: BuildOVMF}
	authority := eventlog.Event{What: "authority", Digest: make([]byte, 48)}
	events, err := p.rtmr0(f, modeOn, &authority)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range events {
		names = append(names, e.What)
	}
	all, err := smbiosStructures(p.smbios)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, kind := range []byte{1, 2, 11} {
		for _, s := range all {
			if d := sha512.Sum384(s); s[0] == kind {
				want = append(want, eventlog.Digest(d[:]).String())
			}
		}
	}
	at := slices.Index(names, "authority")
	if at < 0 || !strings.HasPrefix(names[at-1], "Boot") || len(want) == 0 || !slices.Equal(digests(events[at+1:]), want) {
		t.Errorf("%q: want the authority behind the boot options, and then %d structures", names, len(want))
	}
	p.smbios = nil
	if _, err := p.rtmr0(f, modeOff, nil); err == nil || !strings.Contains(err.Error(), "systemd-stub from 262") {
		t.Errorf("no SMBIOS: %v", err)
	}
	p.stub = 261
	if events, err := p.rtmr0(f, modeOff, nil); err != nil || len(events) != at {
		t.Errorf("stub 261: %d events, %v; want %d", len(events), err, at)
	}
	p.disk = nil
	if _, err := p.rtmr0(f, modeOff, nil); err == nil || !strings.Contains(err.Error(), "PCI address") {
		t.Errorf("no disk: %v", err)
	}
	in := Input{Firmware: ovmf(t), UKI: petest.UKI("257", "quiet", "kernel", "initrd"), Events: []Digest{{1}, {2}}}
	r := compute(t, in, "qemu-8.2/edk2-202502,secure-boot")
	b, err := readBoot(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := one(t, r, "rtmr1").Events
	if got := digests(first[:1]); got[0] != b.image[false].String() || len(first) != 5+len(b.uki.Inner) {
		t.Errorf("RTMR1 %v: want the UKI as it is, %s, and its inner kernel", digests(first), b.image[false])
	}
	apps := one(t, r, "rtmr3")
	if len(apps.Events) != 2 || apps.Digest != Replay([]eventlog.Event{{Digest: in.Events[0][:]}, {Digest: in.Events[1][:]}}) {
		t.Errorf("RTMR3 %+v", apps)
	}
}

// TestSmallRules: cases of rules that no fixture has.
func TestSmallRules(t *testing.T) {
	for mode, want := range map[string]uint16{"normal": 0xffff, "ext": 0xfffe, "ask": 0xfffd, "0x301": 0x301, "791": 791} {
		b := header(0x20f, 1, 2, 0)
		if err := patchKernel(b, kernelLoad{cmdline: "a vga=" + mode + " b"}); err != nil || binary.LittleEndian.Uint16(b[setupVideoMode:]) != want {
			t.Errorf("vga=%s: %#x, %v; want %#x", mode, b[setupVideoMode:][:2], err, want)
		}
	}
	madt := make([]byte, 44)
	for text, want := range map[string]int{"\x00\x08\x00\x00\x01\x00\x00\x00": 1, "\x00\x08\x00\x00\x02\x00\x00\x00": 0, "\x09\x10\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00": 1,
		"\x00\x07\x00\x00\x01\x00\x00": 0, "\x09\x0b\x00\x00\x00\x00\x00\x00\x01\x00\x00": 0, "\x00\x08\x00\x00\x01\x00\x00\x00\x00\x01": 0, "\x00\x08\x00\x00\x01\x00\x00\x00\x00\x09": 0} {
		if got := enabled(append(bytes.Clone(madt), text...)); got != want {
			t.Errorf("MADT %q: %d processors, want %d", text, got, want)
		}
	}
	for _, kind := range []byte{11, 15, 128, 255} {
		in := append([]byte{kind, 6, 1, 2, 3, 4}, "text\x00\x00\x7f\x04\x00\x00\x00\x00"...)
		want := append([]byte{kind, 6, 1, 2}, "\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x04\x00\x00\x00\x00"...)
		if got, err := measuredSMBIOS(in); err != nil || !bytes.Equal(got, want) {
			t.Errorf("type %d: %q, %v; want %q", kind, got, err, want)
		}
	}
	m, err := ReadFirmware(ovmf(t))
	if err != nil {
		t.Fatal(err)
	}
	hob, err := tdHOB(sections(t), 2<<30)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.HandOff(2 << 30); err != nil || got != sha512.Sum384(hob) {
		t.Errorf("TD HOB from what was measured: %s, %v", got, err)
	}
	for want, change := range map[string]func([]Region) []Region{
		"type \"BFV\"":  func(r []Region) []Region { r[0].Type = "BFV"; return r },
		"whole pages":   func(r []Region) []Region { r[0].GPA++; return r },
		"0x1001 bytes":  func(r []Region) []Region { r[0].Size = 0x1001; return r },
		"at 0xffff":     func(r []Region) []Region { r[0].GPA = 1<<64 - 4096; return r },
		"0xfffffffffff": func(r []Region) []Region { r[0].Size = 1<<64 - 4096; return r },
		"257 sections":  func([]Region) []Region { return make([]Region, 257) },
		"no TD_HOB":     func([]Region) []Region { return nil },
	} {
		edited := Measured{Memory: change(slices.Clone(m.Memory))}
		if d, err := edited.HandOff(2 << 30); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s, %v; want an error with %q", d, err, want)
		}
	}
}

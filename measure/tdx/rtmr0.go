package tdx

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// A platform is what RTMR0 is computed from, once per machine.
type platform struct {
	hob    []byte
	cfv    []byte
	store  *store
	tables Tables
	smbios []byte // as the firmware installs it; nil: not given
	direct bool   // the VMM hands over the kernel
	disk   *PCIAddress
	stub   int // systemd-stub release of a UKI, else 0
}

// readPlatform reads what RTMR0 depends on.
func readPlatform(in Input, sections []fw.TDSection, cfv []byte, stub int) (*platform, error) {
	p := &platform{cfv: cfv, smbios: in.SMBIOS, direct: in.Disk == nil, disk: in.BootDevice, stub: stub}
	var err error
	if p.store, err = readStore(p.cfv); err != nil {
		return nil, err
	}
	if p.hob, err = tdHOB(sections, in.Memory); err != nil {
		return nil, err
	}
	if in.Tables != nil {
		p.tables = *in.Tables
		return p, nil
	}
	p.tables, err = readTables(in)
	return p, err
}

// Tables are the digests of what a VMM hands the firmware about the machine.
type Tables struct {
	ACPI   Digest  `json:"tables"`           // etc/acpi/tables
	Loader Digest  `json:"loader"`           // etc/table-loader
	RSDP   Digest  `json:"rsdp"`             // etc/acpi/rsdp
	SMBIOS *Digest `json:"smbios,omitempty"` // of the SMBIOS table as edk2 measures it; nil: not given
}

// readTables computes the digests from the bytes.
func readTables(in Input) (t Tables, err error) {
	a, err := ReadACPI(in.ACPI)
	if err != nil {
		return t, err
	}
	if in.VCPUs != 0 && in.VCPUs != a.VCPUs {
		return t, fmt.Errorf("ACPI tables: MADT with %d processors, want %d", a.VCPUs, in.VCPUs)
	}
	t = Tables{ACPI: sha512.Sum384(a.Tables), Loader: sha512.Sum384(a.Loader), RSDP: sha512.Sum384(a.RSDP)}
	if in.SMBIOS != nil {
		b, err := measuredSMBIOS(in.SMBIOS)
		if err != nil {
			return t, err
		}
		d := Digest(sha512.Sum384(b))
		t.SMBIOS = &d
	}
	return t, nil
}

// configuration returns the bytes of the configuration firmware volume.
func configuration(firmware io.ReaderAt, sections []fw.TDSection) ([]byte, error) {
	var cfv []byte
	for _, s := range sections {
		if s.Type != fw.TDConfiguration {
			continue
		}
		if cfv != nil {
			return nil, fmt.Errorf("firmware: two CFV sections")
		}
		cfv = make([]byte, s.RawSize)
		if n, err := firmware.ReadAt(cfv, int64(s.Offset)); n < len(cfv) {
			return nil, fmt.Errorf("firmware: CFV at byte %d: %w", s.Offset, err)
		}
	}
	if len(cfv) == 0 {
		return nil, fmt.Errorf("firmware: no CFV section with contents")
	}
	return cfv, nil
}

// errLacks says that a register needs an input that was not given.
type errLacks string

func (e errLacks) Error() string { return string(e) }

// rtmr0 lists the events of RTMR0 under a firmware's rules. authority is the event of the certificate that
// vouched for what was started, in mode on alone.
func (p *platform) rtmr0(f Firmware, m bootMode, authority *eventlog.Event) ([]eventlog.Event, error) {
	if !p.direct && p.disk == nil {
		return nil, errLacks("the PCI address of the boot disk, which its boot option names")
	}
	events := []eventlog.Event{event("TD HOB", p.hob), covering(event("configuration firmware volume", p.cfv), eventlog.PartFirmware)}
	if f.Release >= 202505 {
		events = append(events, event("fw_cfg BootMenu", []byte{0, 0}))
		if p.direct {
			events = append(events, event("fw_cfg bootorder", []byte(linuxROM)))
		}
	}
	events = append(events, p.store.policy(m)...)
	events = append(events, p.tables.ACPIEvents()...)
	if p.direct && authority != nil {
		events = append(events, *authority)
	}
	if f.Release >= 202505 && p.tables.SMBIOS == nil {
		return nil, errLacks("the SMBIOS table, which edk2 from 202505 on measures")
	}
	events = append(events, f.MachineEvents(&p.tables, p.disk)...)
	if f.Release < 202411 {
		events = append(events, separator())
	}
	if !p.direct && authority != nil {
		events = append(events, *authority)
	}
	return p.stubEvents(events)
}

// ACPIEvents are the events of the ACPI files, in edk2's order.
func (t *Tables) ACPIEvents() []eventlog.Event {
	return []eventlog.Event{{What: "ACPI table-loader", Digest: t.Loader[:]}, {What: "ACPI rsdp", Digest: t.RSDP[:]}, {What: "ACPI tables", Digest: t.ACPI[:]}}
}

// MachineEvents are the events of the SMBIOS table, when it is given and the release measures it, and of the boot
// options, with that of the disk the firmware boots from.
func (f Firmware) MachineEvents(t *Tables, disk *PCIAddress) (events []eventlog.Event) {
	if f.Release >= 202505 && t.SMBIOS != nil {
		events = append(events, eventlog.Event{What: "SMBIOS tables", Digest: t.SMBIOS[:]})
	}
	return append(events, bootVariables(f.options(disk))...)
}

// linuxROM is what QEMU writes into fw_cfg's bootorder for -kernel: the option ROM that would boot it
// without UEFI, with a NUL.
const linuxROM = "/rom@genroms/linuxboot_dma.bin\x00"

// stubEvents adds what systemd-stub 262 measures on a machine without a TPM: SMBIOS types 1, 2 and 11, unfiltered.
func (p *platform) stubEvents(events []eventlog.Event) ([]eventlog.Event, error) {
	if p.stub < 262 {
		return events, nil
	}
	if p.smbios == nil {
		return nil, errLacks("the SMBIOS table, which systemd-stub from 262 on measures")
	}
	all, err := smbiosStructures(p.smbios)
	if err != nil {
		return nil, err
	}
	for _, kind := range []byte{1, 2, 11} {
		for _, s := range all {
			if s[0] == kind {
				events = append(events, event(fmt.Sprintf("smbios: type %d", kind), bytes.Clone(s)))
			}
		}
	}
	return events, nil
}

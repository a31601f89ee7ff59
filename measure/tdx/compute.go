package tdx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
	"tally/measure/internal/once"
)

// An Input is what the registers of a trust domain are computed from. What is not given leaves out the
// registers that need it; the zero Input is an error.
type Input struct {
	Firmware     []byte    // whole
	FirmwareFile *File     // in place of Firmware
	Measured     *Measured // of the firmware, where an earlier call measured it: MRTD is taken from there; nil: it is computed
	Memory       uint64    // bytes, a multiple of 1 MiB; 0: not given
	VCPUs        int       // what the ACPI tables must enable; 0: any
	ACPI         []byte    // QEMU's fw_cfg file etc/acpi/tables; nil: not given
	SMBIOS       []byte    // the SMBIOS table in the guest's memory; nil: not given
	Tables       *Tables   // in place of VCPUs, ACPI and SMBIOS: their digests

	Kernel     []byte  // handed over by the VMM, with Initrd and Cmdline
	KernelFile *File   // in place of Kernel: read once, as it is hashed
	Initrd     *Initrd // nil: none
	Cmdline    string  // printable ASCII

	UKI        []byte      // alone: handed over by the VMM; with Disk: started from it
	Disk       io.ReaderAt // with the GPT that the firmware boots from
	BootDevice *PCIAddress // of the virtio block device with Disk; nil: not given

	Events []Digest // what applications extend RTMR3 with, in order

	Hashes *once.Hashes // what other calls know of the same bytes; nil: nothing
}

// A File is a file that is not held in memory.
type File struct {
	R    io.ReaderAt
	Size int64 // bytes
}

// firmware is the firmware as a file.
func (in Input) firmware() File {
	if in.FirmwareFile != nil {
		return *in.FirmwareFile
	}
	return File{bytes.NewReader(in.Firmware), int64(len(in.Firmware))}
}

// A Register is a value of one register, under the rules of all profiles that Hosts, Firmwares and Notes name.
type Register struct {
	Register  string           `json:"register"`        // mrtd, rtmr0 to rtmr3
	Label     string           `json:"label,omitempty"` // tells alternatives apart; empty when there is one value
	Digest    Digest           `json:"digest"`
	Covers    []eventlog.Part  `json:"covers,omitempty"`
	Hosts     []string         `json:"hosts,omitempty"`
	Firmwares []string         `json:"firmwares,omitempty"`
	Notes     []string         `json:"notes,omitempty"` // what else was undecided: pass, mode, form of the kernel
	Events    []eventlog.Event `json:"events"`
}

// A Lack says why a register is not computed under some rules.
type Lack struct {
	Register string   `json:"register"`
	Needs    string   `json:"needs"`
	Hosts    []string `json:"hosts,omitempty"`
	Firms    []string `json:"firmwares,omitempty"`
}

// A Result is the registers in order, alternatives side by side, and what was left out.
type Result struct {
	Registers []Register `json:"registers"`
	Lacks     []Lack     `json:"lacks,omitempty"`
}

// Compute computes the registers that in has the inputs of, under every rule set of the profile.
func Compute(in Input, p Profile) (*Result, error) {
	if err := in.check(p); err != nil {
		return nil, err
	}
	firmware := in.firmware()
	sections, err := fw.ReadTDVF(firmware.R, firmware.Size)
	if err != nil {
		return nil, err
	}
	b, mrtds, err := hashAll(in, firmware, p)
	if err != nil {
		return nil, err
	}
	c := &collector{profile: p}
	for _, m := range mrtds {
		c.add(who{note: string(m.Pass)}, "mrtd", m.Digest, m.log())
	}
	if p.GCE != nil {
		err = c.gce(in, sections, b)
	} else {
		err = c.edk2(in, sections, b)
	}
	if err != nil {
		return nil, err
	}
	c.applications(in.Events)
	return c.result(), nil
}

func (in Input) check(p Profile) error {
	switch {
	case in.Firmware != nil && in.FirmwareFile != nil:
		return errors.New("firmware and firmware file: want one of them")
	case in.firmware().Size == 0:
		return errors.New("firmware: missing")
	case p.GCE == nil && (len(p.Hosts) == 0 || len(p.Firmwares) == 0):
		return errors.New("profile: no host or no firmware")
	case in.Kernel != nil && in.KernelFile != nil:
		return errors.New("kernel and kernel file: want one of them")
	case in.kernel() && in.UKI != nil:
		return errors.New("kernel and UKI: want one of them")
	case !in.kernel() && (in.Initrd != nil || in.Cmdline != ""):
		return errors.New("initrd or command line without a kernel")
	case in.Disk != nil && in.UKI == nil:
		return errors.New("disk without a UKI")
	case in.Tables != nil && (in.ACPI != nil || in.SMBIOS != nil || in.VCPUs != 0):
		return errors.New("ACPI tables and their digests: want one of them")
	case in.BootDevice != nil && in.Disk == nil:
		return errors.New("boot device without a disk")
	case p.GCE != nil && (in.kernel() || in.UKI != nil && in.Disk == nil):
		return errors.New("gce boots a UKI from a disk: want both")
	}
	return nil
}

// kernel says whether the VMM hands over a kernel.
func (in Input) kernel() bool { return in.Kernel != nil || in.KernelFile != nil }

// forms says in which forms the profile's hosts hand over kernels.
func (p Profile) forms() []bool {
	var forms []bool
	for _, h := range p.Hosts {
		for _, f := range p.Firmwares {
			for _, patched := range h.patched(f) {
				if !slices.Contains(forms, patched) {
					forms = append(forms, patched)
				}
			}
		}
	}
	return forms
}

// edk2 adds RTMR0 to RTMR2 under each host and firmware.
func (c *collector) edk2(in Input, sections []fw.TDSection, b *boot) error {
	stub := 0
	if b != nil && b.uki != nil {
		stub = b.uki.Stub
	}
	cfv, err := configuration(in.firmware().R, sections)
	if err != nil {
		return err
	}
	var plat *platform
	if in.Memory != 0 && (in.ACPI != nil || in.Tables != nil) {
		if plat, err = readPlatform(in, sections, cfv, stub); err != nil {
			return err
		}
	} else {
		c.lack(who{}, "rtmr0", "memory size and ACPI tables")
	}
	vars, err := readStore(cfv)
	if err != nil {
		return err
	}
	for _, f := range c.profile.Firmwares {
		if err := c.firmware(f, plat, b, vars); err != nil {
			return err
		}
	}
	return nil
}

// firmware adds the registers under one firmware's rules.
func (c *collector) firmware(f Firmware, plat *platform, b *boot, vars *store) error {
	modes, err := vars.modes(f)
	if err != nil {
		return err
	}
	for _, m := range modes {
		if plat != nil {
			if err := c.rtmr0(f, plat, m, vars); err != nil {
				return err
			}
		}
		if b == nil {
			continue
		}
		for _, h := range c.profile.Hosts {
			forms := h.patched(f)
			if b.uki != nil { // no setup header to change
				forms = []bool{false}
			}
			for _, patched := range forms {
				w := who{host: h.Name, firmware: f.Name}
				if b.uki == nil {
					w.note = map[bool]string{true: "patched", false: "as-is"}[patched]
				}
				events, err := b.rtmr1(f, patched, m)
				if err := c.addEvents(w, "rtmr1", events, err); err != nil {
					return err
				}
			}
		}
	}
	if b != nil {
		return c.addEvents(who{firmware: f.Name}, "rtmr2", b.rtmr2(f), nil)
	}
	return nil
}

// rtmr0 adds RTMR0 in one mode. With Secure Boot on, each certificate of db is an alternative.
func (c *collector) rtmr0(f Firmware, p *platform, m bootMode, vars *store) error {
	w := who{firmware: f.Name, note: string(m)}
	if m != modeOn {
		events, err := p.rtmr0(f, m, nil)
		return c.addEvents(w, "rtmr0", events, err)
	}
	authorities, err := vars.authorities()
	if err != nil {
		return err
	}
	if len(authorities) == 0 {
		return errors.New("firmware: Secure Boot is on and db holds no certificate: it starts nothing")
	}
	for i := range authorities {
		w.note = fmt.Sprintf("db-certificate-%d", i+1)
		events, err := p.rtmr0(f, m, &authorities[i])
		if err := c.addEvents(w, "rtmr0", events, err); err != nil {
			return err
		}
	}
	return nil
}

// applications adds RTMR3, which nothing but applications extends.
func (c *collector) applications(digests []Digest) {
	if len(digests) == 0 {
		return
	}
	var events []eventlog.Event
	for i, d := range digests {
		events = append(events, eventlog.Event{What: fmt.Sprintf("application event %d", i+1), Digest: d[:]})
	}
	c.add(who{}, "rtmr3", Replay(events), events)
}

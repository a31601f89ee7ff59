package measure

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/tdx"
)

// tdxRegisters are the registers of a trust domain, in the order of its values.
var tdxRegisters = []string{"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"}

// tdxProfiles are the rows of the table of profiles.
func tdxProfiles() []Profile {
	row := func(name string, backing Backing, source string) Profile {
		return Profile{Name: name, Version: 1, TEE: "tdx", Registers: tdxRegisters, Covers: allParts(), Backing: backing, Source: source}
	}
	return []Profile{
		row("tdx-qemu-direct", HardwareReport, "a TDX quote of dstack (RTMR1, RTMR2), two published guests (RTMR0); edk2 from 202505 on: real boots without TDX"),
		row("tdx-qemu-uki", SourceReading, "its events one by one: real boots without TDX, by the log of a software TPM; order and GPT: the log of a TDX guest"),
		row("tdx-gce-uki", HardwareReport, "a TDX quote of a c3-standard-4 of 2026-06 (RTMR0 to RTMR2); other shapes: flashbots/dstack-mr-gcp, from guests' logs; order, keys and GPT: the log of a TDX guest with its quote"),
	}
}

// tdxProfile names the profile of a platform.
func (p Platform) tdxProfile() string {
	if r, err := tdx.ParseProfile(p.Rules); err == nil && r.GCE != nil {
		return "tdx-gce-uki"
	}
	return "tdx-qemu-" + p.Boot
}

// tdx computes the registers of each shape of a trust domain.
func (a *Artifacts) tdx(p Profile) ([]Value, error) {
	rules, err := p.Platform.tdxRules()
	if err != nil {
		return nil, err
	}
	if _, err := rootHash(a.Cmdline); err != nil {
		return nil, err
	}
	in := tdx.Input{Firmware: a.FirmwareBytes, Events: p.Platform.Events, Hashes: a.hashes}
	if f := a.Static.firmware(p.Platform.Firmware); f != nil {
		in.Measured = f.TDX
	}
	if in.BootDevice, err = p.Platform.diskSlot(); err != nil {
		return nil, err
	}
	if p.Platform.Boot == bootDirect {
		in.Kernel, in.Initrd, in.Cmdline = a.Kernel, a.InitrdFile, a.Cmdline
	} else {
		in.UKI, in.Disk = a.UKI, a.Disk
	}
	var values []Value
	for _, s := range p.Platform.Shapes {
		in.Memory, in.Tables = s.Memory<<20, s.ACPI
		one, err := a.tdxShape(p, in, rules)
		if err != nil {
			return nil, fmt.Errorf("%d vcpus, %d MiB: %w", s.VCPUs, s.Memory, err)
		}
		for i := range one {
			one[i].Platform.Shapes = []TDXShape{s}
		}
		values = append(values, one...)
	}
	return values, nil
}

// tdxShape computes the registers of one shape; each must be decided.
func (a *Artifacts) tdxShape(p Profile, in tdx.Input, rules tdx.Profile) ([]Value, error) {
	r, err := tdx.Compute(in, rules)
	if err != nil {
		return nil, err
	}
	if len(r.Lacks) > 0 {
		return nil, fmt.Errorf("%s needs %s", r.Lacks[0].Register, r.Lacks[0].Needs)
	}
	var values []Value
	for _, name := range p.Registers {
		v := Value{Platform: p.Platform, Profile: p.ID(), Register: name, Covers: []Part{}}
		for _, x := range r.Registers {
			if x.Register != name {
				continue
			}
			if x.Label != "" {
				return nil, fmt.Errorf("%s: the rules leave it open: %s", name, x.Label)
			}
			v.Digest, v.Covers = x.Digest[:], x.Covers
			for _, e := range x.Events {
				v.Events = append(v.Events, tdxRoot(e, p.Platform.Boot))
			}
		}
		if name == "mrtd" {
			v.Events = nil // pages, not events
		} else if err := v.replay(); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// tdxRoot adds the root file system to the event that fixes it: the UKI, or the command line of a kernel
// whose initrd stands beside it in RTMR2.
func tdxRoot(e eventlog.Event, boot string) eventlog.Event {
	if e = withRoot(e); boot == bootDirect && slices.Contains(e.Covers, PartCmdline) {
		e.Covers = append(slices.Clone(e.Covers), PartRoot)
	}
	return e
}

// recomputeTDX holds the values of one platform to their own events, and those to the static part and to the
// shape.
func (s *Static) recomputeTDX(p Profile, values []Value) error {
	f := s.firmware(p.Platform.Firmware)
	if f == nil || f.TDX == nil {
		return fmt.Errorf("firmware %.40q: not measured", p.Platform.Firmware)
	}
	rules, err := p.Platform.tdxRules()
	if err != nil {
		return err
	}
	if len(values) != len(p.Platform.Shapes)*len(p.Registers) {
		return fmt.Errorf("%d values, want %d registers of %d shapes", len(values), len(p.Registers), len(p.Platform.Shapes))
	}
	for i, v := range values {
		again := v
		again.Register, again.Profile, again.Mark = p.Registers[i%len(p.Registers)], p.ID(), p.Mark
		again.Platform.Shapes = p.Platform.Shapes[i/len(p.Registers):][:1]
		if again.Register == "mrtd" {
			d := f.TDX.MRTD(mrtdPass(rules))
			again.Digest, again.Covers, again.Events = d[:], []Part{PartFirmware}, nil
		} else if err := again.replay(); err != nil {
			return err
		}
		if !reflect.DeepEqual(v, again) {
			return &MismatchError{v, again}
		}
		if err := s.checkTDXEvents(v, f.TDX, rules); err != nil {
			return err
		}
	}
	return nil
}

func mrtdPass(rules tdx.Profile) tdx.Pass {
	if rules.GCE != nil {
		return tdx.SinglePass
	}
	return rules.Hosts[0].Passes[0]
}

// checkTDXEvents holds the events that follow from static part and shape to them.
func (s *Static) checkTDXEvents(v Value, f *tdx.Measured, rules tdx.Profile) error {
	var want []eventlog.Event
	switch v.Register {
	case "rtmr0":
		var err error
		if want, err = tdxMachine(v.Platform, f, rules); err != nil {
			return err
		}
	case "rtmr2":
		release := 0
		if v.Platform.Boot == bootDirect {
			release = rules.Firmwares[0].Release
		}
		// The last but one, whatever it is called: a section of the UKI could hold the text that is claimed.
		if d, i := tdx.LoadOptions(release, s.Cmdline), len(v.Events)-2; i < 0 || !bytes.Equal(v.Events[i].Digest, d[:]) {
			return unfounded("rtmr2: no event \"load options\" before the initrd has the digest that follows from the command line, %s", d)
		}
	case "rtmr3":
		return v.checkApplications()
	}
	for _, w := range want {
		named := func(e eventlog.Event) bool { return e.What == w.What }
		other := func(e eventlog.Event) bool { return named(e) && !bytes.Equal(e.Digest, w.Digest) }
		if !slices.ContainsFunc(v.Events, named) || slices.ContainsFunc(v.Events, other) {
			return unfounded("%s: no event %q has the digest that follows from the inputs, %s", v.Register, w.What, w.Digest)
		}
	}
	return nil
}

// tdxMachine is what of RTMR0 follows from firmware and shape.
func tdxMachine(p Platform, f *tdx.Measured, rules tdx.Profile) ([]eventlog.Event, error) {
	want := []eventlog.Event{{What: "configuration firmware volume", Digest: f.CFV[:]}}
	if rules.GCE != nil {
		return want, nil
	}
	shape := p.Shapes[0]
	hob, err := f.HandOff(shape.Memory << 20)
	if err != nil {
		return nil, err
	}
	want = append(want, eventlog.Event{What: "TD HOB", Digest: hob[:]})
	want = append(want, shape.ACPI.ACPIEvents()...)
	disk, err := p.diskSlot()
	if err != nil {
		return nil, err
	}
	return append(want, rules.Firmwares[0].MachineEvents(shape.ACPI, disk)...), nil
}

// checkApplications holds the events of RTMR3, one by one, to what the platform declares.
func (v *Value) checkApplications() error {
	if len(v.Events) != len(v.Platform.Events) {
		return unfounded("rtmr3: %d events, the platform declares %d", len(v.Events), len(v.Platform.Events))
	}
	for i, d := range v.Platform.Events {
		if e := v.Events[i]; !bytes.Equal(e.Digest, d[:]) {
			return unfounded("rtmr3: event %d (%.80q) has not the digest that the platform declares, %s", i+1, e.What, d)
		}
	}
	return nil
}

// tdxShapes returns the platform that the first of values are registers of shapes of, and how many there are.
func tdxShapes(values []Value) (Platform, int) {
	first := values[0].Platform
	p, n := first, 0
	p.Shapes = nil
	for _, v := range values {
		same := v.Platform
		same.Shapes = first.Shapes
		if len(v.Platform.Shapes) != 1 || !reflect.DeepEqual(same, first) {
			break
		}
		if n%len(tdxRegisters) == 0 {
			p.Shapes = append(p.Shapes, v.Platform.Shapes[0])
		}
		n++
	}
	return p, n
}

package measure

import (
	"fmt"
	"reflect"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/ffs"
	"tally/measure/pcr"
)

// vtpmRegisters lists the PCRs that the reference values of a UKI boot hold, ascending. 0 stands before them where
// the firmware is named; 1 belongs to the machine, 10 to IMA; 2, 3, 6, 8, 14 and 15 hold nothing of an image.
func vtpmRegisters() []string {
	var all []string
	for _, n := range []int{4, 5, 7, 9, 11, 12, 13} {
		all = append(all, eventlog.PCR(n))
	}
	return all
}

// vtpm computes the PCRs of a UKI boot.
func (a *Artifacts) vtpm(p Profile) ([]Value, error) {
	if a.UKI == nil || a.Disk == nil {
		return nil, fmt.Errorf("tee vtpm: the image has no UKI and disk")
	}
	r, err := pcr.Boot(pcr.Input{UKI: a.UKI, Disk: a.Disk, SecureBoot: p.Platform.SecureBoot, Phases: p.Platform.Phases, Hashes: a.hashes}, p.Platform.Bank)
	if err != nil {
		return nil, err
	}
	if r.Cmdline != a.Cmdline {
		return nil, fmt.Errorf("UKI: command line %.80q, the image's is %.80q", r.Cmdline, a.Cmdline)
	}
	if _, err := rootHash(a.Cmdline); err != nil {
		return nil, err
	}
	own, err := a.Static.firmwareEvents(p.Platform)
	if err != nil {
		return nil, err
	}
	r.Events = append(own, r.Events...)
	var values []Value
	for _, reg := range p.Registers {
		v := Value{Platform: p.Platform, Profile: p.ID(), Register: reg}
		for _, e := range r.Events {
			if e.Register == reg {
				v.Events = append(v.Events, withRoot(e))
			}
		}
		if err := v.replay(); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// withRoot adds the root file system to an event that fixes the command line and the initrd that enforces
// its root hash, or all of a UKI.
func withRoot(e eventlog.Event) eventlog.Event {
	e.Others = nil
	if slices.Contains(e.Covers, PartCmdline) && slices.Contains(e.Covers, PartInitrd) {
		e.Covers = append(slices.Clone(e.Covers), PartRoot)
	}
	return e
}

// replay sets a value's digest and coverage from its events.
func (v *Value) replay() error {
	a := v.Platform.Bank.Algorithm()
	if v.Platform.TEE == "tdx" {
		a = eventlog.SHA384
	}
	if a.New() == nil {
		return fmt.Errorf("bank %.20q: unknown", v.Platform.Bank)
	}
	v.Digest, v.Covers = make(eventlog.Digest, a.New().Size()), []Part{}
	for i, e := range v.Events {
		if e.Register != v.Register || len(e.Digest) != a.New().Size() {
			return fmt.Errorf("event %d of %s: register %.20q, digest of %d bytes", i+1, v.Register, e.Register, len(e.Digest))
		}
		v.Digest = eventlog.Extend(a, v.Digest, e.Digest)
		for _, p := range e.Covers {
			if !slices.Contains(allParts(), p) {
				return fmt.Errorf("event %d of %s covers %.20q, want one of %v", i+1, v.Register, p, allParts())
			}
			if !slices.Contains(v.Covers, p) {
				v.Covers = append(v.Covers, p)
			}
		}
	}
	return nil
}

// recomputeVTPM holds the values of one platform to their own events, and those to the command line.
func (s *Static) recomputeVTPM(p Profile, values []Value) error {
	if len(values) != len(p.Registers) {
		return fmt.Errorf("%d registers, want %v", len(values), p.Registers)
	}
	for i, v := range values {
		again := v
		if err := again.replay(); err != nil {
			return err
		}
		if err := s.checkCmdlineEvents(v); err != nil {
			return err
		}
		if v.Register == eventlog.PCR(0) {
			own, err := s.firmwareEvents(v.Platform)
			if err != nil {
				return err
			}
			if !reflect.DeepEqual(v.Events, own) {
				return unfounded("%s: events are not those of firmware %.40q", v.Register, v.Platform.Firmware)
			}
		}
		again.Register, again.Profile, again.Mark = p.Registers[i], p.ID(), p.Mark
		if !reflect.DeepEqual(v, again) {
			return &MismatchError{v, again}
		}
	}
	return nil
}

// firmwareEvents are those of PCR 0; none for a platform that names no firmware.
func (s *Static) firmwareEvents(p Platform) ([]eventlog.Event, error) {
	if p.Firmware == "" {
		return nil, nil
	}
	f := s.firmware(p.Firmware)
	if f == nil || f.VTPM == nil {
		return nil, fmt.Errorf("firmware %q: not measured", p.Firmware)
	}
	if needs := f.VTPM.NeedsMachine(); needs != (p.Machine != "") {
		want := "want it absent: PCR 0 of that firmware does not depend on it"
		if needs {
			want = "want the machine type that PCR 0 of that firmware depends on"
		}
		return nil, fmt.Errorf("firmware %.40q, machine %.20q: %s", p.Firmware, p.Machine, want)
	}
	return f.VTPM.Events(p.Bank, p.Machine)
}

// checkCmdlineEvents holds the events that fix the UKI's command line to the static part: in PCR 11 the one behind the
// section's name, in PCR 9 the first. They are found by digest and place, since what an event is called enters no
// register: another section could hold the text that is claimed.
func (s *Static) checkCmdlineEvents(v Value) error {
	sum := func(data []byte) string {
		h := v.Platform.Bank.Algorithm().New()
		h.Write(data)
		return eventlog.Digest(h.Sum(nil)).String()
	}
	var found []string
	want := sum([]byte(s.Cmdline))
	switch v.Register {
	case eventlog.PCR(9):
		want = sum(ffs.UTF16(s.Cmdline))
		if len(v.Events) > 0 {
			found = append(found, v.Events[0].Digest.String())
		}
	case eventlog.PCR(11):
		name := sum([]byte(".cmdline\x00"))
		for i, e := range v.Events[:max(0, len(v.Events)-1)] {
			if e.Digest.String() == name {
				found = append(found, v.Events[i+1].Digest.String())
			}
		}
	default:
		return nil
	}
	if !slices.Equal(found, []string{want}) {
		return unfounded("%s: the command line's event has not the digest of the command line, %s", v.Register, want)
	}
	return nil
}

package measure

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"tally/measure/eventlog"
	"tally/measure/pcr"
	"tally/measure/snp"
	"tally/measure/tdx"
)

// Schema names the format of reference-values.json (SPEC.md).
const Schema = "tally.reference-values/v1"

// maxValues is the size in bytes above which reference values are refused unread.
const maxValues = 16 << 20

// A Hash is a SHA-256 (32 bytes), lower-case hex in text.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText wants 64 lower-case hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 64 || string(bytes.ToLower(b)) != string(b) {
		return fmt.Errorf("hash %.80q: want 64 lower-case hex digits", b)
	}
	if _, err := hex.Decode(h[:], b); err != nil {
		return fmt.Errorf("hash %.80q: want 64 lower-case hex digits", b)
	}
	return nil
}

// ReferenceValues are the expected measurements of one image: what does not depend on the machine's
// shape, and one value a shape.
type ReferenceValues struct {
	Schema  string  `json:"schema"`
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Static  Static  `json:"static"`
	Values  []Value `json:"values"` // in the order of the platforms, shapes ascending
}

// Static is what all values of an image are computed from: with it anybody recomputes them without the
// image (Recompute).
type Static struct {
	Kernel   Hash       `json:"kernel_sha256"`
	Initrd   Hash       `json:"initrd_sha256"`
	UKI      *Hash      `json:"uki_sha256,omitempty"` // only where a platform is handed the UKI as its kernel
	Cmdline  string     `json:"cmdline"`
	Firmware []Firmware `json:"firmware"`
}

// A Firmware is one firmware, reduced to what enters a measurement.
type Firmware struct {
	Name   string        `json:"name"`
	SHA256 Hash          `json:"sha256"`
	SNP    *snp.Firmware `json:"snp,omitempty"`  // when a platform of snp uses it
	TDX    *tdx.Measured `json:"tdx,omitempty"`  // when a platform of tdx does
	VTPM   *pcr.Firmware `json:"vtpm,omitempty"` // when a platform of vtpm does
	SVSM   []SVSM        `json:"svsm,omitempty"` // when a platform of snp starts it under another
	IGVM   *IGVM         `json:"igvm,omitempty"` // when a platform of snp starts from it
}

// A Part is something that a reference value covers. A client wants all five proven together.
type Part = eventlog.Part

// The parts.
const (
	PartFirmware = eventlog.PartFirmware
	PartKernel   = eventlog.PartKernel
	PartInitrd   = eventlog.PartInitrd
	PartCmdline  = eventlog.PartCmdline
	PartRoot     = eventlog.PartRoot
)

// A Value is what one platform in one shape reports in one register.
type Value struct {
	Platform Platform        `json:"platform"` // with one entry in VCPUs, where shapes differ by them
	Profile  string          `json:"profile"`  // name and version of the rules, see Profiles
	Register string          `json:"register"` // launch_digest, pcr4, …
	Digest   eventlog.Digest `json:"digest"`
	Covers   []Part          `json:"covers"`
	Mark     string          `json:"mark,omitempty"` // FirmwareOnly, or nothing

	// Events are what extends the register, in order, for those that are extended event by event.
	Events []eventlog.Event `json:"events,omitempty"`
}

// A MismatchError says that a value does not follow from its own inputs.
type MismatchError struct{ Says, Gives Value }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("says %s %s (profile %s), its own inputs give %s %s (profile %s)", e.Says.Register, e.Says, e.Says.Profile, e.Gives.Register, e.Gives, e.Gives.Profile)
}

// Is makes it an ErrUnfounded.
func (e *MismatchError) Is(target error) bool { return target == ErrUnfounded }

// ErrUnfounded is what every error of Recompute and Parse is (errors.Is) that says that a value does not follow from its
// own inputs: a *MismatchError, or one of an event behind the value.
var ErrUnfounded = errors.New("a value does not follow from its inputs")

type unfoundedError struct{ error }

func (e unfoundedError) Is(target error) bool { return target == ErrUnfounded }
func (e unfoundedError) Unwrap() error        { return e.error }

func unfounded(format string, args ...any) error { return unfoundedError{fmt.Errorf(format, args...)} }

func (s *Static) firmware(name string) *Firmware {
	for i := range s.Firmware {
		if s.Firmware[i].Name == name {
			return &s.Firmware[i]
		}
	}
	return nil
}

// Launches computes the launch of each shape of p, with the events behind it.
func (s *Static) Launches(p Platform) ([]*snp.Launch, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.IGVM != "" {
		return s.igvmLaunches(p)
	}
	f := s.firmware(p.Firmware)
	if f == nil || f.SNP == nil {
		return nil, fmt.Errorf("firmware %q: not measured", p.Firmware)
	}
	if p.SVSM != "" {
		return s.svsmLaunches(p, f.SNP)
	}
	in := snp.Input{VMM: p.VMM, Firmware: f.SNP, Features: p.GuestFeatures}
	if p.VMM.NeedsVCPU() {
		var err error
		if in.Signature, err = snp.VCPUSignature(p.VCPUType); err != nil {
			return nil, err
		}
	}
	switch {
	case p.Boot == bootUKI && s.UKI == nil:
		return nil, errors.New("uki_sha256: missing: a platform is handed the UKI")
	case p.Boot == bootUKI:
		in.Hashes = &snp.KernelHashes{Kernel: *s.UKI, Initrd: snp.NoInitrd(), Cmdline: snp.HashCmdline("")}
	case p.KernelHashes:
		in.Hashes = &snp.KernelHashes{Kernel: s.Kernel, Initrd: s.Initrd, Cmdline: snp.HashCmdline(s.Cmdline)}
	}
	return snp.MeasureShapes(in, p.VCPUs)
}

// Recompute computes every value again from the static part and its own events, and returns an error that
// names the first one that differs, a *MismatchError. The values of a platform stand together: shapes
// ascending, registers in the profile's order, each once.
func (rv *ReferenceValues) Recompute() error {
	if err := rv.Static.check(); err != nil {
		return err
	}
	if used := slices.ContainsFunc(rv.Values, func(v Value) bool { return v.Platform.TEE == "snp" && v.Platform.Boot == bootUKI }); used != (rv.Static.UKI != nil) {
		return errors.New("uki_sha256: want it where a platform is handed the UKI, and only there")
	}
	seen := map[string]bool{}
	for rest := rv.Values; len(rest) > 0; {
		p, n := shapes(rest)
		at := len(rv.Values) - len(rest)
		if seen[p.Name] || len(seen) == maxPlatforms {
			return fmt.Errorf("value %d (%s): platform again, or more than %d platforms", at, p.Name, maxPlatforms)
		}
		seen[p.Name] = true
		if err := rv.Static.recompute(p, rest[:n]); err != nil {
			return fmt.Errorf("value %d (%s): %w", at, p.Name, err)
		}
		rest = rest[n:]
	}
	return nil
}

// recompute computes the values of one platform again.
func (s *Static) recompute(p Platform, values []Value) error {
	profile, err := p.Profile()
	if err != nil {
		return err
	}
	switch p.TEE {
	case "tdx":
		return s.recomputeTDX(profile, values)
	case "vtpm":
		return s.recomputeVTPM(profile, values)
	}
	again, err := s.snp(profile)
	if errors.Is(err, ErrCmdline) {
		return unfoundedError{err} // coverage of the root file system, without its hash
	}
	if err != nil {
		return err
	}
	for i, want := range again {
		if !reflect.DeepEqual(values[i], want) {
			return &MismatchError{values[i], want}
		}
	}
	return nil
}

// shapes returns the platform that the first of values are shapes or registers of, and how many there are.
func shapes(values []Value) (Platform, int) {
	first := values[0].Platform
	if first.TEE == "tdx" {
		return tdxShapes(values)
	}
	if first.TEE != "snp" {
		n := 1
		for n < len(values) && reflect.DeepEqual(values[n].Platform, first) {
			n++
		}
		return first, n
	}
	p, n := first, 0
	p.VCPUs = nil
	for _, v := range values {
		same := v.Platform
		same.VCPUs = first.VCPUs
		if len(v.Platform.VCPUs) != 1 || !reflect.DeepEqual(same, first) {
			break
		}
		p.VCPUs = append(p.VCPUs, v.Platform.VCPUs[0])
		n++
	}
	return p, n
}

// check holds the static part to what Image writes.
func (s *Static) check() error {
	if err := checkCmdline([]byte(s.Cmdline)); err != nil {
		return fmt.Errorf("cmdline: %w", err)
	}
	seen := map[string]bool{}
	for _, f := range s.Firmware {
		if f.SNP == nil && f.TDX == nil && f.VTPM == nil && f.SVSM == nil && f.IGVM == nil || seen[f.Name] {
			return fmt.Errorf("firmware %.40q: twice, or without its measurement", f.Name)
		}
		if err := f.VTPM.Check(); err != nil {
			return fmt.Errorf("firmware %.40q: vtpm: %w", f.Name, err)
		}
		seen[f.Name] = true
	}
	return nil
}

// String says in which shape a value holds, for messages and tables.
func (v Value) String() string {
	parts := make([]string, len(v.Covers))
	for i, c := range v.Covers {
		parts[i] = string(c)
	}
	shape := strings.Trim(fmt.Sprint(v.Platform.VCPUs), "[]") + " vcpus"
	if v.Platform.TEE == "tdx" && len(v.Platform.Shapes) == 1 {
		shape = fmt.Sprintf("%d vcpus %d MiB %s", v.Platform.Shapes[0].VCPUs, v.Platform.Shapes[0].Memory, v.Register)
	} else if v.Platform.TEE == "vtpm" {
		shape = fmt.Sprintf("%s %s", v.Register, v.Platform.Bank)
	}
	covers := "nothing" // of the image
	if len(parts) > 0 {
		covers = strings.Join(parts, ", ")
	}
	return fmt.Sprintf("%s %s %s (covers %s)", v.Platform.Name, shape, v.Digest, covers)
}

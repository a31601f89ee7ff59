package gpu

import (
	"fmt"
	"strconv"
	"strings"
)

// Driver returns the driver's version as the report states it, such as "550.90.07"; a switch has none.
func (r *Report) Driver() (string, error) { return r.text(FieldDriver, "driver version") }

// VBIOS returns the version of the VBIOS in the vendor's form, such as "96.00.5E.00.01". A switch states
// the text itself; a GPU eight bytes, of which the fourth to first and the fifth are the parts.
func (r *Report) VBIOS() (string, error) {
	v, ok := r.Opaque[FieldVBIOS]
	if !ok {
		return "", fmt.Errorf("report: no VBIOS version (field %d)", FieldVBIOS)
	}
	if len(v) == 8 && v[5] == 0 && v[6] == 0 && v[7] == 0 {
		return fmt.Sprintf("%02X.%02X.%02X.%02X.%02X", v[3], v[2], v[1], v[0], v[4]), nil
	}
	s, err := r.text(FieldVBIOS, "VBIOS version")
	if err == nil {
		_, err = parseVersion(s, 16)
	}
	return strings.ToUpper(s), err
}

// text is a field of printable characters, padded with NUL bytes.
func (r *Report) text(f Field, what string) (string, error) {
	v, ok := r.Opaque[f]
	s := strings.TrimRight(string(v), "\x00")
	if !ok || s == "" || len(s) > 64 {
		return "", fmt.Errorf("report: no %s (field %d)", what, f)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return "", fmt.Errorf("report: %s %q: want printable characters", what, s)
		}
	}
	return s, nil
}

// A Mode is the mode of confidential computing that a report states.
type Mode string

// The modes. Reports of older drivers state none, or only whether it is PPCIE.
const (
	ModeUnstated Mode = "unstated"
	ModeSPT      Mode = "spt"   // one GPU to one guest
	ModeMPT      Mode = "mpt"   // several GPUs to one guest, the links between them encrypted
	ModePPCIE    Mode = "ppcie" // GPUs and switches to one guest, the links between them trusted
)

// protectedOn and protectedOff are the values of FieldProtected.
const protectedOn, protectedOff = 0xaa, 0x55

// Mode returns the mode of confidential computing. A mode that is not known is an error, and so are two fields that contradict each
// other: what goes over the links would be trusted to be encrypted, or not, by the word of one of them. What the numbers mean was read off
// reports: an H100 alone, whose family has no MPT, says 0, eight B200 in one guest say 1. The vendor's SDK of June 2026 has the
// two names the other way about, in a claim that it does not hand out; Google's verifier has them as here.
func (r *Report) Mode() (Mode, error) {
	p, stated := r.Opaque[FieldProtected]
	if stated && (len(p) != 1 || p[0] != protectedOn && p[0] != protectedOff) {
		return "", fmt.Errorf("report: protected PCIe %.16x, want %#02x or %#02x", p, protectedOn, protectedOff)
	}
	v, ok := r.Opaque[FieldFeatureFlags]
	switch {
	case !ok && stated && p[0] == protectedOn:
		return ModePPCIE, nil
	case !ok:
		return ModeUnstated, nil
	}
	flags := uint64(0)
	if len(v) == 0 || len(v) > 8 {
		return "", fmt.Errorf("report: feature flags of %d bytes, want 1 to 8", len(v))
	}
	for i, c := range v {
		flags |= uint64(c) << (8 * i)
	}
	if flags > 2 {
		return "", fmt.Errorf("report: feature flags %d, want 0 (SPT), 1 (MPT) or 2 (PPCIE)", flags)
	}
	mode := []Mode{ModeSPT, ModeMPT, ModePPCIE}[flags]
	if stated && (p[0] == protectedOn) != (mode == ModePPCIE) {
		return "", fmt.Errorf("report: feature flags %d (%s), and protected PCIe %#02x", flags, mode, p[0])
	}
	return mode, nil
}

// compareVersions orders two versions of parts divided by dots, in the base of their parts: 10 for
// drivers, 16 for VBIOSes. A missing part is 0.
func compareVersions(a, b string, base int) (int, error) {
	x, err := parseVersion(a, base)
	if err != nil {
		return 0, err
	}
	y, err := parseVersion(b, base)
	if err != nil {
		return 0, err
	}
	for i := range max(len(x), len(y)) {
		if p, q := part(x, i), part(y, i); p != q {
			if p < q {
				return -1, nil
			}
			return 1, nil
		}
	}
	return 0, nil
}

func part(v []uint64, i int) uint64 {
	if i < len(v) {
		return v[i]
	}
	return 0
}

func parseVersion(s string, base int) (parts []uint64, err error) {
	for p := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(p, base, 32)
		if err != nil || len(parts) == 8 || p[0] == '+' {
			return nil, fmt.Errorf("version %.40q: want at most eight numbers of base %d divided by dots", s, base)
		}
		parts = append(parts, n)
	}
	return parts, nil
}

// CheckDriverVersion returns an error unless s can be a driver's version, such as 550.90.07.
func CheckDriverVersion(s string) error { _, err := parseVersion(s, 10); return err }

// CheckVBIOSVersion returns an error unless s can be a VBIOS's version, such as 96.00.5E.00.01.
func CheckVBIOSVersion(s string) error { _, err := parseVersion(s, 16); return err }

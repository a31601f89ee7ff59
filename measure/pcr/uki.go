package pcr

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"tally/internal/pattern"
	"tally/measure/eventlog"
	"tally/measure/internal/pe"
)

// measured are the sections that the stub measures into PCR 11, in its order (UAPI group, UKI
// specification), the part of the image that each holds, and the first release that does (systemd
// src/fundamental/tpm-pcr.h, later uki.h). Before 254 the .sbat that every stub brings along was left out.
var measured = []struct {
	name  string
	part  eventlog.Part
	since int
}{
	{".linux", eventlog.PartKernel, 252}, {".osrel", "", 252}, {".cmdline", eventlog.PartCmdline, 252}, {".initrd", eventlog.PartInitrd, 252},
	{".ucode", eventlog.PartInitrd, 256}, {".splash", "", 252}, {".dtb", "", 252}, {".uname", "", 254}, {".sbat", "", 254}, {".pcrpkey", "", 252},
}

// unsupported are sections that change what is measured and that no rule here covers.
var unsupported = []string{".dtbauto", ".hwids", ".profile", ".efifw"}

// extras are the sections that the stub hands to the initrd as /.extra/NAME, in its order, with the first
// release that does (systemd src/boot/stub.c, generate_embedded_initrds).
var extras = []struct {
	section, name string
	since         int
}{{".pcrsig", "tpm2-pcr-signature.json", 252}, {".pcrpkey", "tpm2-pcr-public-key.pem", 252}, {".osrel", "os-release", 257}}

// A uki is a unified kernel image, taken apart.
type uki struct {
	image    *pe.Image
	stub     int // release of systemd's stub
	sections map[string][]byte
}

var stubVersion = pattern.New(`^#### LoaderInfo: systemd-stub ([0-9]+)[^#]* ####`)

func readUKI(b []byte) (*uki, error) {
	im, err := pe.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("UKI: %w", err)
	}
	if err := im.Apart(); err != nil {
		return nil, fmt.Errorf("UKI: %w", err) // the stub reads its sections where they are loaded
	}
	u := &uki{image: im, sections: map[string][]byte{}}
	for _, s := range im.Sections {
		if slices.Contains(unsupported, s.Name) {
			return nil, fmt.Errorf("UKI: section %q: what it measures is not known here", s.Name)
		}
	}
	names := []string{".sdmagic", ".pcrsig"}
	for _, m := range measured {
		names = append(names, m.name)
	}
	for _, name := range names {
		if u.sections[name], err = im.Data(name); err != nil {
			return nil, fmt.Errorf("UKI: %w", err)
		}
	}
	for _, name := range []string{".linux", ".cmdline", ".initrd"} {
		if u.sections[name] == nil {
			return nil, fmt.Errorf("UKI: no section %q", name)
		}
	}
	// The stub turns control characters into spaces and drops outer ones, not in every release alike.
	if t := string(u.sections[".cmdline"]); strings.TrimSpace(t) != t || strings.ContainsFunc(t, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return nil, fmt.Errorf("UKI: section .cmdline %.120q: want printable ASCII without spaces around", t)
	}
	return u, u.readStub()
}

// Cmdline returns the command line in a UKI.
func Cmdline(image []byte) (string, error) {
	u, err := readUKI(image)
	if err != nil {
		return "", err
	}
	return string(u.sections[".cmdline"]), nil
}

// readStub finds the release of the stub.
func (u *uki) readStub() (err error) {
	m := stubVersion.FindSubmatch(u.sections[".sdmagic"])
	if m == nil {
		return fmt.Errorf("UKI: .sdmagic %.80q names no systemd-stub release", u.sections[".sdmagic"])
	}
	if u.stub, err = strconv.Atoi(string(m[1])); err != nil || u.stub < 252 || u.stub > 262 {
		return fmt.Errorf("UKI: systemd-stub %s: want 252 to 262: what other releases measure is not known here", m[1])
	}
	if u.stub < 256 && u.sections[".ucode"] != nil {
		return fmt.Errorf("UKI: section %q: systemd-stub %d does not know it, 256 and later do", ".ucode", u.stub)
	}
	return nil
}

// sections measures the sections of the UKI and the boot phases into PCR 11.
func (l *eventLog) sections(u *uki, phases []string) {
	for _, m := range measured {
		data := u.sections[m.name]
		if data == nil || u.stub < m.since {
			continue
		}
		l.measure(11, m.name+" (name)", []byte(m.name), []byte{0})
		e := l.measure(11, m.name+" (content)", data)
		if m.part != "" {
			e.Covers = []eventlog.Part{m.part}
		}
	}
	for _, p := range phases {
		l.measure(11, "phase "+p, []byte(p))
	}
}

// assumptions lists the units that extend registers after the kernel has started (systemd
// docs/TPM2_PCR_MEASUREMENTS.md and its NEWS): with the phases named, the next word must not come.
func assumptions(phases []string) []string {
	first := "systemd-pcrphase*.service are masked or absent: no boot phase is measured (PCR 11)"
	if len(phases) > 0 {
		first = "no boot phase after " + phases[len(phases)-1] + " is measured yet (systemd-pcrphase*.service, PCR 11)"
	}
	return []string{first,
		"systemd-pcrmachine.service and systemd-pcrfs*.service are masked or absent (PCR 15)",
		"systemd-tpm2-setup*.service of 259 and later sets up no NvPCR (PCR 9)",
		"systemd-pcrosseparator.service of 261 and later is masked or absent (PCR 0 to 7, 9, 12 to 14)",
		"the host passes no addon, credential or extra command line (PCR 12, 13)",
		"the firmware loads no driver from a device's option ROM (PCR 2)"}
}

// CheckPhases refuses what cannot be a boot phase word: systemd-measure separates them with colons.
func CheckPhases(phases []string) error {
	for _, p := range phases {
		if p == "" || len(p) > 64 || strings.ContainsFunc(p, func(r rune) bool { return r <= 0x20 || r > 0x7e || r == ':' }) {
			return fmt.Errorf("phase %.80q: want a word such as enter-initrd", p)
		}
	}
	return nil
}

// kernel measures what the stub hands on: the inner kernel, its command line, the initrd. With Secure Boot on
// the stub vouches for the kernel itself and the firmware measures none.
func (l *eventLog) kernel(u *uki, secureBoot bool) error {
	if u.stub < 258 && !secureBoot {
		inner, err := pe.Parse(u.sections[".linux"])
		if err != nil {
			return fmt.Errorf("section .linux: %w", err)
		}
		l.image(4, ".linux", inner).Covers = []eventlog.Part{eventlog.PartKernel}
	}
	text := string(u.sections[".cmdline"])
	e := l.measure(9, "load options", utf16z(text))
	e.Covers = []eventlog.Part{eventlog.PartCmdline}
	e.Others = []eventlog.Other{
		{Cause: "the kernel got no command line", Digest: l.digest(utf16z(""))},
		{Cause: "started by -kernel through OVMF before 202508, which appends initrd=initrd", Digest: l.digest(utf16z(text + " initrd=initrd"))},
		{Cause: "started by -kernel through OVMF 202508 or later, which puts initrd=initrd in front", Digest: l.digest(utf16z("initrd=initrd " + text))},
	}
	e = l.measure(9, "initrd", u.initrd(u.stub)...)
	e.Covers = []eventlog.Part{eventlog.PartInitrd}
	e.Others = []eventlog.Other{
		{Cause: "systemd's stub before 257 built the initrd, without /.extra/os-release", Digest: l.digest(u.initrd(256)...)},
		{Cause: "systemd's stub 257 or later built the initrd, with /.extra/os-release", Digest: l.digest(u.initrd(257)...)},
		{Cause: "the kernel got the plain initrd, without what systemd's stub adds", Digest: l.digest(u.sections[".initrd"])},
	}
	return nil
}

// initrd is what a stub of the given release hands to the kernel: microcode, the UKI's initrd and what it
// makes of other sections, each padded to four bytes; the initrd alone as it is. The parts follow each other.
func (u *uki) initrd(stub int) [][]byte {
	parts := [][]byte{u.sections[".initrd"]}
	if ucode := u.sections[".ucode"]; ucode != nil {
		parts = [][]byte{ucode, u.sections[".initrd"]}
	}
	for _, x := range extras {
		if data := u.sections[x.section]; data != nil && stub >= x.since {
			parts = append(parts, extraCPIO(x.name, data))
		}
	}
	if len(parts) == 1 {
		return parts
	}
	var padded [][]byte
	for _, p := range parts {
		padded = append(padded, p, make([]byte, (4-len(p)%4)%4))
	}
	return padded
}

// utf16z is s as UEFI passes load options: UTF-16LE with a NUL.
func utf16z(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// extraCPIO is the archive in which a stub hands one file on: /.extra/name (systemd src/boot/cpio.c).
func extraCPIO(name string, data []byte) []byte {
	var b bytes.Buffer
	rec := func(ino, mode uint32, name string, data []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, (4-b.Len()%4)%4))
		b.Write(data)
		b.Write(make([]byte, (4-b.Len()%4)%4))
	}
	rec(1, 0o40555, ".extra", nil)
	rec(2, 0o100444, ".extra/"+name, data)
	b.WriteString("070701" + strings.Repeat("00000000", 4) + "00000001" + strings.Repeat("00000000", 6) + "0000000B" + "00000000" + "TRAILER!!!\x00\x00\x00\x00")
	return b.Bytes()
}

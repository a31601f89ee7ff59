package pcr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"tally/measure/internal/pe"
)

// A SecureBootForm says how a firmware with Secure Boot off measures the SecureBoot variable.
type SecureBootForm string

// The two forms seen: Debian's OVMF 2025.02 and later measure an empty value, 2022.11 one zero byte.
const (
	SecureBootEmpty SecureBootForm = "empty"
	SecureBootZero  SecureBootForm = "zero"
)

// An Input is what a UKI boot measures. The zero Input is an error.
type Input struct {
	UKI        []byte
	Disk       io.ReaderAt    // with the GPT the firmware boots from; nil: PCR 5 is left out
	SecureBoot SecureBootForm // off, no keys enrolled; "" : PCR 7 is left out
	Phases     []string       // words systemd-pcrextend adds to PCR 11, e.g. enter-initrd; none without systemd
}

// Boot computes the registers of one bank.
func Boot(in Input, bank Bank) (*Result, error) {
	if newHash(bank) == nil {
		return nil, fmt.Errorf("bank %.20q: want sha1, sha256, sha384 or sha512", bank)
	}
	u, err := readUKI(in.UKI)
	if err != nil {
		return nil, err
	}
	l := &eventLog{bank: bank}
	if err := l.secureBoot(in.SecureBoot); err != nil {
		return nil, err
	}
	l.measure(4, `"Calling EFI Application from Boot Option"`, []byte("Calling EFI Application from Boot Option"))
	for _, pcr := range []int{2, 3, 4, 5, 6} {
		l.separator(pcr)
	}
	if in.Disk != nil {
		gpt, err := gptEvent(in.Disk)
		if err != nil {
			return nil, err
		}
		l.measure(5, "GPT", gpt)
	}
	l.image(4, "UKI", u.image)
	for _, name := range measured {
		if data := u.sections[name]; data != nil {
			l.measure(11, name+" (name)", []byte(name), []byte{0})
			l.measure(11, name+" (content)", data)
		}
	}
	for _, p := range in.Phases {
		l.measure(11, "phase "+p, []byte(p))
	}
	if err := l.kernel(u); err != nil {
		return nil, err
	}
	l.measure(5, `"Exit Boot Services Invocation"`, []byte("Exit Boot Services Invocation"))
	l.measure(5, `"Exit Boot Services Returned with Success"`, []byte("Exit Boot Services Returned with Success"))
	r := l.replay()
	if in.Disk == nil {
		delete(r.PCRs, 5)
	}
	if in.SecureBoot == "" {
		delete(r.PCRs, 7)
	}
	return r, nil
}

// image measures a PE image by its Authenticode digest.
func (l *eventLog) image(pcr int, what string, im *pe.Image) {
	h := newHash(l.bank)
	im.Authenticode(h)
	l.events = append(l.events, Event{pcr, what + " (Authenticode)", h.Sum(nil)})
}

// kernel measures what the stub hands on: the inner kernel, its command line, the initrd.
func (l *eventLog) kernel(u *uki) error {
	if u.stub < 258 {
		inner, err := pe.Parse(u.sections[".linux"])
		if err != nil {
			return fmt.Errorf("section .linux: %w", err)
		}
		l.image(4, ".linux", inner)
	}
	l.measure(9, "load options", utf16z(string(u.sections[".cmdline"])))
	initrd := pad4(u.sections[".initrd"])
	if os := u.sections[".osrel"]; os != nil && u.stub >= 257 {
		initrd = append(initrd, extraCPIO(os)...)
	}
	l.measure(9, "initrd", initrd)
	return nil
}

// measured are the sections that the stub measures, in its order (UAPI group, UKI specification).
var measured = []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"}

// unsupported are sections that change what is measured and that no rule here covers.
var unsupported = []string{".ucode", ".splash", ".dtb", ".dtbauto", ".hwids", ".profile", ".efifw", ".pcrsig"}

// A uki is a unified kernel image, taken apart.
type uki struct {
	image    *pe.Image
	stub     int // release of systemd's stub
	sections map[string][]byte
}

var stubVersion = regexp.MustCompile(`^#### LoaderInfo: systemd-stub ([0-9]+)[^#]* ####`)

func readUKI(b []byte) (*uki, error) {
	im, err := pe.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("UKI: %w", err)
	}
	u := &uki{image: im, sections: map[string][]byte{}}
	for _, s := range im.Sections {
		if slices.Contains(unsupported, s.Name) {
			return nil, fmt.Errorf("UKI: section %q: what it measures is not known here", s.Name)
		}
	}
	for _, name := range append(slices.Clone(measured), ".sdmagic") {
		if u.sections[name], err = im.Data(name); err != nil {
			return nil, fmt.Errorf("UKI: %w", err)
		}
	}
	for _, name := range []string{".linux", ".cmdline", ".initrd"} {
		if u.sections[name] == nil {
			return nil, fmt.Errorf("UKI: no section %q", name)
		}
	}
	m := stubVersion.FindSubmatch(u.sections[".sdmagic"])
	if m == nil {
		return nil, fmt.Errorf("UKI: .sdmagic %.80q names no systemd-stub release", u.sections[".sdmagic"])
	}
	if u.stub, err = strconv.Atoi(string(m[1])); err != nil || u.stub < 252 || u.stub > 262 {
		return nil, fmt.Errorf("UKI: systemd-stub %s: want 252 to 262: what other releases measure is not known here", m[1])
	}
	return u, nil
}

// utf16z is s as UEFI passes load options: UTF-16LE with a NUL.
func utf16z(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func pad4(b []byte) []byte {
	return append(slices.Clone(b), make([]byte, (4-len(b)%4)%4)...)
}

// extraCPIO is the archive that stubs from 257 on put behind the initrd: /.extra/os-release
// (systemd src/boot/cpio.c).
func extraCPIO(osRelease []byte) []byte {
	var b bytes.Buffer
	rec := func(ino, mode uint32, name string, data []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, (4-b.Len()%4)%4))
		b.Write(data)
		b.Write(make([]byte, (4-b.Len()%4)%4))
	}
	rec(1, 0o40555, ".extra", nil)
	rec(2, 0o100444, ".extra/os-release", osRelease)
	b.WriteString("070701" + strings.Repeat("00000000", 4) + "00000001" + strings.Repeat("00000000", 6) + "0000000B" + "00000000" + "TRAILER!!!\x00\x00\x00\x00")
	return b.Bytes()
}

// GUIDs of the variables, as they lie in memory.
var (
	globalVariable = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	imageSecurity  = []byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
)

// secureBoot measures the variables of a machine with Secure Boot off and no keys.
func (l *eventLog) secureBoot(form SecureBootForm) error {
	var value []byte
	switch form {
	case "":
		return nil
	case SecureBootEmpty:
	case SecureBootZero:
		value = []byte{0}
	default:
		return fmt.Errorf("secure boot form %.20q: want empty or zero", form)
	}
	for _, v := range []struct {
		guid  []byte
		name  string
		value []byte
	}{{globalVariable, "SecureBoot", value}, {globalVariable, "PK", nil}, {globalVariable, "KEK", nil}, {imageSecurity, "db", nil}, {imageSecurity, "dbx", nil}} {
		l.measure(7, "variable "+v.name, variableData(v.guid, v.name, v.value))
	}
	l.separator(7)
	return nil
}

// variableData is a UEFI_VARIABLE_DATA (TCG PFP 10.2.6).
func variableData(guid []byte, name string, value []byte) []byte {
	text := utf16z(name)
	text = text[:len(text)-2]
	b := slices.Clone(guid)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(text)/2))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, text...), value...)
}

// gptEvent is a UEFI_GPT_DATA (TCG PFP 10.2.7): header, number of used entries, the used entries.
func gptEvent(disk io.ReaderAt) ([]byte, error) {
	const sector, entry, header = 512, 128, 92
	h := make([]byte, sector)
	if _, err := disk.ReadAt(h, sector); err != nil {
		return nil, fmt.Errorf("disk: reading the GPT header: %w", err)
	}
	le := binary.LittleEndian
	count, each, first := le.Uint32(h[80:]), le.Uint32(h[84:]), le.Uint64(h[72:])
	if string(h[:8]) != "EFI PART" || le.Uint32(h[12:]) != header {
		return nil, errors.New("disk: no GPT with a header of 92 bytes")
	}
	if count == 0 || count > 1024 || each != entry || first < 2 || first > 1<<32 {
		return nil, fmt.Errorf("disk: GPT of %d entries of %d bytes at sector %d", count, each, first)
	}
	entries := make([]byte, count*each)
	if _, err := disk.ReadAt(entries, int64(first)*sector); err != nil {
		return nil, fmt.Errorf("disk: reading the GPT entries: %w", err)
	}
	var used []byte
	n := uint64(0)
	for ; len(entries) > 0; entries = entries[entry:] {
		if !bytes.Equal(entries[:16], make([]byte, 16)) {
			used = append(used, entries[:entry]...)
			n++
		}
	}
	return append(le.AppendUint64(slices.Clone(h[:header]), n), used...), nil
}

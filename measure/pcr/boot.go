package pcr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"tally/measure/eventlog"
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
	if err := CheckPhases(in.Phases); err != nil {
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
	l.image(4, "UKI", u.image).Covers = []eventlog.Part{eventlog.PartKernel, eventlog.PartInitrd, eventlog.PartCmdline}
	l.sections(u, in.Phases)
	if err := l.kernel(u); err != nil {
		return nil, err
	}
	l.measure(5, `"Exit Boot Services Invocation"`, []byte("Exit Boot Services Invocation"))
	l.measure(5, `"Exit Boot Services Returned with Success"`, []byte("Exit Boot Services Returned with Success"))
	r := l.replay(in.registers())
	r.Cmdline = string(u.sections[".cmdline"])
	return r, nil
}

// registers lists what can be computed: 0, 1 and 10 never, others when their inputs are there.
func (in Input) registers() []int {
	all := []int{2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}
	return slices.DeleteFunc(all, func(n int) bool {
		return n == 5 && in.Disk == nil || n == 7 && in.SecureBoot == ""
	})
}

// image measures a PE image by its Authenticode digest.
func (l *eventLog) image(pcr int, what string, im *pe.Image) *Event {
	h := newHash(l.bank)
	im.Authenticode(h)
	return l.add(pcr, what+" (Authenticode)", h.Sum(nil))
}

// GUIDs of the variables, as they lie in memory.
var (
	globalVariable = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	imageSecurity  = []byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
)

// secureBoot measures the variables of a machine with Secure Boot off and no keys.
func (l *eventLog) secureBoot(form SecureBootForm) error {
	value, other, cause := []byte(nil), []byte{0}, "the firmware writes Secure Boot off as a zero byte (OVMF 2022.11 does), not as nothing"
	switch form {
	case "":
		return nil
	case SecureBootEmpty:
	case SecureBootZero:
		value, other, cause = []byte{0}, nil, "the firmware writes Secure Boot off as nothing (OVMF 2025.02 and later do), not as a zero byte"
	default:
		return fmt.Errorf("secure boot form %.20q: want empty or zero", form)
	}
	for _, v := range []struct {
		guid  []byte
		name  string
		value []byte
	}{{globalVariable, "SecureBoot", value}, {globalVariable, "PK", nil}, {globalVariable, "KEK", nil}, {imageSecurity, "db", nil}, {imageSecurity, "dbx", nil}} {
		e := l.measure(7, "variable "+v.name, variableData(v.guid, v.name, v.value))
		if v.name == "SecureBoot" {
			e.Others = []eventlog.Other{{Cause: cause, Digest: l.digest(variableData(v.guid, v.name, other))},
				{Cause: "Secure Boot is on", Digest: l.digest(variableData(v.guid, v.name, []byte{1}))}}
		}
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

package pcr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/once"
	"tally/measure/internal/pe"
)

// An Input is what a UKI boot measures. The zero Input is an error.
type Input struct {
	UKI        []byte
	Disk       io.ReaderAt    // with the GPT the firmware boots from; nil: PCR 5 is left out
	SecureBoot SecureBootForm // how the firmware writes Secure Boot off; "": PCR 7 is left out, unless Variables switch it on
	Variables  []byte         // the firmware's variable store, alone or at the head of a firmware; nil: one without keys
	Firmware   []byte         // OVMF, whole, for PCR 0; nil: PCR 0 is left out
	Machine    Machine        // that PCR 0 of some firmware depends on; "": not given
	Phases     []string       // words systemd-pcrextend adds to PCR 11, e.g. enter-initrd; none without systemd
	Hashes     *once.Hashes   // what other calls know of the same bytes; nil: nothing
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
	keys, err := readKeys(in.Variables)
	if err != nil {
		return nil, err
	}
	l := newLog(bank, in.Hashes)
	open, err := l.firmware(in.Firmware, in.Machine)
	if err != nil {
		return nil, err
	}
	if err := l.secureBoot(keys, in.SecureBoot); err != nil {
		return nil, err
	}
	if err := l.ready(in.Disk); err != nil {
		return nil, err
	}
	if err := l.authority(keys); err != nil {
		return nil, err
	}
	l.image(4, "UKI", u.image).Covers = []eventlog.Part{eventlog.PartKernel, eventlog.PartInitrd, eventlog.PartCmdline}
	l.sections(u, in.Phases)
	if err := l.kernel(u, keys.on); err != nil {
		return nil, err
	}
	l.measure(5, `"Exit Boot Services Invocation"`, []byte("Exit Boot Services Invocation"))
	l.measure(5, `"Exit Boot Services Returned with Success"`, []byte("Exit Boot Services Returned with Success"))
	r := l.replay(in.registers(keys, open))
	r.Undecided = append(open, never...)
	r.Cmdline, r.Assumes = string(u.sections[".cmdline"]), assumptions(in.Phases)
	return r, nil
}

// ready adds what the firmware measures when it is ready to boot, and of the disk that it starts from.
func (l *eventLog) ready(disk io.ReaderAt) error {
	l.measure(4, `"Calling EFI Application from Boot Option"`, []byte("Calling EFI Application from Boot Option"))
	for _, pcr := range []int{2, 3, 4, 5, 6} {
		l.separator(pcr)
	}
	if disk == nil {
		return nil
	}
	gpt, err := gptEvent(disk)
	if err != nil {
		return err
	}
	l.measure(5, "GPT", gpt)
	return nil
}

// firmware adds the events of PCR 0, or says why there are none.
func (l *eventLog) firmware(image []byte, m Machine) ([]Undecided, error) {
	if image == nil {
		return []Undecided{{Register: eventlog.PCR(0), Reason: "no firmware is named", Events: []Event{}}}, nil
	}
	f, err := ReadFirmware(image, l.bank)
	if err != nil {
		return nil, err
	}
	events, err := f.Events(l.bank, m)
	if err != nil {
		return nil, err
	}
	reason := f.reason
	if reason == "" && f.NeedsMachine() && m == "" {
		reason = fmt.Sprintf("release %q has stored the port of the ACPI timer in its PEI volume, and the machine type that it follows from is not named", f.Version)
	}
	if reason != "" {
		return []Undecided{{Register: eventlog.PCR(0), Reason: reason, Events: events}}, nil
	}
	l.events = append(l.events, events...)
	return nil, nil
}

// never are the registers that files do not decide.
var never = []Undecided{
	{Register: eventlog.PCR(1), Reason: "the machine's configuration is measured: ACPI tables, boot entries, devices", Events: []Event{}},
	{Register: eventlog.PCR(10), Reason: "IMA measures what the guest's policy names, after PCR 0 to 9", Events: []Event{}},
}

// registers lists what can be computed: 1 and 10 never, others when their inputs are there.
func (in Input) registers(keys *keyStore, open []Undecided) []int {
	all := []int{0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}
	return slices.DeleteFunc(all, func(n int) bool {
		return n == 0 && len(open) > 0 || n == 5 && in.Disk == nil || n == 7 && in.SecureBoot == "" && !keys.on
	})
}

// image measures a PE image by its Authenticode digest.
func (l *eventLog) image(pcr int, what string, im *pe.Image) *Event {
	return l.add(pcr, what+" (Authenticode)", Authenticode(im, l.bank, l.hashes))
}

// Authenticode is the digest of a PE image in a bank that there is.
func Authenticode(im *pe.Image, bank Bank, hashes *once.Hashes) Value {
	return hashes.Feed(newHash(bank), string(bank), "Authenticode", im.Bytes(), im.Authenticode).Sum(nil)
}

// gptEvent is a UEFI_GPT_DATA (TCG PFP 10.2.7): header, number of used entries, the used entries. A table that is not
// sound is refused: firmware mends it from the backup, or measures none.
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
	if err := soundGPT(h[:header]); err != nil {
		return nil, err
	}
	entries := make([]byte, count*each)
	if _, err := disk.ReadAt(entries, int64(first)*sector); err != nil {
		return nil, fmt.Errorf("disk: reading the GPT entries: %w", err)
	}
	if sum, want := crc32.ChecksumIEEE(entries), le.Uint32(h[88:]); sum != want {
		return nil, fmt.Errorf("disk: the GPT entries have the checksum %08x, and the header says %08x", sum, want)
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

// soundGPT checks what firmware does of a primary header of 92 bytes (UEFI 2.10, 5.3.2): revision, checksum, own place.
func soundGPT(h []byte) error {
	le := binary.LittleEndian
	if v := le.Uint32(h[8:]); v != 0x10000 {
		return fmt.Errorf("disk: GPT of revision %#x, want 0x10000", v)
	}
	bare := slices.Clone(h)
	clear(bare[16:20])
	if sum, want := crc32.ChecksumIEEE(bare), le.Uint32(h[16:]); sum != want {
		return fmt.Errorf("disk: the GPT header has the checksum %08x, and says %08x", sum, want)
	}
	if at := le.Uint64(h[24:]); at != 1 {
		return fmt.Errorf("disk: the GPT header in sector 1 says that it is in sector %d", at)
	}
	return nil
}

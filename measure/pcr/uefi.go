package pcr

import (
	"fmt"
	"io"

	"tally/measure/eventlog"
	"tally/measure/internal/once"
)

// A UKIBoot is what a UKI measures after the firmware has started it, whatever the register: package tdx
// has its own for the same events.
type UKIBoot struct {
	Stub     int     // release of systemd's stub
	Inner    []Event // the inner kernel, with stubs before 258 and Secure Boot off
	Sections []Event // the stub's, PCR 11
	Kernel   []Event // load options and initrd, PCR 9
}

// ReadBoot computes the digests of a UKI's own events in one bank. hashes is what other calls know of the same
// bytes, or nil.
func ReadBoot(image []byte, bank Bank, hashes *once.Hashes) (*UKIBoot, error) {
	if newHash(bank) == nil {
		return nil, fmt.Errorf("bank %.20q: want sha1, sha256, sha384 or sha512", bank)
	}
	u, err := readUKI(image)
	if err != nil {
		return nil, err
	}
	l := newLog(bank, hashes)
	l.sections(u, nil)
	if err := l.kernel(u, false); err != nil {
		return nil, err
	}
	b := &UKIBoot{Stub: u.stub}
	for _, e := range l.events {
		switch e.Register {
		case eventlog.PCR(4):
			b.Inner = append(b.Inner, e)
		case eventlog.PCR(11):
			b.Sections = append(b.Sections, e)
		default:
			b.Kernel = append(b.Kernel, e)
		}
	}
	return b, nil
}

// GPT computes the digest of the event in which firmware measures the partition table of the disk that it
// boots from.
func GPT(disk io.ReaderAt, bank Bank) (*Event, error) {
	if newHash(bank) == nil {
		return nil, fmt.Errorf("bank %.20q: want sha1, sha256, sha384 or sha512", bank)
	}
	data, err := gptEvent(disk)
	if err != nil {
		return nil, err
	}
	l := &eventLog{bank: bank}
	return l.measure(5, "GPT", data), nil
}

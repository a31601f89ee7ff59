// Package eventlog holds what every register computation of this module answers with, and the log that a
// real machine keeps of the same thing: ordered events, the reader of a TCG log, and the comparison that
// names the first event at which a machine went another way.
//
// The log is TCG's crypto-agile format (TCG PC Client Platform Firmware Profile 1.06, section 10): a
// TCG_PCR_EVENT that names the algorithms, then one TCG_PCR_EVENT2 a measurement. A TDX guest's CCEL
// (ACPI 6.5 section 5.2.34) is the same with register numbers of its own. All integers little-endian:
//
//	u32 register, u32 type, 20 bytes zero, u32 size, "Spec ID Event03\0", u32 class, u8 minor, u8 major,
//	u8 errata, u8 size of uintn, u32 n, n × {u16 algorithm, u16 digest size}, u8 v, v bytes
//	u32 register, u32 type, u32 n, n × {u16 algorithm, digest}, u32 size, size bytes of event data
package eventlog

import (
	"encoding/hex"
	"fmt"
)

// A Part is something of an image that a measurement fixes. A client wants all five proven together.
type Part string

// The parts.
const (
	PartFirmware Part = "firmware"
	PartKernel   Part = "kernel"
	PartInitrd   Part = "initrd"
	PartCmdline  Part = "cmdline"
	PartRoot     Part = "root" // through the root hash on the measured command line
)

// A Digest is the digest of an event or the content of a register: as many bytes as its hash has.
type Digest []byte

// String returns lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d) }

// MarshalText returns lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText wants lower-case hex of 1 to 64 bytes.
func (d *Digest) UnmarshalText(b []byte) error {
	got, err := hex.DecodeString(string(b))
	if err != nil || len(got) == 0 || len(got) > 64 || hex.EncodeToString(got) != string(b) {
		return fmt.Errorf("digest %.140q: want lower-case hex of 1 to 64 bytes", b)
	}
	*d = got
	return nil
}

// An Event is one predicted measurement.
type Event struct {
	Register string `json:"register"`         // pcr0 to pcr23, mrtd, rtmr0 to rtmr3, launch_digest
	What     string `json:"what"`             // what is measured, in words that stay the same
	Detail   string `json:"detail,omitempty"` // of this one: an address, a number of pages
	Digest   Digest `json:"digest"`           // what the register is extended with
	Covers   []Part `json:"covers,omitempty"` // parts of the image that this event fixes

	// Others are the digests that this event would have under rules that were not chosen, for naming
	// the cause of a difference. They are no part of the answer.
	Others []Other `json:"-"`
}

// An Other is the digest an event has when something is otherwise.
type Other struct {
	Cause  string // what is otherwise, as a sentence without a stop
	Digest Digest
}

// PCR is the name of a TPM register.
func PCR(n int) string { return fmt.Sprintf("pcr%d", n) }

// RTMR is the name of a TDX runtime register.
func RTMR(n int) string { return fmt.Sprintf("rtmr%d", n) }

package tdx

import (
	"crypto/sha512"
	"encoding/binary"
	"slices"
)

// TCG event types of what enters the RTMRs (TCG PC Client Platform Firmware Profile 1.06, section 10.4.1).
const (
	evSeparator      = 0x4
	evEventTag       = 0x6
	evPlatformFlags  = 0xa
	evIPL            = 0xd
	evVariableConfig = 0x80000001
	evVariableBoot   = 0x80000002
	evApplication    = 0x80000003
	evGPT            = 0x80000006
	evAction         = 0x80000007
	evHandoffTables  = 0x80000009
	evFirmwareBlob   = 0x8000000a
	evHandOffBlob    = 0x8000000b
	evAuthority      = 0x800000e0
)

// An Extend is one event that enters an RTMR: RTMR' = SHA-384(RTMR ‖ Digest), from 48 zero bytes.
type Extend struct {
	Type   uint32 `json:"type"` // TCG event type; 0 for what no event log records
	What   string `json:"what"` // for people
	Digest Digest `json:"digest"`
}

// Replay returns the value of an RTMR that was extended with events, in order.
func Replay(events []Extend) Digest {
	var d Digest
	for _, e := range events {
		d = sha512.Sum384(slices.Concat(d[:], e.Digest[:]))
	}
	return d
}

// extend is an event whose digest is that of the data.
func extend(typ uint32, what string, data ...[]byte) Extend {
	h := sha512.New384()
	for _, d := range data {
		h.Write(d)
	}
	e := Extend{Type: typ, What: what}
	h.Sum(e.Digest[:0])
	return e
}

func separator() Extend { return extend(evSeparator, "separator", make([]byte, 4)) }

func action(text string) Extend { return extend(evAction, `"`+text+`"`, []byte(text)) }

// The actions of a boot (edk2 MdePkg/Include/IndustryStandard/UefiTcgPlatform.h).
const (
	callingApplication = "Calling EFI Application from Boot Option"
	exitInvocation     = "Exit Boot Services Invocation"
	exitSuccess        = "Exit Boot Services Returned with Success"
)

// utf16le is ASCII s as UEFI writes text: 16-bit units, little-endian, without a NUL.
func utf16le(s string) []byte {
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = binary.LittleEndian.AppendUint16(b, uint16(s[i]))
	}
	return b
}

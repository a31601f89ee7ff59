package tdx

import (
	"crypto/sha512"
	"encoding/binary"

	"tally/measure/eventlog"
)

// Replay returns the value of an RTMR that was extended with events, in order, from 48 zero bytes.
func Replay(events []eventlog.Event) Digest {
	var d Digest
	for _, e := range events {
		copy(d[:], eventlog.Extend(eventlog.SHA384, d[:], e.Digest))
	}
	return d
}

// event is an event of an RTMR whose digest is that of the data.
func event(what string, data ...[]byte) eventlog.Event {
	h := sha512.New384()
	for _, d := range data {
		h.Write(d)
	}
	return eventlog.Event{What: what, Digest: h.Sum(nil)}
}

// covering says which parts of the image an event fixes.
func covering(e eventlog.Event, parts ...eventlog.Part) eventlog.Event {
	e.Covers = parts
	return e
}

func separator() eventlog.Event { return event("separator", make([]byte, 4)) }

func action(text string) eventlog.Event { return event(`"`+text+`"`, []byte(text)) }

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

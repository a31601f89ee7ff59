package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Type says what a record is.
type Type byte

// The types of records. A receiver treats any other as an error.
const (
	Data  Type = 1 // bytes of a stream
	End   Type = 2 // the stream ends here; payload: Status (u16)
	Close Type = 3 // the session ends here: nothing follows in this direction
	rekey Type = 4 // the last record under its key
	Pad   Type = 5 // cover traffic; the payload is dropped

	// Reset ends the sender's half of a stream, whatever it lacks, and asks the peer to end its own;
	// payload: Status (u16).
	Reset Type = 6

	// Window lets the peer send more Data, on a stream or, with stream 0, in all; payload: bytes (u32).
	Window Type = 7

	askRecord    Type = 8 // the client wants documents; payload: Ask
	answerRecord Type = 9 // a part of one; payload: answer
)

// A Status is how the sender ended a stream.
type Status uint16

// The statuses.
const (
	StatusOK      Status = 0
	StatusFailed  Status = 1 // the sender could not finish: what came before is incomplete
	StatusTooLong Status = 2 // the receiver's request exceeds a limit

	StatusCancelled Status = 3 // of Reset: nobody wants the rest
	StatusStalled   Status = 4 // of Reset: the peer took too long

	StatusNone    Status = 5 // of a document asked for: there is none
	StatusGPULost Status = 6 // of Reset: the enclave's GPUs are no longer what was verified, and all its sessions end
)

// A Record is one typed message in a session.
type Record struct {
	Type    Type
	Stream  uint32 // of Data, End and Reset: from 1; of Window: any; otherwise 0
	Payload []byte // Data: 1 to MaxData bytes
	Status  Status // of End and Reset
	Credit  uint32 // of Window: bytes, from 1
}

// The plaintext of a record is padded to a multiple of bucket, so that its length tells little. See
// PROTOCOL.md, section 4.
const (
	recordHeader = 8
	bucket       = 256
	maxPlain     = recordHeader + MaxData // 16384
	tagSize      = 16
)

// plainSize is the padded size of a record with n bytes of payload.
func plainSize(n int) int { return (recordHeader + n + bucket - 1) / bucket * bucket }

// appendRecord adds the padded plaintext of r to b.
func appendRecord(b []byte, r *Record) ([]byte, error) {
	payload := r.Payload
	switch r.Type {
	case End, Reset:
		payload = []byte{byte(r.Status >> 8), byte(r.Status)}
	case Window:
		payload = binary.BigEndian.AppendUint32(nil, r.Credit)
	}
	if err := checkRecord(r.Type, r.Stream, payload); err != nil {
		return nil, err
	}
	start := len(b)
	b = append(b, byte(r.Type), 0)
	b = binary.BigEndian.AppendUint32(b, r.Stream)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, payload...)
	return append(b, zeros[:start+plainSize(len(payload))-len(b)]...), nil
}

var zeros [bucket]byte

// parseRecord reads a plaintext. It accepts only what appendRecord writes; Payload points into b.
func parseRecord(b []byte) (Record, error) {
	if len(b) < bucket || len(b) > maxPlain || len(b)%bucket != 0 {
		return Record{}, fmt.Errorf("channel: record of %d bytes", len(b))
	}
	if b[1] != 0 {
		return Record{}, fmt.Errorf("channel: record with unknown flags 0x%02x", b[1])
	}
	r := Record{Type: Type(b[0]), Stream: binary.BigEndian.Uint32(b[2:])}
	n := int(binary.BigEndian.Uint16(b[6:]))
	if plainSize(n) != len(b) {
		return Record{}, fmt.Errorf("channel: record of %d bytes with a payload of %d", len(b), n)
	}
	r.Payload = b[recordHeader : recordHeader+n]
	for _, c := range b[recordHeader+n:] {
		if c != 0 {
			return Record{}, errors.New("channel: record padding is not zero")
		}
	}
	if err := checkRecord(r.Type, r.Stream, r.Payload); err != nil {
		return Record{}, err
	}
	switch r.Type {
	case End, Reset:
		r.Status, r.Payload = Status(binary.BigEndian.Uint16(r.Payload)), nil
	case Window:
		r.Credit, r.Payload = binary.BigEndian.Uint32(r.Payload), nil
	}
	if n == 0 {
		r.Payload = nil
	}
	return r, nil
}

// checkRecord holds a record to its type's rules, for writer and reader alike.
func checkRecord(t Type, stream uint32, payload []byte) error {
	ok := false
	switch t {
	case Data:
		ok = stream != 0 && len(payload) >= 1 && len(payload) <= MaxData
	case End, Reset:
		ok = stream != 0 && len(payload) == 2
	case Window:
		ok = len(payload) == 4 && binary.BigEndian.Uint32(payload) != 0
	case Close, rekey:
		ok = stream == 0 && len(payload) == 0
	case Pad:
		ok = stream == 0 && len(payload) <= MaxData
	case askRecord, answerRecord:
		return checkDocuments(t, stream, payload)
	default:
		return fmt.Errorf("channel: record of unknown type %d", t)
	}
	if !ok {
		return fmt.Errorf("channel: record of type %d on stream %d with %d bytes", t, stream, len(payload))
	}
	return nil
}

// checkDocuments is checkRecord for ASK and ANSWER.
func checkDocuments(t Type, stream uint32, payload []byte) (err error) {
	switch {
	case stream != 0:
		return fmt.Errorf("channel: record of type %d on stream %d", t, stream)
	case t == askRecord:
		_, err = parseAsk(payload)
	default:
		_, err = parseAnswer(payload)
	}
	return err
}

package tdx

import (
	"encoding/binary"
	"fmt"
)

// MaxQuote is the size in bytes of the largest quote read: 584 bytes of report, and certificates.
const MaxQuote = 64 << 10

// Where things lie in a quote (Intel TDX DCAP Quoting Library API, A.3): a header of 48 bytes, in version 5
// u16 type and u32 size of the body, the body.
const (
	quoteHeader = 48
	quoteBody10 = 584 // of TDX 1.0; TDX 1.5 adds 64 bytes
	quoteBody15 = 648
)

// A Quote is what of a TDX quote a launch explains. Nothing here is verified: the signature belongs to those
// who check evidence.
type Quote struct {
	Version uint16
	MRTD    Digest
	RTMR    [4]Digest
}

// Registers are the quote's registers by name, in order.
func (q *Quote) Registers() map[string]Digest {
	return map[string]Digest{"mrtd": q.MRTD, "rtmr0": q.RTMR[0], "rtmr1": q.RTMR[1], "rtmr2": q.RTMR[2], "rtmr3": q.RTMR[3]}
}

// ParseQuote reads the registers of a TDX quote of version 4 or 5.
func ParseQuote(b []byte) (*Quote, error) {
	le := binary.LittleEndian
	if len(b) > MaxQuote || len(b) < quoteHeader+quoteBody10 {
		return nil, fmt.Errorf("TDX quote: %d bytes, want %d to %d", len(b), quoteHeader+quoteBody10, MaxQuote)
	}
	if tee := le.Uint32(b[4:]); tee != 0x81 {
		return nil, fmt.Errorf("TDX quote: TEE type %#x, want 0x81", tee)
	}
	q := &Quote{Version: le.Uint16(b)}
	body := b[quoteHeader:]
	switch q.Version {
	case 4:
	case 5:
		kind, size := le.Uint16(body), le.Uint32(body[2:])
		body = body[6:]
		if want := map[uint16]uint32{2: quoteBody10, 3: quoteBody15}[kind]; size != want || uint64(len(body)) < uint64(size) || size == 0 {
			return nil, fmt.Errorf("TDX quote: body of type %d and %d bytes in %d, want type 2 (%d) or 3 (%d)", kind, size, len(body), quoteBody10, quoteBody15)
		}
	default:
		return nil, fmt.Errorf("TDX quote: version %d, want 4 or 5", q.Version)
	}
	copy(q.MRTD[:], body[136:])
	for i := range q.RTMR {
		copy(q.RTMR[i][:], body[328+48*i:])
	}
	return q, nil
}

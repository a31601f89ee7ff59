package gpu

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// Limits of what is read from outside.
const (
	MaxReport = 16 << 10 // bytes of a report: samples have 2 to 5 KiB
	maxOpaque = 64       // fields of opaque data
)

const (
	requestSize   = 37
	signatureSize = 96
	spdmVersion   = 0x11
)

// A Digest is a SHA-384 value: a measurement, or the identity of firmware.
type Digest [48]byte

// String returns it in hex.
func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// A Field is the type of an item of opaque data.
type Field uint16

// The fields that this package reads. Any other is kept in Report.Opaque and decides nothing.
const (
	FieldDriver       Field = 3  // driver version, text
	FieldVBIOS        Field = 6  // GPU: the version in eight bytes; switch: text
	FieldNVDEC0       Field = 11 // one byte: 0xaa enabled, 0x55 disabled
	FieldChipSKU      Field = 15 // text, as the next two
	FieldProject      Field = 17
	FieldProjectSKU   Field = 18
	FieldFWID         Field = 20 // Digest of the firmware that holds the key
	FieldProtected    Field = 21 // protected PCIe: 0xaa on, 0x55 off
	FieldSwitchPDIs   Field = 22 // GPU: identifiers of the switches it sees, 8 bytes each; switch: its own
	FieldSwitchGPUs   Field = 26 // switch: identifiers of the GPUs it sees
	FieldChip         Field = 35 // text: name of the chip in a driver RIM's identifier
	FieldFeatureFlags Field = 36 // mode of confidential computing: 0 SPT, 1 MPT, 2 PPCIE
)

// A Report is a parsed report. Nothing in it is true before [Report.VerifySignature].
type Report struct {
	RequestNonce  [32]byte       // what the caller asked with
	ResponseNonce [32]byte       // what the device added
	Blocks        map[int]Digest // measurements by RIM index: block number less one
	Opaque        map[Field][]byte

	signed    []byte
	signature []byte
}

// ParseReport reads a report and wants every byte explained.
func ParseReport(b []byte) (*Report, error) {
	if len(b) > MaxReport {
		return nil, fmt.Errorf("report: %d bytes, want at most %d", len(b), MaxReport)
	}
	r, rd := &Report{}, &reader{b: b}
	if err := r.request(rd); err != nil {
		return nil, fmt.Errorf("report: request: %w", err)
	}
	if err := r.response(rd); err != nil {
		return nil, fmt.Errorf("report: response: %w", err)
	}
	r.signed = b[:len(b)-len(rd.b)]
	if len(rd.b) != signatureSize {
		return nil, fmt.Errorf("report: signature: %d bytes, want %d", len(rd.b), signatureSize)
	}
	r.signature = rd.b
	return r, nil
}

func (r *Report) request(rd *reader) error {
	h := rd.take(4)
	copy(r.RequestNonce[:], rd.take(32))
	rd.take(1) // slot of the certificate chain
	switch {
	case rd.short:
		return errShort
	case h[0] != spdmVersion || h[1] != 0xe0:
		return fmt.Errorf("starts %x, want 11e0 (SPDM 1.1 GET_MEASUREMENTS)", h[:2])
	case h[2]&1 == 0:
		return fmt.Errorf("param1 %#02x, want bit 0 set (a signature was asked for)", h[2])
	}
	return nil
}

func (r *Report) response(rd *reader) error {
	h := rd.take(8)
	if rd.short {
		return errShort
	}
	if h[0] != spdmVersion || h[1] != 0x60 {
		return fmt.Errorf("starts %x, want 1160 (SPDM 1.1 MEASUREMENTS)", h[:2])
	}
	record := rd.take(int(h[5]) | int(h[6])<<8 | int(h[7])<<16)
	copy(r.ResponseNonce[:], rd.take(32))
	opaque := rd.take(rd.u16())
	if rd.short {
		return errShort
	}
	if err := r.blocks(&reader{b: record}, int(h[4])); err != nil {
		return err
	}
	return r.fields(&reader{b: opaque})
}

func (r *Report) blocks(rd *reader, n int) error {
	r.Blocks = make(map[int]Digest, n)
	for i := range n {
		h, size := rd.take(2), rd.u16()
		block := &reader{b: rd.take(size)}
		block.take(1) // type: what was hashed
		value := block.take(block.u16())
		switch {
		case rd.short || block.short:
			return fmt.Errorf("block %d: %w", i+1, errShort)
		case h[0] == 0 || h[1] != 1:
			return fmt.Errorf("block %d: index %d, specification %d, want an index from 1 and specification 1", i+1, h[0], h[1])
		case len(block.b) != 0 || len(value) != len(Digest{}):
			return fmt.Errorf("block %d: value of %d bytes and %d more, want %d and no more", i+1, len(value), len(block.b), len(Digest{}))
		}
		index := int(h[0]) - 1
		if _, ok := r.Blocks[index]; ok {
			return fmt.Errorf("block %d: index %d twice", i+1, h[0])
		}
		r.Blocks[index] = Digest(value)
	}
	if n == 0 || len(rd.b) != 0 {
		return fmt.Errorf("record: %d blocks and %d more bytes, want at least one block and no more", n, len(rd.b))
	}
	return nil
}

func (r *Report) fields(rd *reader) error {
	r.Opaque = map[Field][]byte{}
	for len(rd.b) > 0 {
		f := Field(rd.u16())
		v := rd.take(rd.u16())
		switch {
		case rd.short:
			return fmt.Errorf("opaque data: field %d: %w", f, errShort)
		case len(r.Opaque) == maxOpaque:
			return fmt.Errorf("opaque data: more than %d fields", maxOpaque)
		}
		if _, ok := r.Opaque[f]; ok {
			return fmt.Errorf("opaque data: field %d twice", f)
		}
		r.Opaque[f] = v
	}
	return nil
}

// VerifySignature returns an error unless the holder of the key signed the report.
func (r *Report) VerifySignature(key *ecdsa.PublicKey) error {
	sum := sha512.Sum384(r.signed)
	if !verifyRaw(key, sum[:], r.signature) {
		return errors.New("report: signature is not of the certificate's key over this report")
	}
	return nil
}

// verifyRaw checks an ECDSA signature in the form r || s, 48 bytes each.
func verifyRaw(key *ecdsa.PublicKey, digest, sig []byte) bool {
	if len(sig) != signatureSize {
		return false
	}
	r, s := new(big.Int).SetBytes(sig[:48]), new(big.Int).SetBytes(sig[48:])
	return ecdsa.Verify(key, digest, r, s)
}

var errShort = errors.New("ends too early")

// A reader takes from the front; once short, it stays so and gives zeros.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b) {
		r.short = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u16() int {
	if b := r.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

package pcr

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Policy returns the digest of a TPM policy that wants PCR 11 to hold value in the bank: what systemd-measure
// signs, and what TPM2_PolicyAuthorize takes (TPM 2.0 library, Part 3, section 23.7; SHA-256 whatever the bank).
//
//	H(32 zeros ‖ u32 TPM_CC_PolicyPCR ‖ u32 1 ‖ u16 algorithm ‖ u8 3 ‖ 3 bytes of selected PCRs ‖ H(value))
//
// Integers are big-endian.
func Policy(bank Bank, value Value) (Value, error) {
	if newHash(bank) == nil || len(value) != newHash(bank).Size() {
		return nil, fmt.Errorf("policy: bank %.20q with %d bytes of value", bank, len(value))
	}
	be := binary.BigEndian
	b := be.AppendUint32(make([]byte, 32), 0x17f)
	b = be.AppendUint32(b, 1)
	b = be.AppendUint16(b, uint16(bank.Algorithm()))
	b = append(b, 3, 0, 1<<3, 0) // PCR 11 is bit 3 of the second byte
	h := sha256.Sum256(value)
	sum := sha256.Sum256(append(b, h[:]...))
	return sum[:], nil
}

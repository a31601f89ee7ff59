// Package evidence holds what an enclave says about its Noise key and how that is bound to the hardware's
// report: the key evidence, its one encoding, and the 64 bytes of REPORTDATA.
//
// The formats are specified in SPEC.md beside this file. This package computes and parses; it judges
// nothing: [tally/enclave/appraise] does. It imports the standard library only, because every client links
// it.
package evidence

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of the encoding, in bytes. A document within them fits one Noise handshake message.
const (
	MaxDocument  = 48 << 10 // a whole document
	MaxAuthority = 255
	MaxPlatform  = 32
	MaxBeacon    = 16 << 10
)

// Version is the first byte of every document of this format.
const Version = 1

// RoleResponder is the only role so far: the enclave answers, clients open sessions.
const RoleResponder = "responder"

// The domain separators of REPORTDATA. A value made for one purpose can never serve the other.
const (
	keyTag     = "tally/1 key evidence"
	sessionTag = "tally/1 session evidence"
)

// ekSize is the length in bytes of an ML-KEM-768 encapsulation key (FIPS 203, table 3).
const ekSize = 1184

// Claims are what an enclave states about its key. They prove nothing until a report whose REPORTDATA is
// [Claims.ReportData] has been appraised.
type Claims struct {
	Authority string   // the service that the key speaks for: CheckAuthority
	Static    [32]byte // X25519 public key of the enclave
	Epoch     uint64   // counts the keys of one enclave, from 1
	NotBefore int64    // Unix seconds by the host's clock: for information, never for trust
	NotAfter  int64    // Unix seconds, after NotBefore
	EncapKey  []byte   // ML-KEM-768 encapsulation key (1184 bytes) for reconnects, or empty
	GPU       []byte   // digest of the GPUs' evidence (appraise/gpu.SetDigest), or empty
	Beacon    []byte   // cosigned checkpoint (text) no older than the key, or empty
}

// A Document is key evidence as it travels: the claims and what the platform says about them.
type Document struct {
	Platform     string // which hardware signed Report, e.g. "snp", or "insecure" for none
	Claims       Claims
	Report       []byte // the platform's report or quote
	Endorsements []byte // the vendor's certificates for it, or empty
}

// ReportData returns the 64 bytes that the platform's report must carry: SHA-512 over the tag and the
// claims, each with its length in front (SPEC.md, section 2).
func (c *Claims) ReportData() [64]byte {
	ek, gpu := sha256.Sum256(c.EncapKey), sha256.Sum256(c.GPU)
	authority, beacon := sha256.Sum256([]byte(c.Authority)), sha256.Sum256(c.Beacon)
	return digest(keyTag, []byte(RoleResponder), c.Static[:], ek[:], u64(c.Epoch), u64(uint64(c.NotBefore)), u64(uint64(c.NotAfter)), gpu[:], authority[:], beacon[:])
}

// SessionLeaf is the leaf of one session in the Merkle tree of session evidence: handshakeHash is the
// Noise channel binding, nonce the client's, static the enclave's key (32 bytes each).
func SessionLeaf(handshakeHash, nonce, static [32]byte) [32]byte {
	b := make([]byte, 1, 97) // 0x00: an RFC 6962 leaf
	b = append(append(append(b, handshakeHash[:]...), nonce[:]...), static[:]...)
	return sha256.Sum256(b)
}

// SessionReportData returns the REPORTDATA of a quote over the root of such a tree.
func SessionReportData(root [32]byte) [64]byte {
	return digest(sessionTag, []byte(RoleResponder), root[:])
}

// digest is SHA-512 over lp(tag) lp(field)…, lp(x) = u16 big-endian length of x, then x. No two lists of
// fields have the same input.
func digest(tag string, fields ...[]byte) [64]byte {
	b := lp16(nil, []byte(tag))
	for _, f := range fields {
		b = lp16(b, f)
	}
	return sha512.Sum512(b)
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func lp16(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// CheckAuthority returns an error unless s can name a service: 1 to 255 bytes of letters, digits and
// the marks . - _ : / (a host name, host:port or path-like name).
func CheckAuthority(s string) error {
	if len(s) == 0 || len(s) > MaxAuthority {
		return fmt.Errorf("authority: %d bytes, want 1 to %d", len(s), MaxAuthority)
	}
	return checkName("authority", s, "letters, digits and .-_:/", ".-_:/", true)
}

// checkPlatform wants 1 to 32 bytes of lower-case letters, digits and the dash.
func checkPlatform(s string) error {
	if len(s) == 0 || len(s) > MaxPlatform {
		return fmt.Errorf("platform: %d bytes, want 1 to %d", len(s), MaxPlatform)
	}
	return checkName("platform", s, "lower-case letters, digits and -", "-", false)
}

func checkName(what, s, want, marks string, upper bool) error {
	for i := range len(s) {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || upper && c >= 'A' && c <= 'Z'
		for j := range len(marks) {
			ok = ok || c == marks[j]
		}
		if !ok {
			return fmt.Errorf("%s %q: byte %d is %#02x, want %s", what, s, i, c, want)
		}
	}
	return nil
}

// check holds a document to the rules of SPEC.md, section 1, for writer and reader alike.
func (d *Document) check() error {
	c := &d.Claims
	if err := checkPlatform(d.Platform); err != nil {
		return err
	}
	if err := CheckAuthority(c.Authority); err != nil {
		return err
	}
	switch {
	case c.Static == [32]byte{}:
		return errors.New("static key: all zero")
	case c.Epoch == 0:
		return errors.New("epoch: 0, want at least 1")
	case c.NotBefore <= 0 || c.NotAfter <= c.NotBefore:
		return fmt.Errorf("validity: %d to %d, want two times in order after 1970", c.NotBefore, c.NotAfter)
	case len(c.Beacon) > MaxBeacon:
		return fmt.Errorf("beacon: %d bytes, want at most %d", len(c.Beacon), MaxBeacon)
	case len(c.EncapKey) != 0 && len(c.EncapKey) != ekSize:
		return fmt.Errorf("encapsulation key: %d bytes, want 0 or %d", len(c.EncapKey), ekSize)
	}
	return nil
}

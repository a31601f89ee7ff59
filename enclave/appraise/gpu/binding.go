package gpu

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"tally/enclave/evidence"
)

// Domain separators of what binds GPUs to an enclave's key.
const (
	nonceTag = "tally/1 gpu nonce\x00"
	setTag   = "tally/1 gpu set\x00"
)

// Nonce returns what an enclave asks its GPUs with:
//
//	SHA-256("tally/1 gpu nonce" 00 REPORTDATA)
//
// where REPORTDATA is that of the claims with no GPUs in them, since their evidence does not exist yet. So evidence
// that was given for one key is of no use to another.
func Nonce(c evidence.Claims) [32]byte {
	c.GPU = nil
	rd := c.ReportData()
	return sha256.Sum256(append([]byte(nonceTag), rd[:]...))
}

// SetDigest returns what the claims then hold in their field GPU, and through it the hardware's report:
//
//	SHA-256("tally/1 gpu set" 00 SHA-256(document))
//
// The document itself ([Set]) travels beside the evidence: with eight GPUs it is larger than a
// handshake message.
func SetDigest(document []byte) [32]byte {
	sum := sha256.Sum256(document)
	return sha256.Sum256(append([]byte(setTag), sum[:]...))
}

// MarshalEvidence writes devices in the form that [ParseEvidence] reads, which is the vendor's.
func MarshalEvidence(all []Device) ([]byte, error) {
	entries := []entry{}
	for i, d := range all {
		r, err := ParseReport(d.Report)
		if err != nil {
			return nil, fmt.Errorf("device %d: %w", i, err)
		}
		entries = append(entries, entry{Arch: d.Arch, Certificate: d.Chain, Evidence: d.Report, Nonce: hex.EncodeToString(r.RequestNonce[:])})
	}
	return json.Marshal(entries)
}

// VerifySet is [Verify] for a client: the document must be the one that the claims bind, and answer their nonce. It takes
// Devices, Driver and Nonce of in from there. The claims must be those that the hardware's report was appraised with.
func VerifySet(c evidence.Claims, document []byte, in Input) (*Result, error) {
	res := newResult()
	want := SetDigest(document)
	switch {
	case len(c.GPU) == 0:
		return res.refused(refuse(NoDevices, "the evidence binds no GPUs"))
	case !bytes.Equal(c.GPU, want[:]):
		return res.refused(refuse(BadBinding, "the evidence binds GPU set %x, this one is %x", c.GPU, want))
	}
	set, err := ParseSet(document)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			err = refuse(BadReport, "%w", err)
		}
		return res.refused(err)
	}
	nonce := Nonce(c)
	in.Devices, in.Driver, in.Nonce, in.bound = set.Devices, &set.Driver, &nonce, true
	return Verify(in)
}

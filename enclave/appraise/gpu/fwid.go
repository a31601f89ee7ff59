package gpu

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// The extensions of a leaf that state the firmware's digest (TCG DICE Attestation Architecture r22, 6.1).
var (
	oidCompositeDeviceID = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	oidTCBInfo           = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}
	oidSHA384            = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
)

type firmwareID struct {
	Algorithm asn1.ObjectIdentifier
	Digest    []byte
}

// compositeDeviceID is RIoT's CompositeDeviceID, as Hopper's and LS10's leaves hold it.
type compositeDeviceID struct {
	Version int
	Device  asn1.RawValue // its public key
	FWID    firmwareID
}

// fwid returns the firmware's digest that the leaf states.
func fwid(leaf *x509.Certificate) (Digest, error) {
	var all []firmwareID
	found := 0
	for _, e := range leaf.Extensions {
		var err error
		switch {
		case e.Id.Equal(oidCompositeDeviceID):
			var id compositeDeviceID
			err = unmarshal(e.Value, &id)
			all = append(all, id.FWID)
		case e.Id.Equal(oidTCBInfo):
			all, err = tcbInfoFWIDs(e.Value)
		default:
			continue
		}
		if found++; err != nil {
			return Digest{}, fmt.Errorf("certificate %q: DICE extension %s: %w", leaf.Subject.CommonName, e.Id, err)
		}
	}
	if found != 1 || len(all) == 0 {
		return Digest{}, fmt.Errorf("certificate %q: %d DICE extensions with a firmware digest, want 1", leaf.Subject.CommonName, found)
	}
	if f := all[0]; !f.Algorithm.Equal(oidSHA384) || len(f.Digest) != len(Digest{}) {
		return Digest{}, fmt.Errorf("certificate %q: firmware digest of %d bytes by %s, want SHA-384", leaf.Subject.CommonName, len(f.Digest), f.Algorithm)
	}
	return Digest(all[0].Digest), nil
}

// tcbInfoFWIDs returns field [6] of a DiceTcbInfo, whose other fields are all optional and decide nothing.
func tcbInfoFWIDs(der []byte) (all []firmwareID, err error) {
	var fields []asn1.RawValue
	if err := unmarshal(der, &fields); err != nil {
		return nil, err
	}
	for _, f := range fields {
		if f.Class != asn1.ClassContextSpecific || f.Tag != 6 {
			continue
		}
		for rest := f.Bytes; len(rest) > 0; {
			var id firmwareID
			if rest, err = asn1.Unmarshal(rest, &id); err != nil {
				return nil, err
			}
			all = append(all, id)
		}
	}
	return all, nil
}

func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	return err
}

package gpu

import (
	"bytes"
	"fmt"
	"slices"
)

// IsRIM reports whether data looks like what [ParseRIM] reads.
func IsRIM(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) }

// VerifyRIM judges a manifest by itself as [Verify] judges those that devices need: who signed it, and what in.Policy wants
// of manifests: that they are pinned, or not, and have responses. The zero Policy accepts none. Of in, Roots, Now, OCSP and
// Policy count.
func VerifyRIM(in Input, r *RIM) ([]Check, error) {
	v, s := &verifier{in: in}, &rimState{rim: r}
	var err error
	if v.ocsp, err = wantedResponses(in); err != nil {
		return nil, refuse(BadOCSP, "%w", err)
	}
	if err := v.manifest(s); err != nil {
		return nil, err
	}
	responses := Check{Name: "ocsp", Status: OK, Want: "not older than " + in.Policy.OCSPMaxAge.String(), Got: "all certificates good", From: "policy"}
	if in.Policy.NoOCSP {
		responses = Check{Name: "ocsp", Status: NotChecked, Got: "none is asked for: a revoked signer passes", From: "policy"}
	}
	return []Check{v.passed("rim", s), responses}, nil
}

// passed is the check of a manifest that is in order.
func (v *verifier) passed(name string, s *rimState) Check {
	c := Check{name, OK, fmt.Sprintf("%x", s.rim.SHA256), s.rim.Version, "vendor"}
	if slices.Contains(v.in.Policy.RIMs, s.rim.SHA256) {
		c.From = "release"
	}
	if s.ended {
		c.Got += fmt.Sprintf(", signer's certificate ended %s: accepted because it is pinned", day(s.rim.SignerNotAfter()))
	}
	return c
}

package amd

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
)

// productOf is the product line of a CPUID (Fn0000_0001_EAX), which is the line whose certificates KDS gives for it: a Genoa's
// stand for all of Zen 4, Bergamo and Siena (models A0h to AFh) too, and a Turin's for its dense kind (10h and 11h). go-sev-guest
// knows the first model of each.
func productOf(fms uint32) string {
	family, model, _ := abi.FmsFromCpuid1Eax(fms)
	switch {
	case family == 0x19 && model <= 0x0f:
		return "Milan"
	case family == 0x19 && (model>>4 == 0x1 || model>>4 == 0xa):
		return "Genoa"
	case family == 0x1a && model <= 0x11:
		return "Turin"
	}
	return fmt.Sprintf("processor of family %#x, model %#x", family, model)
}

// hwidSize is the size in bytes of a Turin's chip identifier. It stands at the beginning of CHIP_ID.
const hwidSize = 8

var (
	oidFMC          = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3, 9}
	oidAuthorityKey = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// turinTCB are the components of a Turin's TCB_VERSION, from its lowest byte on: that of the FMC, which only it has, stands first,
// and in its certificates there is no fourth.
var turinTCB = [8]asn1.ObjectIdentifier{oidFMC, kds.OidBlSpl, kds.OidTeeSpl, kds.OidSnpSpl, kds.OidSpl5, kds.OidSpl6, kds.OidSpl7, kds.OidUcodeSpl}

// extensions reads what a VCEK's or VLEK's certificate says: go-sev-guest does of all but a Turin, whose certificates it refuses.
func extensions(c *x509.Certificate, key abi.ReportSigner) (*kds.Extensions, error) {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidFMC) {
			return turinExtensions(c.Extensions, key)
		}
	}
	out, err := kds.CertificateExtensions(c, key)
	if err == nil && kds.ProductLineOfProductName(out.ProductName) == "Turin" {
		return nil, errors.New("of a Turin, without the TCB of its FMC")
	}
	return out, err
}

// turinExtensions wants every extension that a Turin's certificate has, each once, and no other.
func turinExtensions(list []pkix.Extension, key abi.ReportSigner) (*kds.Extensions, error) {
	r, out := &extensionReader{left: map[string][]byte{}}, new(kds.Extensions)
	for _, e := range list {
		if _, twice := r.left[e.Id.String()]; twice {
			return nil, fmt.Errorf("extension %s: twice", e.Id)
		}
		r.left[e.Id.String()] = e.Value
	}
	delete(r.left, oidAuthorityKey.String())
	out.StructVersion = r.small(kds.OidStructVersion)
	out.ProductName = r.text(kds.OidProductName1)
	for i, oid := range turinTCB {
		out.TCBVersion |= kds.TCBVersion(r.small(oid)) << (8 * i)
	}
	if key == abi.VlekReportSigner {
		out.CspID = r.text(kds.OidCspID)
	} else if out.HWID = r.take(kds.OidHwid); len(out.HWID) != hwidSize {
		r.fail("extension %s: chip identifier of %d bytes, want %d", kds.OidHwid, len(out.HWID), hwidSize)
	}
	for _, oid := range slices.Sorted(maps.Keys(r.left)) {
		r.fail("extension %s: want none", oid)
	}
	if kds.ProductLineOfProductName(out.ProductName) != "Turin" {
		r.fail("of a %.20q, with the TCB of an FMC, which only a Turin has", out.ProductName)
	}
	return out, r.err
}

// An extensionReader takes extensions by their identifiers, and keeps the first error.
type extensionReader struct {
	left map[string][]byte
	err  error
}

func (r *extensionReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *extensionReader) take(oid asn1.ObjectIdentifier) []byte {
	b, ok := r.left[oid.String()]
	if !ok {
		r.fail("extension %s: missing", oid)
	}
	delete(r.left, oid.String())
	return b
}

// small is an INTEGER of 0 to 255.
func (r *extensionReader) small(oid asn1.ObjectIdentifier) uint8 {
	var n int
	b := r.take(oid)
	if rest, err := asn1.Unmarshal(b, &n); err != nil || len(rest) != 0 || n < 0 || n > math.MaxUint8 {
		r.fail("extension %s: %.40x, want an INTEGER of 0 to 255", oid, b)
	}
	return uint8(n)
}

// text is an IA5String that is not empty.
func (r *extensionReader) text(oid asn1.ObjectIdentifier) (s string) {
	b := r.take(oid)
	if rest, err := asn1.UnmarshalWithParams(b, &s, "ia5"); err != nil || len(rest) != 0 || s == "" {
		r.fail("extension %s: %.40x, want an IA5String", oid, b)
	}
	return s
}

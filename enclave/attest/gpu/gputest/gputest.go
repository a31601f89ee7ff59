// Package gputest is fake NVIDIA hardware for tests: GPUs and switches that sign reports, manifests for what
// they run, and a responder, all under roots of its own, which verification with the vendor's roots refuses.
//
// It shares no code with the verifier: it writes the formats by hand, the XML in its canonical form.
package gputest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/ocsp"

	"tally/enclave/appraise/gpu"
)

// A Vendor makes devices and says what they run. Its certificates are valid a year around Now.
type Vendor struct {
	Now    time.Time
	device *authority
	rim    *authority
	family *authority
	maker  *authority // provisions chips of the family
	signer *authority
	serial int64

	responders map[*authority]*authority // by issuer: for all that it issued, as the vendor's do
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	up   *authority
}

// New makes a vendor with new roots.
func New(now time.Time) (*Vendor, error) {
	v := &Vendor{Now: now}
	var err error
	for _, a := range []struct {
		to   **authority
		up   **authority
		name string
		ca   bool
	}{
		{&v.device, nil, "INSECURE fake device root", true}, {&v.family, &v.device, "INSECURE fake family", true},
		{&v.maker, &v.family, "INSECURE fake provisioner", true},
		{&v.rim, nil, "INSECURE fake RIM root", true}, {&v.signer, &v.rim, "INSECURE fake RIM signer", false},
	} {
		var up *authority
		if a.up != nil {
			up = *a.up
		}
		if *a.to, err = v.certify(up, pkix.Name{CommonName: a.name}, a.ca, nil); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Roots returns the vendor's roots.
func (v *Vendor) Roots() gpu.Roots { return gpu.Roots{Device: v.device.cert, RIM: v.rim.cert} }

func (v *Vendor) certify(up *authority, name pkix.Name, ca bool, change func(*x509.Certificate)) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	v.serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(v.serial), Subject: name, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: v.Now.AddDate(0, -6, 0), NotAfter: v.Now.AddDate(0, 6, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		c.KeyUsage = x509.KeyUsageCertSign
	}
	if change != nil {
		change(c)
	}
	a := &authority{key: key, up: up}
	parent, signer := c, key
	if up != nil {
		parent, signer = up.cert, up.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

// A Device is one fake GPU or switch. Its fields may be changed between reports.
type Device struct {
	Arch   gpu.Arch
	Driver string // "550.90.07"; a switch has none
	VBIOS  string // "96.00.5E.00.01"
	FWID   gpu.Digest
	Blocks map[int]gpu.Digest // by RIM index
	Fields map[gpu.Field][]byte
	PDI    [8]byte // who it is on NVLink
	leaf   *authority
}

// Connect links GPUs and switches to each other, all to all, as they then report.
func Connect(all ...*Device) {
	var gpus, switches []byte
	for _, d := range all {
		if d.Arch.Switch() {
			for i := range d.PDI {
				switches = append(switches, d.PDI[7-i])
			}
		} else {
			gpus = append(gpus, d.PDI[:]...)
		}
	}
	for _, d := range all {
		if d.Arch.Switch() {
			list := bytes.Repeat([]byte{0xff}, 128)
			copy(list, gpus)
			d.Fields[gpu.FieldSwitchGPUs], d.Fields[gpu.FieldSwitchPDIs] = list, d.PDI[:]
		} else {
			d.Fields[gpu.FieldSwitchPDIs] = append(bytes.Clone(switches), make([]byte, 8)...)
		}
	}
}

var chips = map[gpu.Arch]string{gpu.Hopper: "GH100", gpu.Blackwell: "GB100", gpu.LS10: "LS_10"}

// Device makes a device with a key of its own.
func (v *Vendor) Device(arch gpu.Arch, driver, vbios string) (*Device, error) {
	d := &Device{Arch: arch, Driver: driver, VBIOS: vbios, Blocks: map[int]gpu.Digest{}, Fields: map[gpu.Field][]byte{}}
	n := 64
	if arch.Switch() {
		n = 31
	}
	for i := range n {
		d.Blocks[i] = Measurement(arch, i)
	}
	binary.BigEndian.PutUint64(d.PDI[:], 0xfa00000000000000|uint64(v.serial))
	copy(d.FWID[:], "firmware of the fake")
	ext, err := asn1.Marshal(struct {
		Version int
		Device  struct{ N int }
		FWID    struct {
			Algorithm asn1.ObjectIdentifier
			Digest    []byte
		}
	}{1, struct{ N int }{1}, struct {
		Algorithm asn1.ObjectIdentifier
		Digest    []byte
	}{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, d.FWID[:]}})
	if err != nil {
		return nil, err
	}
	name := pkix.Name{CommonName: chips[arch] + " A01 INSECURE FMC LF", SerialNumber: fmt.Sprintf("FAKE%04d", v.serial)}
	chip, err := v.certify(v.maker, pkix.Name{CommonName: chips[arch] + " A01 INSECURE BROM", SerialNumber: fmt.Sprintf("41%016X", d.PDI)}, true, nil)
	if err != nil {
		return nil, err
	}
	d.leaf, err = v.certify(chip, name, false, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}, Value: ext}}
	})
	d.Fields[gpu.FieldFWID] = d.FWID[:]
	d.Fields[gpu.FieldNVDEC0] = []byte{0xaa}
	return d, err
}

// Measurement is what a device of the family has at an index, and what manifests say.
func Measurement(arch gpu.Arch, index int) (d gpu.Digest) {
	copy(d[:], fmt.Sprintf("%s %d", arch, index))
	return d
}

// Chain returns the certificates of the device in PEM, leaf first, root last.
func (d *Device) Chain() (text []byte) {
	for a := d.leaf; a != nil; a = a.up {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	return text
}

// Statuses of a certificate for [Vendor.OCSP].
const (
	Good    = ocsp.Good
	Revoked = ocsp.Revoked
)

// OCSP returns what a vendor's responders have of a device: a response for every certificate but the leaf, which the chip itself
// issued, the chip's first and having the given status, and, last, for the signer of the vendor's manifests. Each
// issuer has let a responder sign, whose certificate comes along.
func (v *Vendor) OCSP(d *Device, status int, at time.Time) ([][]byte, error) {
	var all [][]byte
	for _, a := range []*authority{d.leaf.up, v.maker, v.family, v.signer} {
		s := ocsp.Good
		if a == d.leaf.up {
			s = status
		}
		delegate, err := v.responder(a.up)
		if err != nil {
			return nil, err
		}
		r, err := respond(a, a.up, delegate, s, at)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func (v *Vendor) responder(issuer *authority) (*authority, error) {
	if v.responders == nil {
		v.responders = map[*authority]*authority{}
	}
	if v.responders[issuer] == nil {
		r, err := v.delegate(issuer, true)
		if err != nil {
			return nil, err
		}
		v.responders[issuer] = r
	}
	return v.responders[issuer], nil
}

// delegate makes a responder that the issuer certified with or without the purpose of signing responses.
func (v *Vendor) delegate(issuer *authority, purpose bool) (*authority, error) {
	return v.certify(issuer, pkix.Name{CommonName: "INSECURE responder"}, false, func(c *x509.Certificate) {
		if purpose {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		}
	})
}

// DelegatedOCSP is [Vendor.OCSP] for the chip alone, signed by a new responder with or without the purpose of doing so.
func (v *Vendor) DelegatedOCSP(d *Device, purpose bool, at time.Time) ([]byte, error) {
	delegate, err := v.delegate(v.maker, purpose)
	if err != nil {
		return nil, err
	}
	return respond(d.leaf.up, v.maker, delegate, ocsp.Good, at)
}

func respond(a, issuer, delegate *authority, status int, at time.Time) ([]byte, error) {
	r := ocsp.Response{Status: status, SerialNumber: a.cert.SerialNumber, ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 7), RevokedAt: at, RevocationReason: ocsp.CertificateHold, IssuerHash: crypto.SHA256}
	responder := issuer
	if delegate != nil {
		responder, r.Certificate = delegate, delegate.cert
	}
	return ocsp.CreateResponse(issuer.cert, responder.cert, r, responder.key)
}

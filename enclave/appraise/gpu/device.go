package gpu

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A judged device is one that is being judged.
type judged struct {
	DeviceResult
	v      *verifier
	dev    Device
	report *Report
	certs  []*x509.Certificate
	signed func() error // the report by the leaf
	golden map[int][]Digest
}

func (d *judged) ok(name, want, got, from string) {
	d.Checks = append(d.Checks, Check{name, OK, want, got, from})
}

func (d *judged) parse() (err error) {
	if d.report, err = ParseReport(d.dev.Report); err != nil {
		return &Error{BadReport, err}
	}
	d.manifestsAhead()
	if d.certs, err = ParseChain(d.dev.Chain); err != nil {
		return &Error{BadChain, err}
	}
	report, leaf := d.report, d.certs[0]
	d.signed = sync.OnceValue(func() error {
		key, err := leafKey(leaf)
		if err != nil {
			return err
		}
		return report.VerifySignature(key)
	})
	d.v.running.Go(func() { _ = d.signed() }) // to have it at hand when its turn comes
	return nil
}

// manifestsAhead starts on the manifests that the report says it needs, to have them at hand when their turn comes.
func (d *judged) manifestsAhead() {
	driver, _ := d.report.Driver()
	vbios, _ := d.report.VBIOS()
	for i := range d.v.rims {
		s := &d.v.rims[i]
		if slices.Contains(products[d.Arch], s.rim.Product) && (strings.EqualFold(s.rim.Version, driver) || strings.EqualFold(s.rim.Version, vbios)) {
			d.v.running.Go(func() { _ = d.v.manifest(s) }) // the error is the manifest's, and asked for again
		}
	}
}

func (d *judged) chain() (err error) {
	root := d.v.in.Roots.Device
	if d.certs, err = d.v.deviceChains.verifyChain(d.certs, root, d.v.in.Now); err != nil {
		return &Error{BadChain, err}
	}
	d.ID, d.key = d.certs[0].Subject.SerialNumber, string(d.certs[0].RawSubjectPublicKeyInfo)
	d.ok("chain", root.Subject.CommonName, d.certs[0].Subject.CommonName+" "+d.ID, "device root")
	return nil
}

func (d *judged) signature() error {
	if err := d.signed(); err != nil {
		return &Error{BadSignature, err}
	}
	d.ok("signature", "", "ECDSA P-384 by the chain's leaf", "")
	return nil
}

func (d *judged) firmware() error {
	want, err := fwid(d.certs[0])
	if err != nil {
		return &Error{BadFWID, err}
	}
	got, ok := d.report.Opaque[FieldFWID]
	switch {
	case !ok:
		d.Checks = append(d.Checks, Check{Name: "fwid", Status: NotChecked, Want: want.String(), Got: "the report states none", From: "certificate"})
	case string(got) != string(want[:]):
		return refuse(BadFWID, "report states firmware %x, its certificate %s", got, want)
	default:
		d.ok("fwid", want.String(), want.String(), "certificate")
	}
	return nil
}

func (d *judged) nonce() error {
	got := d.report.RequestNonce
	switch want := d.v.in.Nonce; {
	case want == nil:
		d.Checks = append(d.Checks, Check{Name: "nonce", Status: NotChecked, Got: fmt.Sprintf("%x", got)})
	case *want != got:
		return refuse(BadNonce, "report answers nonce %x, want %x", got, *want)
	default:
		d.ok("nonce", fmt.Sprintf("%x", *want), fmt.Sprintf("%x", got), "caller")
	}
	return nil
}

// arch takes the chip from the certificate, not from what comes with the evidence.
func (d *judged) arch() error {
	if _, ok := d.v.in.Policy.Floors[d.Arch]; !ok {
		return refuse(BadArch, "architecture %.40q is not accepted", string(d.Arch))
	}
	chip := chipOf(d.certs[0].Subject.CommonName)
	if !slices.Contains(products[d.Arch], chip) {
		return refuse(BadArch, "certificate is of chip %.40q, want one of %s", chip, d.Arch)
	}
	d.Chip = chip
	d.ok("architecture", string(d.Arch), chip, "policy")
	return nil
}

// chipOf returns the chip that a leaf's name starts with, as manifests write it.
func chipOf(name string) string {
	chip, _, _ := strings.Cut(name, " ")
	if chip == "LS_10" {
		return "LS10"
	}
	return chip
}

func (d *judged) versions() (err error) {
	floor := d.v.in.Policy.Floors[d.Arch]
	if !d.Arch.Switch() {
		if d.Driver, err = d.report.Driver(); err == nil {
			err = d.floor("driver", d.Driver, floor.Driver, 10)
		}
		if err != nil {
			return err
		}
	}
	if d.VBIOS, err = d.report.VBIOS(); err != nil {
		return err
	}
	return d.floor("vbios", d.VBIOS, floor.VBIOS, 16)
}

func (d *judged) floor(name, got, want string, base int) error {
	if want == "" {
		return refuse(NoPolicy, "policy: no floor for the %s of %s", name, d.Arch)
	}
	c, err := compareVersions(got, want, base)
	switch {
	case err != nil:
		return refuse(Rollback, "%s: %w", name, err)
	case c < 0:
		return refuse(Rollback, "%s %s, want at least %s", name, got, want)
	}
	d.ok(name, "at least "+want, got, "policy")
	return nil
}

// state notes what the report says the device runs, without judging it.
func (d *judged) state() (err error) {
	if !d.Arch.Switch() {
		if d.Driver, err = d.report.Driver(); err != nil {
			return err
		}
		if d.Mode, err = d.report.Mode(); err != nil {
			return &Error{BadMode, err}
		}
	}
	d.VBIOS, err = d.report.VBIOS()
	return err
}

// mode wants the mode of confidential computing that the report states.
func (d *judged) mode() (err error) {
	if d.Arch.Switch() {
		return nil
	}
	if d.Mode, err = d.report.Mode(); err != nil {
		return &Error{BadMode, err}
	}
	if !slices.Contains(d.v.in.Policy.Modes, d.Mode) {
		return refuse(BadMode, "mode %s, want %v", d.Mode, d.v.in.Policy.Modes)
	}
	d.ok("mode", fmt.Sprint(d.v.in.Policy.Modes), string(d.Mode), "policy")
	return nil
}

// revocation leaves the leaf out: the chip itself certifies the key of its firmware, at each start, and nobody answers for
// that. The chip's own certificate is the first that the vendor can revoke, and the vendor's verifiers begin there, too.
func (d *judged) revocation() error {
	if d.v.in.Policy.NoOCSP {
		d.Checks = append(d.Checks, Check{Name: "ocsp", Status: NotChecked, Got: "the policy asks for none: a revoked device passes", From: "policy"})
		return nil
	}
	certs := d.certs
	if len(certs) > 2 {
		certs = certs[1:]
	}
	if err := d.v.revocation(certs); err != nil {
		return err
	}
	d.ok("ocsp", "not older than "+d.v.in.Policy.OCSPMaxAge.String(), fmt.Sprintf("%d certificates good", len(certs)-1), "policy")
	return nil
}

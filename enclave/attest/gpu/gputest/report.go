package gputest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"tally/enclave/appraise/gpu"
)

// Report answers a nonce.
func (d *Device) Report(nonce [32]byte) ([]byte, error) {
	le := binary.LittleEndian
	b := append([]byte{0x11, 0xe0, 1, 0xff}, nonce[:]...)
	b = append(b, 0)
	var record []byte
	for _, i := range sorted(d.Blocks) {
		v := d.Blocks[i]
		record = append(record, byte(i+1), 1, 51, 0, 1, 48, 0)
		record = append(record, v[:]...)
	}
	b = append(b, 0x11, 0x60, 0, 0, byte(len(d.Blocks)), byte(len(record)), byte(len(record)>>8), 0)
	b = append(b, record...)
	b = append(b, make([]byte, 32)...) // a device's own nonce is random
	opaque, err := d.opaque()
	if err != nil {
		return nil, err
	}
	b = append(le.AppendUint16(b, uint16(len(opaque))), opaque...)
	sum := sha512.Sum384(b)
	sig, err := signRaw(d.leaf.key, sum[:])
	return append(b, sig...), err
}

func (d *Device) opaque() (b []byte, err error) {
	fields := map[gpu.Field][]byte{}
	for f, v := range d.Fields {
		fields[f] = v
	}
	if d.Arch.Switch() {
		fields[gpu.FieldVBIOS] = []byte(d.VBIOS)
	} else {
		v, err := hex.DecodeString(strings.ReplaceAll(d.VBIOS, ".", ""))
		if err != nil || len(v) != 5 {
			return nil, fmt.Errorf("VBIOS version %q, want five bytes", d.VBIOS)
		}
		fields[gpu.FieldVBIOS] = []byte{v[3], v[2], v[1], v[0], v[4], 0, 0, 0}
		fields[gpu.FieldDriver] = append([]byte(d.Driver), 0)
	}
	for _, f := range sorted(fields) {
		b = binary.LittleEndian.AppendUint16(b, uint16(f))
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(fields[f]))), fields[f]...)
	}
	return b, nil
}

func sorted[K gpu.Field | int, V any](m map[K]V) (keys []K) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Evidence answers a nonce with report and chain.
func (d *Device) Evidence(nonce [32]byte) (gpu.Device, error) {
	r, err := d.Report(nonce)
	return gpu.Device{Arch: d.Arch, Report: r, Chain: d.Chain()}, err
}

func signRaw(key *ecdsa.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		return nil, err
	}
	sig := make([]byte, 96)
	r.FillBytes(sig[:48])
	s.FillBytes(sig[48:])
	return sig, nil
}

const (
	rootTag = `<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" tagId="fake">`
	dsig    = `xmlns="http://www.w3.org/2000/09/xmldsig#"`
)

// RIM writes the manifest of a driver or VBIOS version whose active measurements are those given, each with an
// alternative that no device has.
func (v *Vendor) RIM(arch gpu.Arch, version string, active ...int) ([]byte, error) {
	product, edition := strings.ReplaceAll(chips[arch], "_", ""), "GPU"
	if arch.Switch() {
		edition = "SWITCH"
	}
	body := fmt.Sprintf(`<Meta colloquialVersion="%s" edition="%s" product="%s"></Meta><Payload>`, version, edition, product)
	for _, i := range active {
		body += fmt.Sprintf(`<Resource active="True" alternatives="2" index="%d" size="48" type="Measurement" ns2:Hash0="%096d" ns2:Hash1="%s"></Resource>`, i, 1, Measurement(arch, i))
	}
	body += "</Payload>"
	sum := sha512.Sum384([]byte(rootTag + body + "</SoftwareIdentity>"))
	info := `<CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"></CanonicalizationMethod>` +
		`<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"></SignatureMethod><Reference URI=""><Transforms>` +
		`<Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></Transform><Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"></Transform></Transforms>` +
		`<DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"></DigestMethod><DigestValue>` + b64(sum[:]) + `</DigestValue></Reference></SignedInfo>`
	sum = sha512.Sum384([]byte(`<SignedInfo ` + dsig + ` xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384">` + info))
	sig, err := signRaw(v.signer.key, sum[:])
	return []byte(rootTag + body + `<Signature ` + dsig + `><SignedInfo>` + info + `<SignatureValue>` + b64(sig) + `</SignatureValue><KeyInfo><X509Data><X509Certificate>` +
		b64(v.signer.cert.Raw) + `</X509Certificate></X509Data></KeyInfo></Signature></SoftwareIdentity>`), err
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

package gpu

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	swidSpace = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
	hashSpace = "http://www.w3.org/2001/04/xmlenc#sha384" // of the attributes Hash0…

	maxAlternatives = 64 // of one measurement: samples have up to 4
)

// A RIM is a reference integrity manifest. Nothing in it is true before [RIM.Verify].
type RIM struct {
	SHA256       [32]byte         // of the file: what a release statement pins
	Product      string           // "GH100", "LS10"
	Edition      string           // "GPU" or "SWITCH"
	Version      string           // of the driver or VBIOS
	TagID        string           // the vendor's identifier of this manifest
	Measurements map[int][]Digest // the active ones by index, each with its alternatives

	root *node
	sig  *signature
}

// ParseRIM reads a SWID tag in the vendor's form.
func ParseRIM(text []byte) (*RIM, error) { return parseRIM(text, sha256.Sum256(text)) }

func parseRIM(text []byte, sum [32]byte) (*RIM, error) {
	root, err := parseXML(text)
	if err != nil {
		return nil, fmt.Errorf("RIM: %w", err)
	}
	r := &RIM{SHA256: sum, root: root, Measurements: map[int][]Digest{}}
	if !root.is(swidSpace, "SoftwareIdentity") {
		return nil, fmt.Errorf("RIM: outermost element %.40q, want SoftwareIdentity of %s", root.name, swidSpace)
	}
	if r.sig, err = findSignature(root); err != nil {
		return nil, fmt.Errorf("RIM: %w", err)
	}
	if err := r.readParts(); err != nil {
		return nil, fmt.Errorf("RIM: %w", err)
	}
	r.sig.begin(root)
	return r, nil
}

func (r *RIM) readParts() error {
	var meta, payload *node
	for _, c := range r.root.elements() {
		switch {
		case c == r.sig.element || c.is(swidSpace, "Entity"):
		case c.is(swidSpace, "Meta") && meta == nil:
			meta = c
		case c.is(swidSpace, "Payload") && payload == nil:
			payload = c
		default:
			return fmt.Errorf("element %.40q: want Entity, one Meta, one Payload and Signature only", c.name)
		}
	}
	if meta == nil || payload == nil {
		return errors.New("no Meta or no Payload")
	}
	r.TagID, _ = r.root.attr("", "tagId")
	r.Version, _ = meta.attr("", "colloquialVersion")
	r.Product, _ = meta.attr("", "product")
	r.Edition, _ = meta.attr("", "edition")
	for _, s := range []string{r.TagID, r.Version, r.Product, r.Edition} {
		if s == "" || len(s) > 128 {
			return errors.New("tagId, colloquialVersion, product or edition: want 1 to 128 bytes")
		}
	}
	return r.readPayload(payload)
}

// readPayload wants each index once, whether active or not.
func (r *RIM) readPayload(payload *node) error {
	seen := map[int]bool{}
	for _, c := range payload.elements() {
		if !c.is(swidSpace, "Resource") || len(c.elements()) != 0 {
			return fmt.Errorf("payload: element %.40q, want Resource", c.name)
		}
		index, active, hashes, err := readResource(c)
		if err != nil {
			return fmt.Errorf("payload: resource %d: %w", len(seen)+1, err)
		}
		if seen[index] {
			return fmt.Errorf("payload: index %d twice", index)
		}
		seen[index] = true
		if active {
			r.Measurements[index] = hashes
		}
	}
	if len(r.Measurements) == 0 {
		return errors.New("payload: no active measurement")
	}
	return nil
}

func readResource(n *node) (index int, active bool, hashes []Digest, err error) {
	get := func(name string) string { v, _ := n.attr("", name); return v }
	number := func(name string, low, high int) int {
		v, e := strconv.Atoi(get(name))
		if (e != nil || v < low || v > high) && err == nil {
			err = fmt.Errorf("%s %.20q, want %d to %d", name, get(name), low, high)
		}
		return v
	}
	index = number("index", 0, 254)
	count := number("alternatives", 1, maxAlternatives)
	number("size", len(Digest{}), len(Digest{}))
	switch {
	case err != nil:
		return 0, false, nil, err
	case get("type") != "Measurement":
		return 0, false, nil, fmt.Errorf("type %.40q, want Measurement", get("type"))
	case get("active") != "True" && get("active") != "False":
		return 0, false, nil, fmt.Errorf("active %.40q, want True or False", get("active"))
	}
	for i := range count {
		v, _ := n.attr(hashSpace, "Hash"+strconv.Itoa(i))
		b, err := hex.DecodeString(v)
		if err != nil || len(b) != len(Digest{}) {
			return 0, false, nil, fmt.Errorf("Hash%d %.20q…, want %d hexadecimal digits", i, v, 2*len(Digest{}))
		}
		hashes = append(hashes, Digest(b))
	}
	if _, more := n.attr(hashSpace, "Hash"+strconv.Itoa(count)); more {
		return 0, false, nil, fmt.Errorf("more than %d alternatives, as stated", count)
	}
	return index, get("active") == "True", hashes, nil
}

// Verify returns the chain of who signed the manifest, leaf first. Its certificates must be valid at the
// given time: now, or [RIM.SignedAfter] where something else says that this very file is the one to use.
func (r *RIM) Verify(ca *x509.Certificate, at time.Time) ([]*x509.Certificate, error) {
	return r.verify(new(memo), ca, at)
}

func (r *RIM) verify(m *memo, ca *x509.Certificate, at time.Time) ([]*x509.Certificate, error) {
	chain, err := r.sig.verify(m, ca, at)
	if err != nil {
		return nil, fmt.Errorf("RIM %s %.40q: %w", r.Product, r.Version, err)
	}
	return chain, nil
}

// SignedAfter is the moment from which the signer's certificate was valid, so the earliest at which the
// manifest can have been signed. There is no other time in it.
func (r *RIM) SignedAfter() time.Time { return r.sig.chain[0].NotBefore }

// SignerNotAfter is the end of the signer's certificate.
func (r *RIM) SignerNotAfter() time.Time { return r.sig.chain[0].NotAfter }

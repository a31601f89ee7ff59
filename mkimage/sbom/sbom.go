// Package sbom writes the list of what an image was made of as SPDX 2.3 JSON.
//
// The document is a function of its input: `created` is the epoch, the creator has no version, lists are
// sorted, and documentNamespace ends in a version 8 UUID (RFC 9562) of the SHA-256 of the document with
// that UUID zero. It describes one package, the image (its checksum is that of disk.raw); every input is a
// package too:
//
//	input        relationship to the image           identified by
//	package      CONTAINS, or GENERATED_FROM when    SHA-256 of the .deb, purl
//	             only boot files come from it, or
//	             BUILD_DEPENDENCY_OF when only steps use it
//	oci          CONTAINS                            SHA-256 of the index or manifest, purl
//	file         CONTAINS                            SHA-256
//	dir          CONTAINS                            tree digest, in the comment
//	go           GENERATED_FROM                      digest of the source files, in the comment
//	module       GENERATED_FROM                      h1 sum of go.sum, in the comment; purl
//	toolchain    BUILD_TOOL_OF                       h1 sum of go.sum, in the comment; purl
//	others       CONTAINS                            SHA-256, purl if there is one
//
// A digest that is not the SHA-256 of one file is no SPDX checksum, which is why it stands in the comment.
// Licences are not looked into: NOASSERTION.
package sbom

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// FileName is the document's name in an output directory.
const FileName = "sbom.spdx.json"

// A Component is one input of an image.
type Component struct {
	Kind    string   // package, file, dir, go, module, toolchain or another
	Name    string   //
	Version string   // may be empty
	SHA256  [32]byte // see the package comment
	PURL    string   // package URL; may be empty
	UsedBy  []string // for packages: root.N, step.NAME, kernel, stub, firmware.NAME, vars
}

// An Image is what the document describes.
type Image struct {
	Name, Version string
	Epoch         int64    // seconds since 1970: the document's creation time
	Disk          [32]byte // SHA-256 of disk.raw
	Components    []Component
}

const (
	imageID      = "SPDXRef-Image"
	noAssertion  = "NOASSERTION"
	zeroUUID     = "00000000-0000-0000-0000-000000000000"
	namespaceURL = "https://spdx.org/spdxdocs/" // the form that SPDX 2.3, 6.5 recommends
)

// The types follow SPDX 2.3 clauses 6, 7 and 11 in the JSON form of its annex; only what is written here.
type document struct {
	SPDXVersion   string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	SPDXID        string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	CreationInfo  creationInfo   `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creationInfo struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	SPDXID           string        `json:"SPDXID"`
	Name             string        `json:"name"`
	Version          string        `json:"versionInfo,omitempty"`
	FileName         string        `json:"packageFileName,omitempty"`
	DownloadLocation string        `json:"downloadLocation"`
	FilesAnalyzed    bool          `json:"filesAnalyzed"`
	LicenseConcluded string        `json:"licenseConcluded"`
	LicenseDeclared  string        `json:"licenseDeclared"`
	Copyright        string        `json:"copyrightText"`
	Checksums        []checksum    `json:"checksums,omitempty"`
	ExternalRefs     []externalRef `json:"externalRefs,omitempty"`
	Purpose          string        `json:"primaryPackagePurpose,omitempty"`
	Comment          string        `json:"comment,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// Marshal returns the document of an image: two-space indentation, one trailing newline.
func Marshal(im Image) ([]byte, error) {
	if im.Name == "" || im.Version == "" || im.Epoch < 0 {
		return nil, fmt.Errorf("sbom: image %q %q at %d: want a name, a version and no time before 1970", im.Name, im.Version, im.Epoch)
	}
	d := document{SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: im.Name + "-" + im.Version,
		CreationInfo:  creationInfo{time.Unix(im.Epoch, 0).UTC().Format("2006-01-02T15:04:05Z"), []string{"Tool: tally"}},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", imageID}},
	}
	image := newPackage(imageID, im.Name, im.Version)
	image.FileName, image.Purpose, image.Checksums = "disk.raw", "OPERATING-SYSTEM", sha256sum(im.Disk)
	d.Packages = append(d.Packages, image)
	cs := slices.Clone(im.Components)
	sort.Slice(cs, func(i, j int) bool { return cs[i].key() < cs[j].key() })
	for i, c := range cs {
		if c.Kind == "" || c.Name == "" {
			return nil, errors.New("sbom: a component without kind or name")
		}
		if i > 0 && c.key() == cs[i-1].key() {
			continue // one .deb with two users
		}
		d.Packages = append(d.Packages, c.describe())
		d.Relationships = append(d.Relationships, c.relate())
	}
	return d.finish()
}

// finish derives the namespace.
func (d *document) finish() ([]byte, error) {
	prefix := namespaceURL + d.Name + "-"
	d.Namespace = prefix + zeroUUID
	data, err := d.encode()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	h := hex.EncodeToString(u)
	d.Namespace = prefix + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	return d.encode()
}

func (d *document) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("sbom: %w", err)
	}
	return b.Bytes(), nil
}

func newPackage(id, name, version string) pkg {
	return pkg{SPDXID: id, Name: name, Version: version, DownloadLocation: noAssertion, LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion}
}

func sha256sum(sum [32]byte) []checksum { return []checksum{{"SHA256", hex.EncodeToString(sum[:])}} }

func (c Component) key() string {
	return strings.Join([]string{c.Kind, c.Name, c.Version, hex.EncodeToString(c.SHA256[:])}, "\x00")
}

// id is made of what SPDX allows in one: letters, digits, dots and hyphens. The digest makes it unique.
func (c Component) id() string {
	clean := func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '-'
	}
	sum := sha256.Sum256([]byte(c.key()))
	return fmt.Sprintf("SPDXRef-%s-%s-%x", strings.Map(clean, c.Kind), strings.Map(clean, c.Name), sum[:6])
}

func (c Component) describe() pkg {
	p := newPackage(c.id(), c.Name, c.Version)
	h1 := "h1:" + base64.StdEncoding.EncodeToString(c.SHA256[:])
	switch c.Kind {
	case "dir":
		p.Comment = "tree_sha256 " + hex.EncodeToString(c.SHA256[:])
	case "go":
		p.Purpose, p.Comment = "SOURCE", "source_sha256 "+hex.EncodeToString(c.SHA256[:])
	case "module", "toolchain":
		p.Comment = h1
	default:
		p.Checksums = sha256sum(c.SHA256)
	}
	if c.Kind == "file" {
		p.Purpose, p.FileName = "FILE", c.Name
	}
	if len(c.UsedBy) > 0 {
		p.Comment = "used by " + strings.Join(c.UsedBy, ", ")
	}
	if c.PURL != "" {
		p.ExternalRefs = []externalRef{{"PACKAGE-MANAGER", "purl", c.PURL}}
	}
	return p
}

func (c Component) relate() relationship {
	root := func(user string) bool { return strings.HasPrefix(user, "root.") }
	noStep := func(user string) bool { return !strings.HasPrefix(user, "step.") }
	switch {
	case len(c.UsedBy) > 0 && !slices.ContainsFunc(c.UsedBy, noStep):
		return relationship{c.id(), "BUILD_DEPENDENCY_OF", imageID}
	case c.Kind == "toolchain":
		return relationship{c.id(), "BUILD_TOOL_OF", imageID}
	case c.Kind == "go", c.Kind == "module", c.Kind == "package" && !slices.ContainsFunc(c.UsedBy, root):
		return relationship{imageID, "GENERATED_FROM", c.id()}
	}
	return relationship{imageID, "CONTAINS", c.id()}
}

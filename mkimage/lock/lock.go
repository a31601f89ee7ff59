// Package lock pins every input of an image by SHA-256 and gets them back by hash alone.
//
// image.lock (tally.lock/v1) is one JSON object: two-space indentation, lists sorted, one trailing
// newline, no wall clock and no place on the network but the repository of a container image, which is its
// name. A package is named by its pool path below a mirror and by the time at
// which a snapshot archive has it; which mirror that is, is the business of the machine that fetches.
// `digest` is the SHA-256 of the whole object with 64 zeros in that field: it is no signature, but an edit
// by hand, or a merge by a tool that does not know the format, is an error. `spec_sha256` ties the
// lock to one image.yaml, so that the two cannot drift apart, and `variant` to one of its images, where it has
// several.
//
// [Indexer] is the only code that reads a package index; [Fetcher] gets what a lock names; [Store] keeps it.
package lock

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Schema names the format.
const Schema = "tally.lock/v1"

// FileName is the usual name of a lock, beside its spec and in an output directory.
const FileName = "image.lock"

// MaxLock is the size in bytes above which a lock is refused unread.
const MaxLock = 64 << 20

// A Hash is a SHA-256 (32 bytes), lower-case hex in text.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText wants 64 lower-case hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	var v Hash
	if len(b) != 64 || string(bytes.ToLower(b)) != string(b) {
		return fmt.Errorf("hash %.80q: want 64 lower-case hex digits", b)
	}
	if _, err := hex.Decode(v[:], b); err != nil {
		return fmt.Errorf("hash %.80q: want 64 lower-case hex digits", b)
	}
	*h = v
	return nil
}

// A Lock is everything an image is made of, by content.
type Lock struct {
	Schema     string      `json:"schema"`
	Digest     Hash        `json:"digest"` // see the package comment
	Spec       Hash        `json:"spec_sha256"`
	Variant    string      `json:"variant,omitempty"` // of the spec; absent: it has none
	Arch       string      `json:"arch"`              // Debian's name of the architecture: amd64
	Toolchains []Toolchain `json:"toolchains"`        // by version and platform
	Suites     []Suite     `json:"suites"`            // by name
	Packages   []Package   `json:"packages"`          // by name, version and architecture
	Files      []File      `json:"files"`             // by path
	Dirs       []Dir       `json:"dirs"`              // by path
	OCI        []OCI       `json:"oci,omitempty"`     // by source; absent: none
	Models     []ModelFile `json:"models,omitempty"`  // by source and name; absent: none
	Go         []Go        `json:"go"`                // by module directory and package
	Modules    []Module    `json:"modules"`           // by path and version
}

// A Toolchain is one release of the go command for the machine that made the lock.
type Toolchain struct {
	Version  string `json:"version"`  // e.g. go1.26.8
	Platform string `json:"platform"` // of the building machine, e.g. linux-amd64
	Sum      string `json:"sum"`      // h1:… of module golang.org/toolchain, as in go.sum
}

// A Suite is one index that packages came from, as it was when the lock was made. An older one that some
// packages are still from is NAME@SNAPSHOT: see Indexer.Update.
type Suite struct {
	Name       string   `json:"name"`
	Archive    string   `json:"archive"`                      // which tree of a mirror: debian, debian-security or the spec's word
	Dist       string   `json:"suite,omitempty"`              // directory below dists; absent: the name
	Keyring    *Object  `json:"keyring,omitempty"`            // keys that sign it; absent: Debian's
	Priority   int      `json:"priority,omitempty"`           // by which candidates were chosen; absent: 500
	Policy     string   `json:"valid_until_policy,omitempty"` // enforce, or ignore: an expired index was welcome; absent: enforce
	Date       string   `json:"date"`                         // of the InRelease file, RFC 3339
	ValidUntil string   `json:"valid_until,omitempty"`        // of the InRelease file, RFC 3339; absent: it names no end
	Snapshot   string   `json:"snapshot"`                     // the date as snapshot archives spell it: 20060102T150405Z
	Signers    []string `json:"signers"`                      // fingerprints of the archive keys that signed it, sorted
	InRelease  Object   `json:"inrelease"`
	Indexes    []Index  `json:"indexes"` // by component
}

// An Index is one package list that the suite's InRelease file names.
type Index struct {
	Component string `json:"component"`
	Object           // of the compressed list
}

// An Object is some bytes by hash and size.
type Object struct {
	SHA256 Hash  `json:"sha256"`
	Size   int64 `json:"size"` // bytes
}

// A Package is one .deb.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Suite   string `json:"suite"`
	Path    string `json:"path"` // below the mirror's root: pool/…
	Object
	For []string `json:"for"` // who uses it: root.N (spec.Spec.SourceName), step.NAME, kernel, stub, firmware.NAME, vars; sorted
}

// A File is one local file.
type File struct {
	Path string `json:"path"` // relative to the spec's directory
	Object
}

// A Dir is one local directory.
type Dir struct {
	Path  string `json:"path"`        // relative to the spec's directory
	Tree  Hash   `json:"tree_sha256"` // mkimage/tree's digest: names, kinds and modes as they enter the image, and contents
	Count int    `json:"entries"`
}

// A Go is one program.
type Go struct {
	Module    string `json:"module"` // directory, relative to the spec's
	Package   string `json:"package"`
	Toolchain string `json:"toolchain"`     // e.g. go1.26.8
	Source    Hash   `json:"source_sha256"` // of every file of this module that the build reads, with go.mod and go.sum
	Standard  Hash   `json:"std_sha256"`    // of every file of the standard library that the build reads
}

// A Module is one module that a program links.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"` // h1:… of its zip file, as in go.sum
}

// Marshal returns the one form of l and sets l.Digest.
func (l *Lock) Marshal() ([]byte, error) {
	c := *l
	c.Digest = Hash{}
	data, err := marshal(&c)
	if err != nil {
		return nil, err
	}
	c.Digest = sha256.Sum256(data)
	l.Digest = c.Digest
	return marshal(&c)
}

func marshal(l *Lock) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return b.Bytes(), nil
}

// ErrEdited is returned, wrapped, for a lock that is not in the form Marshal writes.
var ErrEdited = errors.New("was changed by hand")

// Parse reads and checks a lock; name stands in error messages.
func Parse(data []byte, name string) (*Lock, error) {
	if len(data) > MaxLock {
		return nil, fmt.Errorf("%s: %d bytes, want at most %d", name, len(data), MaxLock)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%s: the file is empty", name)
	}
	l := new(Lock)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(l); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: data after the object", name)
	}
	if l.Schema != Schema {
		return nil, fmt.Errorf("%s: schema %.64q, want %q", name, l.Schema, Schema)
	}
	c := *l
	again, err := c.Marshal()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !bytes.Equal(again, data) && l.Digest == c.Digest {
		return nil, fmt.Errorf("%s: %w (it says what it said, in another form)", name, ErrEdited)
	}
	if !bytes.Equal(again, data) {
		return nil, fmt.Errorf("%s: %w (its digest is %s, want %s)", name, ErrEdited, l.Digest, c.Digest)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// PackagesFor returns the packages that a user of the lock (see Package.For) needs, in the lock's order.
func (l *Lock) PackagesFor(user string) []Package {
	var all []Package
	for _, p := range l.Packages {
		for _, f := range p.For {
			if f == user {
				all = append(all, p)
			}
		}
	}
	return all
}

// dist is the suite's directory below dists.
func (s *Suite) dist() string { return cmp.Or(s.Dist, s.Name) }

// suite returns the suite of that name, or nil.
func (l *Lock) suite(name string) *Suite {
	for i := range l.Suites {
		if l.Suites[i].Name == name {
			return &l.Suites[i]
		}
	}
	return nil
}

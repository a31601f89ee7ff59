// Package lock pins every input of an image by SHA-256 and gets them back by hash alone.
//
// image.lock (tally.lock/v1) is one JSON object, two-space indentation, lists sorted, one trailing
// newline. It holds no place on the network: a package is named by its pool path, and by the timestamp
// at which a snapshot archive has it; the mirror is the machine's own business. `digest` is the SHA-256
// of the object with an empty digest: an edit by hand is an error.
package lock

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Schema names the format.
const Schema = "tally.lock/v1"

// MaxLock is the size in bytes above which a lock is refused unread.
const MaxLock = 64 << 20

// A Hash is a SHA-256 (32 bytes), lower-case hex in text.
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText wants 64 lower-case hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != 64 || string(bytes.ToLower(b)) != string(b) {
		return fmt.Errorf("hash %.80q: want 64 lower-case hex digits", b)
	}
	if _, err := hex.Decode(h[:], b); err != nil {
		return fmt.Errorf("hash %.80q: want 64 lower-case hex digits", b)
	}
	return nil
}

// A Lock is everything an image is made of, by content.
type Lock struct {
	Schema    string    `json:"schema"`
	Digest    Hash      `json:"digest"` // of this object with a zero digest
	Spec      Hash      `json:"spec_sha256"`
	Arch      string    `json:"arch"`
	Toolchain string    `json:"toolchain"` // release of the go command, e.g. go1.26.8
	Suites    []Suite   `json:"suites"`
	Packages  []Package `json:"packages"` // by name and version
	Files     []File    `json:"files"`    // by path
	Dirs      []Dir     `json:"dirs"`     // by path
	Go        []Go      `json:"go"`       // by module directory and package
	Modules   []Module  `json:"modules"`  // by path
}

// A Suite is one index that packages came from, as it was when the lock was made.
type Suite struct {
	Name       string   `json:"name"`
	Archive    string   `json:"archive"`  // debian or debian-security: which tree of a mirror has the pool
	Date       string   `json:"date"`     // of the InRelease file, RFC 3339
	Snapshot   string   `json:"snapshot"` // the same as a snapshot archive spells it: 20060102T150405Z
	ValidUntil string   `json:"valid_until,omitempty"`
	InRelease  Hash     `json:"inrelease_sha256"`
	Signers    []string `json:"signers"` // fingerprints of the archive keys that signed it
	Components []string `json:"components"`
}

// A Package is one .deb.
type Package struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Arch    string   `json:"arch"`
	Suite   string   `json:"suite"`
	Path    string   `json:"path"` // below the mirror's root: pool/…
	SHA256  Hash     `json:"sha256"`
	Size    int64    `json:"size"` // bytes
	For     []string `json:"for"`  // who uses it: root.N, kernel, stub, firmware.NAME; sorted
}

// A File is one local file.
type File struct {
	Path   string `json:"path"` // relative to the spec's directory
	SHA256 Hash   `json:"sha256"`
	Size   int64  `json:"size"`
}

// A Dir is one local directory; the hash is that of its tree (mkimage/tree), so that it covers names,
// kinds and modes as they enter the image.
type Dir struct {
	Path string `json:"path"`
	Tree Hash   `json:"tree_sha256"`
}

// A Go is one program: the hash covers every source file of this module that its build reads, with
// go.mod and go.sum.
type Go struct {
	Module  string `json:"module"` // directory, relative to the spec's
	Package string `json:"package"`
	Source  Hash   `json:"source_sha256"`
}

// A Module is one module that a program links, with the checksum of go.sum.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum"` // h1:…
}

// Marshal returns the one form of l, with its digest.
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

// ErrEdited is returned for a lock that is not in the form Marshal writes.
var ErrEdited = errors.New("was changed by hand: make it again with 'tally lock'")

// Parse reads and checks a lock; name stands in error messages.
func Parse(data []byte, name string) (*Lock, error) {
	if len(data) > MaxLock {
		return nil, fmt.Errorf("%s: %d bytes, want at most %d", name, len(data), MaxLock)
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
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, fmt.Errorf("%s: %w", name, ErrEdited)
	}
	return l, l.check(name)
}

func (l *Lock) check(name string) error {
	suites := map[string]bool{}
	for _, s := range l.Suites {
		suites[s.Name] = true
	}
	for _, p := range l.Packages {
		switch {
		case !suites[p.Suite]:
			return fmt.Errorf("%s: package %.80q: suite %.64q is not in the lock", name, p.Name, p.Suite)
		case p.Path == "" || path.Clean(p.Path) != p.Path || path.IsAbs(p.Path) || strings.HasPrefix(p.Path, ".."):
			return fmt.Errorf("%s: package %.80q: path %.200q: want a clean relative path", name, p.Name, p.Path)
		case p.Size < 0:
			return fmt.Errorf("%s: package %.80q: size %d", name, p.Name, p.Size)
		}
	}
	return nil
}

// PackagesFor returns the packages that a user of the lock (see Package.For) needs.
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

func (l *Lock) suite(name string) *Suite {
	for i := range l.Suites {
		if l.Suites[i].Name == name {
			return &l.Suites[i]
		}
	}
	return nil
}

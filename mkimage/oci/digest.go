package oci

import (
	"encoding/hex"
	"fmt"
	"strings"

	"tally/internal/pattern"
)

// A Digest is the SHA-256 of a blob (32 bytes), "sha256:" and lower-case hex in text.
type Digest [32]byte

func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// MarshalText returns the text form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDigest.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// ParseDigest reads "sha256:" and 64 lower-case hex digits; no other algorithm is known.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	digits, ok := strings.CutPrefix(s, "sha256:")
	if b, err := hex.DecodeString(digits); ok && err == nil && len(b) == len(d) && strings.ToLower(digits) == digits {
		return Digest(b), nil
	}
	return d, fmt.Errorf("digest %.100q: want sha256: and 64 lower-case hex digits", s)
}

// A Reference names an image in a registry: HOST[:PORT]/PATH@sha256:HEX.
type Reference struct {
	Repository string // HOST[:PORT]/PATH
	Digest     Digest
}

func (r Reference) String() string { return r.Repository + "@" + r.Digest.String() }

// repositoryForm is the grammar of the OCI Distribution Specification 1.1 (name) behind a host, which
// must have a dot or a port or be localhost: a bare name would mean whatever a tool's default registry is.
var repositoryForm = pattern.New(`^(localhost|[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?|\[[0-9a-fA-F:]{2,39}\])(:[0-9]{1,5})?/` +
	`[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// CheckRepository refuses what is not HOST[:PORT]/PATH.
func CheckRepository(s string) error {
	host, _, _ := strings.Cut(s, "/")
	if len(s) > 512 || !repositoryForm.MatchString(s) || host != "localhost" && !strings.ContainsAny(host, ".:") {
		return fmt.Errorf("repository %.200q: want HOST[:PORT]/PATH, like registry.example/team/app", s)
	}
	return nil
}

// ParseReference reads the form of [Reference]. A tag is refused: it does not name bytes.
func ParseReference(s string) (Reference, error) {
	repository, digest, ok := strings.Cut(s, "@")
	if !ok {
		return Reference{}, fmt.Errorf("image %.200q: want HOST[:PORT]/PATH@sha256:HEX, by digest", s)
	}
	if err := CheckRepository(repository); err != nil {
		return Reference{}, fmt.Errorf("image %.200q: %w", s, err)
	}
	d, err := ParseDigest(digest)
	if err != nil {
		return Reference{}, fmt.Errorf("image %.200q: %w", s, err)
	}
	return Reference{repository, d}, nil
}

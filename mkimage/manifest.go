package mkimage

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
)

// ManifestSchema names the format of manifest.json. It is specified by the types of this file: one JSON
// object, two-space indentation, one trailing newline, no wall clock, no host name, no tool version, so
// that `cmp` works on it and several rebuilders can sign the same bytes.
const ManifestSchema = "tally.manifest/v1"

// LayoutVersion is the version of the byte layout this package writes (DESIGN 4, "Layout v1").
const LayoutVersion = 1

// MaxManifest is the size in bytes above which a manifest is refused unread.
const MaxManifest = 64 << 20

// A Digest is a SHA-256 (32 bytes), lower-case hex in text.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns 64 hex digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText wants 64 lower-case hex digits.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 64 || strings.ToLower(string(b)) != string(b) {
		return fmt.Errorf("digest %.80q: want 64 lower-case hex digits", b)
	}
	if _, err := hex.Decode(d[:], b); err != nil {
		return fmt.Errorf("digest %.80q: want 64 lower-case hex digits", b)
	}
	return nil
}

// A Manifest says what a build made and from what. See ManifestSchema.
type Manifest struct {
	Schema    string          `json:"schema"`
	Name      string          `json:"name"`
	Version   string          `json:"version"`
	Epoch     int64           `json:"epoch"`  // seconds since 1970; no file in the image is newer
	Layout    int             `json:"layout"` // LayoutVersion
	Spec      Ref             `json:"spec"`
	Lock      Ref             `json:"lock"`
	Sources   Ref             `json:"sources"`
	Artifacts []Artifact      `json:"artifacts"` // sorted by name
	Verity    VerityParams    `json:"verity"`
	Models    []Model         `json:"models,omitempty"` // volumes beside disk.raw, by name
	Config    *Config         `json:"config,omitempty"` // of the enclave, in the root; absent: none
	Cmdline   string          `json:"cmdline"`
	Firmware  []Firmware      `json:"firmware"`
	Platforms json.RawMessage `json:"platforms"`       // the spec's list, for measure; opaque here
	Inputs    []Input         `json:"inputs"`          // sorted by kind, name, version
	Steps     []Step          `json:"steps,omitempty"` // in the order of the spec
	Omitted   []string        `json:"omitted"`         // what the build left out, e.g. maintainer scripts; sorted
}

// A Ref is the digest of one file.
type Ref struct {
	SHA256 Digest `json:"sha256"`
}

// A Config is the configuration of the enclave, which the root hash covers.
type Config struct {
	Path   string `json:"path"` // in the root
	SHA256 Digest `json:"sha256"`

	// Wires are the protocols beside tally/1 by which it has the enclave reached, sorted.
	Wires []string `json:"wires,omitempty"`
}

// An Artifact is one output file.
type Artifact struct {
	Name   string `json:"name"` // path below OUT, slash-separated
	Role   string `json:"role"` // disk, model, uki, kernel, initrd, cmdline, firmware, spec, lock, sources, sbom, qcow2, tar.gz
	SHA256 Digest `json:"sha256"`
	Size   int64  `json:"size"` // bytes
}

// VerityParams are the dm-verity parameters that stand on the measured command line.
type VerityParams struct {
	Algorithm     string `json:"algorithm"` // sha256
	RootHash      Digest `json:"root_hash"`
	Salt          string `json:"salt"` // hex, "-" for none
	UUID          string `json:"uuid"` // of the superblock, which the boot never reads
	DataBlockSize int    `json:"data_block_size"`
	HashBlockSize int    `json:"hash_block_size"`
	DataBlocks    uint64 `json:"data_blocks"`
	HashStart     uint64 `json:"hash_start"` // in hash blocks from the start of the hash partition
	HashSize      int64  `json:"hash_size"`  // bytes, superblock included
}

// A Firmware is one of the firmware files, copied from a locked input.
type Firmware struct {
	Name string `json:"name"`
	File string `json:"file"` // below OUT
	Vars string `json:"vars"` // as-is or blank
}

// An Input is one thing the build read.
type Input struct {
	Kind     string `json:"kind"` // package, file, dir, oci, model, go, module, toolchain
	Name     string `json:"name"`
	Version  string `json:"version,omitempty"`
	SHA256   Digest `json:"sha256"`
	Size     int64  `json:"size,omitempty"` // bytes
	Verified string `json:"verified"`       // index: chain to a signed index at lock time; hash: digest only

	// For the SBOM alone: the manifest has no room for them.
	PURL   string   `json:"-"` // package URL
	UsedBy []string `json:"-"` // users of a package, see lock.Package
}

// Marshal returns the one form of m: lists sorted, indented, with a trailing newline.
func (m *Manifest) Marshal() ([]byte, error) {
	c := *m
	c.Artifacts = append([]Artifact{}, m.Artifacts...)
	sort.Slice(c.Artifacts, func(i, j int) bool { return c.Artifacts[i].Name < c.Artifacts[j].Name })
	c.Inputs = append([]Input{}, m.Inputs...)
	sort.Slice(c.Inputs, func(i, j int) bool { return inputKey(c.Inputs[i]) < inputKey(c.Inputs[j]) })
	c.Omitted = append([]string{}, m.Omitted...)
	sort.Strings(c.Omitted)
	c.Firmware = append([]Firmware{}, m.Firmware...)
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return b.Bytes(), nil
}

func inputKey(in Input) string {
	return strings.Join([]string{in.Kind, in.Name, in.Version, in.SHA256.String()}, "\x00")
}

// ParseManifest reads and checks a manifest; it accepts only what Marshal writes.
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > MaxManifest {
		return nil, fmt.Errorf("manifest: %d bytes, want at most %d", len(data), MaxManifest)
	}
	m := new(Manifest)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("manifest: data after the object")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	// Whatever two readers could understand differently (duplicate keys, order, spacing) is not in
	// the one form.
	again, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("manifest: not in the form tally writes (keys, order or spacing were changed)")
	}
	return m, nil
}

func (m *Manifest) check() error {
	if m.Schema != ManifestSchema {
		return fmt.Errorf("manifest: schema %.64q, want %q", m.Schema, ManifestSchema)
	}
	if m.Layout != LayoutVersion {
		return fmt.Errorf("manifest: layout %d, this tally builds layout %d", m.Layout, LayoutVersion)
	}
	seen := map[string]bool{}
	for _, a := range m.Artifacts {
		if a.Name == "" || path.Clean(a.Name) != a.Name || path.IsAbs(a.Name) || a.Name == ".." || strings.HasPrefix(a.Name, "../") {
			return fmt.Errorf("manifest: artifact name %.128q: want a clean relative path", a.Name)
		}
		if seen[a.Name] {
			return fmt.Errorf("manifest: artifact %q twice", a.Name)
		}
		seen[a.Name] = true
		if a.Size < 0 {
			return fmt.Errorf("manifest: artifact %q: size %d", a.Name, a.Size)
		}
	}
	return m.checkSteps()
}

// Artifact returns the artifact called name, or nil.
func (m *Manifest) Artifact(name string) *Artifact {
	for i := range m.Artifacts {
		if m.Artifacts[i].Name == name {
			return &m.Artifacts[i]
		}
	}
	return nil
}

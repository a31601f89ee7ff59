package sign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"tally/release"
)

const (
	manifestSchema = "tally.manifest/v1"
	maxManifest    = 64 << 20
	maxCmdline     = 2047
)

// An Out is a build's output directory, every file of it rehashed.
type Out struct {
	Dir       string
	manifest  manifest
	subjects  []release.Subject
	sizes     map[string]int64 // of the subjects, bytes
	reference json.RawMessage
}

// A File is one file of an Out.
type File struct {
	Name   string // below Dir, slash-separated
	Digest release.Digest
}

// manifest is manifest.json as this package needs it; the format is package mkimage's. The builder is not
// linked here: only bytes cross.
type manifest struct {
	Schema    string             `json:"schema"`
	Name      string             `json:"name"`
	Version   string             `json:"version"`
	Epoch     int64              `json:"epoch"`
	Layout    int                `json:"layout"`
	Spec      ref                `json:"spec"`
	Lock      ref                `json:"lock"`
	Sources   ref                `json:"sources"`
	Artifacts []release.Artifact `json:"artifacts"`
	Verity    verityParams       `json:"verity"`
	Models    []manifestModel    `json:"models"`
	Config    manifestConfig     `json:"config"`
	Cmdline   string             `json:"cmdline"`
	Firmware  json.RawMessage    `json:"firmware"`
	Platforms json.RawMessage    `json:"platforms"`
	Inputs    []manifestInput    `json:"inputs"`
	Steps     json.RawMessage    `json:"steps"`
	Omitted   json.RawMessage    `json:"omitted"`
}

type manifestConfig struct {
	Path   string         `json:"path"`
	SHA256 release.Digest `json:"sha256"`
	Wires  []string       `json:"wires"`
}

type manifestModel struct {
	Name   string       `json:"name"`
	File   string       `json:"file"`
	Mount  string       `json:"mount"`
	Verity verityParams `json:"verity"`
}

type manifestInput struct {
	Kind     string         `json:"kind"`
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	SHA256   release.Digest `json:"sha256"`
	Size     int64          `json:"size"`
	Verified string         `json:"verified"`
}

type ref struct {
	SHA256 release.Digest `json:"sha256"`
}

type verityParams struct {
	Algorithm     string         `json:"algorithm"`
	RootHash      release.Digest `json:"root_hash"`
	Salt          string         `json:"salt"`
	UUID          string         `json:"uuid"`
	DataBlockSize int            `json:"data_block_size"`
	HashBlockSize int            `json:"hash_block_size"`
	DataBlocks    uint64         `json:"data_blocks"`
	HashStart     uint64         `json:"hash_start"`
	HashSize      int64          `json:"hash_size"`
}

// ReadOut reads the manifest of dir and hashes every artefact that it lists, the manifest itself and the
// reference values. A file that is not what the manifest says is an error: nothing is signed unread.
func ReadOut(ctx context.Context, dir string) (*Out, error) {
	o := &Out{Dir: dir, sizes: map[string]int64{}}
	data, err := readSmall(filepath.Join(dir, release.Manifest), maxManifest)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o.manifest); err != nil {
		return nil, fmt.Errorf("%s: %w", release.Manifest, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: data after the object", release.Manifest)
	}
	if o.manifest.Schema != manifestSchema {
		return nil, fmt.Errorf("%s: schema %.64q, want %q", release.Manifest, o.manifest.Schema, manifestSchema)
	}
	o.add(release.Manifest, sha256.Sum256(data), int64(len(data)))
	values, err := readSmall(filepath.Join(dir, release.ReferenceValues), release.MaxStatement)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: missing in %q: run 'tally measure image' first", release.ReferenceValues, dir)
	} else if err != nil {
		return nil, err
	}
	if o.reference, err = release.CompactReference(values); err != nil {
		return nil, fmt.Errorf("%s: %w", release.ReferenceValues, err)
	}
	o.add(release.ReferenceValues, sha256.Sum256(values), int64(len(values)))
	for _, a := range o.manifest.Artifacts {
		if err := o.addArtifact(ctx, a); err != nil {
			return nil, err
		}
	}
	return o, o.readOCI()
}

func (o *Out) add(name string, d release.Digest, size int64) {
	o.sizes[name] = size
	o.subjects = append(o.subjects, release.Subject{Name: name, Digest: release.DigestSet{SHA256: d}})
}

func (o *Out) addArtifact(ctx context.Context, a release.Artifact) error {
	if !filepath.IsLocal(filepath.FromSlash(a.Name)) {
		return fmt.Errorf("%s: artifact name %.128q: want a path below the directory", release.Manifest, a.Name)
	}
	got, size, err := HashFile(ctx, filepath.Join(o.Dir, filepath.FromSlash(a.Name)))
	if err != nil {
		return err
	}
	if got != a.SHA256 || size != a.Size {
		return fmt.Errorf("artifact %q has SHA-256 %s and %d bytes, the manifest says %s and %d: build again", a.Name, got, size, a.SHA256, a.Size)
	}
	if a.Name == release.OCIManifest {
		return fmt.Errorf("%s: artifact name %q is taken", release.Manifest, a.Name)
	}
	o.add(a.Name, got, size)
	return nil
}

// Files lists every subject: what has to be published for others to rebuild and verify.
func (o *Out) Files() []File {
	var out []File
	for _, s := range o.subjects {
		out = append(out, File{s.Name, s.Digest.SHA256})
	}
	return out
}

// Options is what the maintainer says beside the bytes.
type Options struct {
	Sequence         uint64    // at least 1
	SourceRepository string    // URL or empty
	SourceCommit     string    // 40 or 64 hex digits or empty
	NotBefore        time.Time // zero: the image's epoch, so that the statement depends on bytes alone
	NotAfter         time.Time // zero: no end

	Claims     Claims
	Supersedes []release.Digest // payloads of earlier releases, sorted
}

// Statement makes the statement about o.
func (o *Out) Statement(opt Options) (*release.Statement, error) {
	m := &o.manifest
	if opt.NotBefore.IsZero() {
		opt.NotBefore = time.Unix(m.Epoch, 0)
	}
	v := release.Validity{NotBefore: opt.NotBefore.UTC().Truncate(time.Second)}
	if !opt.NotAfter.IsZero() {
		end := opt.NotAfter.UTC().Truncate(time.Second)
		v.NotAfter = &end
	}
	if len(m.Cmdline) > maxCmdline {
		return nil, fmt.Errorf("%s: cmdline has %d bytes, want at most %d", release.Manifest, len(m.Cmdline), maxCmdline)
	}
	s := &release.Statement{
		Type: release.StatementType, PredicateType: release.PredicateType, Subject: o.subjects,
		Predicate: release.Predicate{
			Release: release.Release{
				Name: m.Name, Version: m.Version, Sequence: opt.Sequence,
				SourceRepository: opt.SourceRepository, SourceCommit: opt.SourceCommit,
			},
			Inputs:    release.Inputs{Spec: m.Spec.SHA256, Lock: m.Lock.SHA256, Sources: m.Sources.SHA256},
			Artifacts: m.Artifacts,
			Verity:    m.Verity.statement(),
			Cmdline:   m.Cmdline, ReferenceValues: o.reference, Validity: v,
			Floors: opt.Claims.Floors, GPURIMs: opt.Claims.GPURIMs, Models: m.models(), Wires: m.Config.Wires,
			BuildEnvironment: m.environment(), Supersedes: opt.Supersedes,
		},
	}
	if _, err := s.Marshal(); err != nil {
		return nil, err
	}
	return s, nil
}

// HashFile returns the SHA-256 and size in bytes of a regular file.
func HashFile(ctx context.Context, path string) (release.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return release.Digest{}, 0, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return release.Digest{}, 0, errors.Join(fmt.Errorf("%s: want a regular file", path), err)
	}
	h := sha256.New()
	n, err := copyContext(ctx, h, f)
	if err != nil {
		return release.Digest{}, 0, fmt.Errorf("%s: %w", path, err)
	}
	return release.Digest(h.Sum(nil)), n, nil
}

// HashCopy copies r to w and returns the SHA-256 of what went through.
func HashCopy(ctx context.Context, w io.Writer, r io.Reader) (release.Digest, error) {
	h := sha256.New()
	if _, err := copyContext(ctx, io.MultiWriter(w, h), r); err != nil {
		return release.Digest{}, err
	}
	return release.Digest(h.Sum(nil)), nil
}

func copyContext(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		if _, werr := w.Write(buf[:k]); werr != nil {
			return n, werr
		}
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return data, err
}

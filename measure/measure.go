// Package measure computes the reference values of a built image: what each platform's hardware will
// report when it starts. It reads the bytes of the artefacts and nothing of how they were built; only
// bytes cross from mkimage to here, so that a builder's bug cannot leak into the expected value.
//
// The format of its answer is specified in SPEC.md beside this file.
package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"tally/measure/internal/once"
)

// Limits on what is read whole, in bytes.
const (
	maxManifest = 64 << 20
	maxFirmware = 64 << 20
	maxCmdline  = 2047 // COMMAND_LINE_SIZE of x86 less the NUL
)

// manifest is the part of tally.manifest/v1 that measuring needs: where the artefacts are and what they
// hash to. Its verity and cmdline fields are not read: the bytes are.
type manifest struct {
	Schema    string `json:"schema"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Artifacts []struct {
		Name   string `json:"name"`
		Role   string `json:"role"`
		SHA256 string `json:"sha256"`
		Size   int64  `json:"size"`
	} `json:"artifacts"`
	Firmware []struct {
		Name string `json:"name"`
		File string `json:"file"`
	} `json:"firmware"`
	Platforms json.RawMessage `json:"platforms"`
}

// An image is the open artefacts of one build.
type image struct {
	fsys        fs.FS
	m           manifest
	diskChecked bool              // against the manifest's digest
	kept        map[string][]byte // artefacts read whole, by role
	keep        bool              // kernel and initrd are wanted whole
	hashes      *once.Hashes      // of those
}

// Image measures the image in fsys (the directory that `tally build` wrote) for platforms, or for those
// of its manifest when platforms is nil. Every file read is checked against the manifest's SHA-256.
func Image(ctx context.Context, fsys fs.FS, platforms []Platform) (*ReferenceValues, error) {
	return measureImage(ctx, fsys, platforms, new(once.Hashes))
}

// measureImage is Image; hashes counts what is passed over.
func measureImage(ctx context.Context, fsys fs.FS, platforms []Platform, hashes *once.Hashes) (*ReferenceValues, error) {
	im := &image{fsys: fsys, kept: map[string][]byte{}, hashes: hashes}
	if err := im.readManifest(); err != nil {
		return nil, err
	}
	if platforms == nil {
		var err error
		if platforms, err = ParsePlatforms(im.m.Platforms); err != nil {
			return nil, fmt.Errorf("manifest.json: platforms: %w", err)
		}
	}
	im.keep = wantsWhole(platforms)
	a := &Artifacts{Name: im.m.Name, Version: im.m.Version, hashes: hashes}
	if err := im.static(ctx, &a.Static); err != nil {
		return nil, err
	}
	rv := &ReferenceValues{Schema: Schema, Name: a.Name, Version: a.Version}
	for _, p := range platforms {
		one, err := im.platform(ctx, a, p)
		if err != nil {
			return nil, err
		}
		rv.Values = append(rv.Values, one.Values...)
	}
	rv.Static = a.Static
	return rv, nil
}

// platform measures for one platform, after reading what it needs and was not read before.
func (im *image) platform(ctx context.Context, a *Artifacts, p Platform) (*ReferenceValues, error) {
	profile, err := p.Profile()
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w", p.Name, err)
	}
	if p.TEE != "vtpm" && p.IGVM == "" || p.Firmware != "" {
		if a.FirmwareBytes, err = im.firmware(ctx, &a.Static, p); err != nil {
			return nil, err
		}
	}
	if err := im.guestFirmware(ctx, &a.Static, p); err != nil {
		return nil, err
	}
	done, err := im.starts(ctx, a, p)
	if err != nil {
		return nil, err
	}
	defer done()
	rv, err := Compute(a, profile)
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w", p.Name, err)
	}
	return rv, nil
}

func (im *image) readManifest() error {
	data, err := readCapped(im.fsys, "manifest.json", maxManifest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &im.m); err != nil {
		return fmt.Errorf("manifest.json: %w", err)
	}
	if im.m.Schema != "tally.manifest/v1" {
		return fmt.Errorf("manifest.json: schema %.64q, want %q", im.m.Schema, "tally.manifest/v1")
	}
	return nil
}

func readCapped(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return data, nil
}

// static fills in the digests of kernel, initrd and command line, and what the command line says.
func (im *image) static(ctx context.Context, s *Static) error {
	var err error
	if s.Kernel, err = im.hashRole(ctx, "kernel"); err != nil {
		return err
	}
	if s.Initrd, err = im.hashRole(ctx, "initrd"); err != nil {
		return err
	}
	name, err := im.roleName("cmdline")
	if err != nil {
		return err
	}
	cmdline, err := readCapped(im.fsys, name, maxCmdline)
	if err != nil {
		return err
	}
	if err := im.checkDigest(name, sha256.Sum256(cmdline)); err != nil {
		return err
	}
	if err := checkCmdline(cmdline); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.Cmdline = string(cmdline)
	return nil
}

// roleName returns the file of the one artefact with a role.
func (im *image) roleName(role string) (string, error) {
	found := ""
	for _, a := range im.m.Artifacts {
		if a.Role != role {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("manifest.json: two artefacts with role %q", role)
		}
		found = a.Name
	}
	if found == "" {
		return "", fmt.Errorf("manifest.json: no artefact with role %q", role)
	}
	if !fs.ValidPath(found) || path.Clean(found) != found {
		return "", fmt.Errorf("manifest.json: artefact name %.128q: want a clean relative path", found)
	}
	return found, nil
}

// hashRole streams the artefact with a role through SHA-256, or reads it whole where it is wanted so.
func (im *image) hashRole(ctx context.Context, role string) (d Hash, err error) {
	if im.keep {
		data, err := im.whole(role)
		if err != nil {
			return d, err
		}
		return im.sha256(data), nil
	}
	name, err := im.roleName(role)
	if err != nil {
		return d, err
	}
	f, err := im.fsys.Open(name)
	if err != nil {
		return d, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, ctxReader{ctx, f}, make([]byte, 256<<10)); err != nil {
		return d, fmt.Errorf("%s: %w", name, err)
	}
	h.Sum(d[:0])
	return d, im.checkDigest(name, d)
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

func (im *image) checkDigest(name string, got [32]byte) error {
	for _, a := range im.m.Artifacts {
		if a.Name == name {
			if hex.EncodeToString(got[:]) != a.SHA256 {
				return fmt.Errorf("%s: SHA-256 %x, but manifest.json says %.64q", name, got, a.SHA256)
			}
			return nil
		}
	}
	return fmt.Errorf("manifest.json: no artefact %q", name)
}

// checkCmdline refuses a command line whose words could look different to the kernel, the guest's init and
// the reader of reference values.
func checkCmdline(cmdline []byte) error {
	if len(cmdline) > maxCmdline {
		return fmt.Errorf("%d bytes, want at most %d", len(cmdline), maxCmdline)
	}
	if i := bytes.IndexFunc(cmdline, func(r rune) bool { return r < 0x20 || r > 0x7e }); i >= 0 {
		return fmt.Errorf("byte %d is %#x: want printable ASCII", i, cmdline[i])
	}
	return nil
}

// ErrCmdline says why a command line does not cover the root file system.
var ErrCmdline = errors.New("command line: want exactly one roothash= of 64 lower-case hex digits")

// rootHash returns the value of the one roothash= of a command line.
func rootHash(cmdline string) (string, error) {
	found := ""
	for _, w := range strings.Fields(cmdline) {
		v, ok := strings.CutPrefix(w, "roothash=")
		if !ok {
			continue
		}
		if found != "" {
			return "", ErrCmdline
		}
		if new(Hash).UnmarshalText([]byte(v)) != nil {
			return "", ErrCmdline
		}
		found = v
	}
	if found == "" {
		return "", ErrCmdline
	}
	return found, nil
}

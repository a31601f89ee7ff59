// Package mkimage turns locked inputs into the bytes of an enclave image, layout v1.
//
// Build is a function of its inputs alone: no clock, no environment, no network, no host name, no
// directory order reaches a byte of its output. Its outputs and their order are those of DESIGN section
// 4: disk.raw (GPT: ESP, root, hash tree), uki.efi, vmlinuz, initrd, cmdline, firmware/NAME.fd, the spec, the
// lock and the source archive as they were given, and sbom.spdx.json (package sbom) and manifest.json, which
// names them all; on request disk.qcow2 and disk.tar.gz. SPEC.md gives their bytes.
package mkimage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/pattern"
	"tally/mkimage/disk"
	"tally/mkimage/erofs"
	"tally/mkimage/tree"
	"tally/mkimage/uki"
	"tally/verity"
)

// MaxCmdline is the longest kernel command line in bytes (COMMAND_LINE_SIZE of x86 less the NUL).
const MaxCmdline = 2047

// MaxScrub is the size of a root file system in bytes up to which every block is read before it is used.
const MaxScrub = 512 << 20

// Inputs are everything an image is made of. The zero Inputs is an error.
type Inputs struct {
	Name, Version string
	Epoch         int64  // seconds since 1970; nothing in the image is newer
	Cmdline       string // words behind those that Build writes
	Platforms     json.RawMessage

	Root       *tree.Tree // the root file system
	Models     []ModelInput
	Config     string     // path of the enclave's configuration in Root, for the manifest; "": none
	Wires      []string   // protocols beside tally/1 that it asks for, for the manifest
	KernelTree *tree.Tree // what the kernel package holds: modules
	Kernel     []byte     // vmlinuz
	Modules    []string   // to load in the initrd, by name; dependencies are found
	Init       []byte     // /init of the initrd, a static binary
	Stub       []byte     // systemd's UEFI stub
	Firmware   []FirmwareInput

	Spec, Lock []byte       // as read
	Sources    tree.Content // the archive of all local sources

	Outputs []string // files on request: disk.qcow2, disk.tar.gz
	List    []Input  // what was read, for the manifest
	Steps   []Step   // what was run, for the manifest
	Omitted []string // what was left out, for the manifest
}

// A FirmwareInput is one firmware file to copy to OUT/firmware/NAME.fd.
type FirmwareInput struct {
	Name string
	Vars string // as-is or blank, already applied to Data
	Data []byte
}

// A builder is one run of Build.
type builder struct {
	in  Inputs
	dir string // being filled
	log *slog.Logger

	root    *tree.Tree // in.Root with what Build adds
	initrd  []byte
	release string // of the kernel
	m       Manifest
}

var nameForm = pattern.New(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// Build writes the image to the directory out, which must be absent, empty or an earlier result. On any
// error, and when ctx ends, out is as it was.
func Build(ctx context.Context, in Inputs, out string, log *slog.Logger) (*Manifest, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	d, err := CreateResult(out)
	if err != nil {
		return nil, err
	}
	defer d.Abort()
	b := &builder{in: in, dir: d.Path, log: log}
	if b.root, err = in.withModels(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{b.buildInitrd, b.buildModels, b.buildDisk, b.buildTransports, b.copyInputs, b.writeSBOM, b.writeManifest} {
		if err := step(ctx); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return &b.m, d.Commit()
}

func (in *Inputs) check() error {
	switch {
	case !nameForm.MatchString(in.Name):
		return fmt.Errorf("name %.80q: want lower-case letters, digits, dots and hyphens, at most 64", in.Name)
	case in.Version == "":
		return errors.New("version: missing")
	case in.Epoch < 315532800:
		return fmt.Errorf("epoch %d: want at least 315532800 (1980, the first date FAT can hold)", in.Epoch)
	case in.Root == nil || in.KernelTree == nil || in.Sources == nil:
		return errors.New("inputs: root, kernel tree or sources are missing")
	case len(in.Kernel) == 0 || len(in.Init) == 0 || len(in.Stub) == 0:
		return errors.New("inputs: kernel, init or stub are empty")
	}
	for _, w := range strings.Fields(in.Cmdline) {
		key, _, _ := strings.Cut(w, "=")
		if key == "roothash" || key == "panic" || key == "init" || key == "rdinit" || strings.HasPrefix(key, "tally.") {
			return fmt.Errorf("cmdline: word %.80q: %s is set by the build", w, key)
		}
	}
	for _, r := range in.Cmdline {
		if r < 0x20 || r > 0x7e || r == '"' { // init refuses quotes: the kernel and it must split words alike
			return fmt.Errorf("cmdline: character %q: want printable ASCII without quotes", r)
		}
	}
	for _, name := range in.Outputs {
		if transports[name].write == nil {
			return fmt.Errorf("output %.80q: want disk.qcow2 or disk.tar.gz", name)
		}
	}
	seen := map[string]bool{}
	for _, f := range in.Firmware {
		if !nameForm.MatchString(f.Name) || seen[f.Name] {
			return fmt.Errorf("firmware name %.80q: want a plain name, once", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// derive returns a digest that depends on purpose and parts alone: the origin of every identifier.
func derive(purpose string, parts ...[]byte) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "tally %s v%d\x00", purpose, LayoutVersion)
	for _, p := range parts {
		fmt.Fprintf(h, "%d\x00", len(p))
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}

// buildDisk writes the root file system and, in the same pass, its hash tree straight into disk.raw, then
// the command line that names the root hash, the UKI that holds the command line, and the ESP and
// partition table around them.
func (b *builder) buildDisk(ctx context.Context) error {
	image, err := erofs.Plan(b.root, erofs.Options{Epoch: b.in.Epoch, Label: b.in.Name[:min(16, len(b.in.Name))]})
	if err != nil {
		return err
	}
	p := verityParams(b.in.Name, image)
	hashSize, err := verity.HashFileSize(p)
	if err != nil {
		return err
	}
	layout, err := disk.Plan(disk.Spec{Name: b.in.Name, Epoch: b.in.Epoch, RootSize: image.Size(), HashSize: hashSize,
		ESPPayload: int64(len(b.in.Stub) + len(b.in.Kernel) + len(b.initrd) + 64<<10)})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(b.dir, "disk.raw"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := writeVerity(ctx, f, image, layout.Root, layout.Hash, p)
	if err != nil {
		return err
	}
	b.describeVerity(p, root, image.Size(), hashSize)
	uefi, err := b.uki()
	if err != nil {
		return err
	}
	if err := layout.Finish(ctx, f, [32]byte(root.Bytes()), []disk.File{{Path: "EFI/BOOT/BOOTX64.EFI", Data: uefi}}); err != nil {
		return err
	}
	if err := b.write("cmdline", "cmdline", []byte(b.m.Cmdline)); err != nil {
		return err
	}
	if err := b.write("uki.efi", "uki", uefi); err != nil {
		return err
	}
	return errors.Join(b.hashFile(ctx, f, "disk.raw", "disk"), f.Close())
}

// uki puts kernel, initrd and the command line that names the root hash behind the stub.
func (b *builder) uki() ([]byte, error) {
	if len(b.m.Cmdline) > MaxCmdline {
		return nil, fmt.Errorf("cmdline: %d bytes with the words of the build, want at most %d", len(b.m.Cmdline), MaxCmdline)
	}
	return uki.Assemble(b.in.Stub, uki.Sections{OSRelease: b.osRelease(), Cmdline: []byte(b.m.Cmdline), Uname: []byte(b.release), Linux: b.in.Kernel, Initrd: b.initrd})
}

// verityParams derives salt and UUID: the salt from the name, so that two images share no tree blocks by
// accident; the UUID, which only the unread superblock holds, from the file system's.
func verityParams(name string, image *erofs.Image) verity.Params {
	salt := derive("verity salt", []byte(name))
	fs := image.UUID()
	id := derive("verity uuid", fs[:], salt[:])
	return verity.Params{DataBlocks: uint64(image.Size() / verity.BlockSize), Salt: salt[:], UUID: uuid8(id)}
}

// uuid8 is the version 8 UUID (RFC 9562, 5.8) of a digest.
func uuid8(digest [32]byte) [16]byte {
	u := [16]byte(digest[:16])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return u
}

// describeVerity fills in the manifest's parameters and the command line that carries them.
func (b *builder) describeVerity(p verity.Params, root verity.RootHash, rootSize, hashSize int64) {
	scrub := 1
	if rootSize > MaxScrub {
		scrub = 0
	}
	b.m.Verity = describe(p, root, hashSize)
	b.m.Cmdline = fmt.Sprintf("roothash=%s tally.verity=%s tally.scrub=%d panic=-1", root, b.m.Verity.word(), scrub)
	if words := strings.Join(strings.Fields(b.in.Cmdline), " "); words != "" {
		b.m.Cmdline += " " + words
	}
}

func (b *builder) osRelease() []byte {
	return fmt.Appendf(nil, "ID=tally\nNAME=%q\nVERSION_ID=%q\nPRETTY_NAME=%q\n", b.in.Name, b.in.Version, b.in.Name+" "+b.in.Version)
}

func (b *builder) hashFile(ctx context.Context, f *os.File, name, role string) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h := sha256.New()
	if err := copyCtx(ctx, h, io.NewSectionReader(f, 0, fi.Size())); err != nil {
		return err
	}
	b.m.Artifacts = append(b.m.Artifacts, Artifact{Name: name, Role: role, SHA256: Digest(h.Sum(nil)), Size: fi.Size()})
	return nil
}

func copyCtx(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"

	"tally/measure/pcr"
	"tally/measure/tdx"
)

// maxUKI is the largest UKI read whole, in bytes.
const maxUKI = 1 << 30

// boot opens the image's UKI and disk, checked against the manifest, for machines that boot from them. The
// caller closes the disk.
func (im *image) boot(ctx context.Context, a *Artifacts) (io.Closer, error) {
	var err error
	if a.UKI, err = im.whole("uki"); err != nil {
		return nil, err
	}
	name, err := im.roleName("disk")
	if err != nil {
		return nil, err
	}
	f, err := im.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	if err := im.checkDisk(ctx, a, name, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// starts opens what a platform starts, of which not the hash alone is measured; done closes it.
func (im *image) starts(ctx context.Context, a *Artifacts, p Platform) (done func(), err error) {
	if p.TEE == "vtpm" || p.TEE == "tdx" && p.Boot == bootUKI {
		disk, err := im.boot(ctx, a)
		if err != nil {
			return nil, err
		}
		return func() { disk.Close() }, nil
	}
	if p.TEE == "snp" && p.Boot == bootUKI && a.Static.UKI == nil {
		if a.UKI, err = im.whole("uki"); err != nil {
			return nil, err
		}
		sum := Hash(im.sha256(a.UKI))
		a.Static.UKI = &sum
	}
	if p.TEE != "tdx" {
		return func() {}, nil
	}
	if a.Kernel, err = im.whole("kernel"); err != nil {
		return nil, err
	}
	if a.InitrdFile == nil {
		initrd, err := im.whole("initrd")
		if err != nil {
			return nil, err
		}
		a.InitrdFile = tdx.HashInitrd(bytes.NewReader(initrd), int64(len(initrd)))
	}
	return func() {}, nil
}

// whole reads the artefact with a role, checked against the manifest, once: what hashes it in another way
// gets the same bytes.
func (im *image) whole(role string) ([]byte, error) {
	if data, ok := im.kept[role]; ok {
		return data, nil
	}
	name, err := im.roleName(role)
	if err != nil {
		return nil, err
	}
	data, err := readCapped(im.fsys, name, maxUKI)
	if err != nil {
		return nil, err
	}
	if err := im.checkDigest(name, im.sha256(data)); err != nil {
		return nil, err
	}
	im.kept[role] = data
	return data, nil
}

// sha256 is the SHA-256 of what is held whole.
func (im *image) sha256(data []byte) (d [32]byte) {
	im.hashes.Feed(sha256.New(), string(pcr.SHA256), "", data, func(h hash.Hash) { h.Write(data) }).Sum(d[:0])
	return d
}

// wantsWhole says whether a platform measures more of kernel and initrd than their SHA-256.
func wantsWhole(platforms []Platform) bool {
	return slices.ContainsFunc(platforms, func(p Platform) bool { return p.TEE == "tdx" && p.Boot == bootDirect })
}

// checkDisk reads the whole disk once: the manifest's digest covers the partition table by covering all.
func (im *image) checkDisk(ctx context.Context, a *Artifacts, name string, f fs.File) error {
	r, ok := f.(io.ReaderAt)
	if !ok {
		return errors.New(name + ": cannot be read at an offset")
	}
	if !im.diskChecked {
		h := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, ctxReader{ctx, f}, make([]byte, 256<<10)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := im.checkDigest(name, [32]byte(h.Sum(nil))); err != nil {
			return err
		}
		im.diskChecked = true
	}
	a.Disk = r
	return nil
}

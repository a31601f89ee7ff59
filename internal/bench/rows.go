package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/ulikunitz/xz"
)

// fill writes a file of pseudo-random bytes, the same in every run.
func (b *bench) fill(name string, size int64) error {
	f, err := os.Create(filepath.Join(b.dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{1}), size); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// verity hashes 1 GiB beside veritysetup.
func (b *bench) verity() error {
	const what = "verity format 1 GiB"
	peer, err := exec.LookPath("veritysetup")
	if err != nil {
		b.missing(what, "veritysetup is not installed")
		return nil
	}
	if err := b.fill("data", 1<<30); err != nil {
		return err
	}
	defer os.Remove(filepath.Join(b.dir, "data"))
	salt := "--salt=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	ours, err := b.run(nil, b.tally, "verity", "format", "--quiet", salt, "data", "hash.ours")
	if err != nil {
		return err
	}
	theirs, err := b.run(nil, peer, "format", salt, "data", "hash.theirs")
	if err != nil {
		return err
	}
	b.beside(what, ours, theirs, "veritysetup", "<= 0.60, <= 40 MiB")
	return nil
}

// measure computes one launch digest beside the floor: hashing the same files with sha256sum.
func (b *bench) measure() error {
	if err := b.fill("vmlinuz", 11737024); err != nil {
		return err
	}
	if err := b.fill("initrd", 30<<20); err != nil {
		return err
	}
	const firmware = "examples/minimal/firmware/OVMF.amdsev.fd.xz"
	in, err := os.Open(firmware)
	if err != nil {
		b.missing("measure snp", "run in the repository: "+err.Error())
		return nil
	}
	defer in.Close()
	r, err := xz.NewReader(in)
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(b.dir, "ovmf.fd"))
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, r); err != nil {
		return err
	}
	floor, err := b.run(nil, "sha256sum", "vmlinuz", "initrd", "ovmf.fd")
	if err != nil {
		return err
	}
	for _, n := range []string{"1", "512"} {
		ours, err := b.run(nil, b.tally, "measure", "snp", "--vcpus", n, "--vcpu-type", "EPYC-v4", "--ovmf", "ovmf.fd", "--kernel", "vmlinuz", "--initrd", "initrd", "--append", "quiet")
		if err != nil {
			return err
		}
		b.beside("measure snp, 12 MB kernel, 30 MB initrd, "+n+" vcpus", ours, floor, "sha256sum", "<= 0.040 s, <= 20 MiB")
	}
	return nil
}

// build makes the 103-package image cold and with its decompressed cache, from packages fetched before.
func (b *bench) build() error {
	const what = "build of 103 packages"
	spec, err := filepath.Abs("internal/bench/testdata/packages103/image.yaml")
	if err != nil {
		return err
	}
	if _, err := os.Stat(spec); err != nil {
		b.missing(what, "no spec")
		return nil
	}
	lock, cache := filepath.Join(b.dir, "image.lock"), filepath.Join(b.dir, "cache")
	if out, err := exec.Command(b.tally, "lock", spec, "-o", lock, "--cache", cache).CombinedOutput(); err != nil {
		b.missing(what, fmt.Sprintf("cannot lock here: %.200s", out))
		return nil
	}
	args := []string{"build", spec, "--lock", lock, "--cache", cache, "--quiet", "-o", "out"}
	if out, err := exec.Command(b.tally, append(args[:len(args)-1:len(args)-1], filepath.Join(b.dir, "warm"))...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v: %s", what, err, out)
	}
	cold := func() error { return os.RemoveAll(filepath.Join(cache, "unpacked")) }
	runs := b.runs
	b.runs = min(runs, 3)
	defer func() { b.runs = runs }()
	c, err := b.run(cold, b.tally, args...)
	if err != nil {
		return err
	}
	w, err := b.run(nil, b.tally, args...)
	if err != nil {
		return err
	}
	floor, err := b.run(nil, "sha256sum", filepath.Join(b.dir, "out", "disk.raw"))
	if err != nil {
		return err
	}
	b.beside(what+", cold", c, floor, "sha256sum disk.raw", "<= 7 s, <= 200 MiB")
	b.beside(what+", cached", w, floor, "sha256sum disk.raw", "<= 2 s, <= 200 MiB")
	return nil
}

// initrd reports the size of the demo's initrd.
func (b *bench) initrd() error {
	fi, err := os.Stat("out/demo/build/initrd")
	if err != nil {
		b.missing("initrd of examples/minimal", "run make demo first")
		return nil
	}
	b.rows = append(b.rows, row{"initrd of examples/minimal", fmt.Sprintf("%.2f MB", float64(fi.Size())/1e6), "", "", "<= 3 MB"})
	return nil
}

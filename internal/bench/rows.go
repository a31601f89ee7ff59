package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// fill writes a file of pseudo-random bytes, the same in every run.
func (b *bench) fill(name string, size int64) error {
	f, err := os.Create(b.path(name))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = io.CopyN(w, rand.NewChaCha8([32]byte{1}), size)
	return errors.Join(err, w.Flush(), f.Sync(), f.Close())
}

// build makes the 103-package image cold and with its decompressed cache, from packages fetched before,
// beside the floor: hashing the disk that comes out.
func (b *bench) build() error {
	spec, err := filepath.Abs("internal/bench/testdata/packages103/image.yaml")
	if err != nil {
		return err
	}
	if _, err := os.Stat(spec); err != nil {
		return fmt.Errorf("run in the repository: %w", err)
	}
	lock, cache := b.path("image.lock"), b.path("cache")
	if _, err := b.once(b.tally, "lock", spec, "-o", lock, "--cache", cache); err != nil {
		return err
	}
	debs, err := debRoots(lock)
	if err != nil {
		return err
	}
	build := []string{b.tally, "build", spec, "--lock", lock, "--cache", cache, "--quiet", "--offline", "-o", "out"}
	if _, err := b.once(append(build[:len(build)-3:len(build)-3], "-o", "out")...); err != nil {
		return err // this one fetches
	}
	cold := func() error { return os.RemoveAll(filepath.Join(cache, "unpacked")) }
	ms, err := b.race(min(b.runs, 3), command{build, cold}, cmd(build...), cmd("sha256sum", "out/disk.raw"))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("build of %d packages, ", debs)
	b.beside(what+"cold", ms[0], ms[2], "sha256sum disk.raw", target{wall: 5 * time.Second, rss: 200 << 10})
	b.beside(what+"cached", ms[1], ms[2], "sha256sum disk.raw", target{wall: 2 * time.Second, rss: 200 << 10})
	return nil
}

// debRoots counts the packages of the root file system in a lock.
func debRoots(lock string) (n int, err error) {
	data, err := os.ReadFile(lock)
	if err != nil {
		return 0, err
	}
	var l struct {
		Packages []struct{ For []string }
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return 0, err
	}
	for _, p := range l.Packages {
		if slices.ContainsFunc(p.For, func(s string) bool { return strings.HasPrefix(s, "root") }) {
			n++
		}
	}
	return n, nil
}

// measure computes launch digests of the Debian kernel with a 30 MB initrd beside the floor.
func (b *bench) measure() error {
	kernel := "out/vmlinuz" // of build
	if _, err := os.Stat(b.path(kernel)); err != nil {
		return fmt.Errorf("the Debian kernel comes from the build: %w", err)
	}
	if err := b.fill("initrd", 30_000_000); err != nil {
		return err
	}
	const firmware = "out/firmware/amdsev.fd"
	return errors.Join(b.measureFloor(kernel, "initrd", firmware), b.measureTDX(kernel, "initrd", firmware))
}

// initrd reports the size of the initrd that build made: the same init and modules as examples/minimal.
func (b *bench) initrd() error {
	fi, err := os.Stat(b.path("out/initrd"))
	if err != nil {
		return err
	}
	t := target{bytes: 3_000_000}
	b.rows = append(b.rows, row{what: "initrd", ours: fmt.Sprintf("%.2f MB", float64(fi.Size())/1e6), target: t.String(), verdict: t.judge(measured{}, 0, fi.Size())})
	return nil
}

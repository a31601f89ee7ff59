package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

var rootLine = regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`)

// verity hashes and checks 1 GiB beside veritysetup. The two hash files must be equal: otherwise the
// figures would be of two different jobs.
func (b *bench) verity() error {
	peer, err := exec.LookPath("veritysetup")
	if err != nil {
		return err
	}
	if err := b.fill("data", 1<<30); err != nil {
		return err
	}
	defer os.Remove(b.path("data"))
	options := []string{"--uuid=01234567-89ab-cdef-0123-456789abcdef", "--salt=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}
	ms, err := b.race(b.runs,
		cmd(append([]string{b.tally, "verity", "format", "--quiet", "data", "hash.ours"}, options...)...),
		cmd(append([]string{peer, "format", "data", "hash.theirs"}, options...)...))
	if err != nil {
		return err
	}
	if _, err := b.once("cmp", "hash.ours", "hash.theirs"); err != nil {
		return err
	}
	limit := target{ratio: 0.6, rss: 40 << 10}
	b.beside("verity format 1 GiB", ms[0], ms[1], "veritysetup", limit)
	out, err := exec.CommandContext(b.ctx, peer, append([]string{"format", b.path("data"), b.path("hash.theirs")}, options...)...).Output()
	if err != nil {
		return err
	}
	m := rootLine.FindSubmatch(out)
	if m == nil {
		return errors.New("veritysetup printed no root hash")
	}
	root := string(m[1])
	ms, err = b.race(b.runs, cmd(b.tally, "verity", "verify", "--quiet", "data", "hash.ours", root), cmd(peer, "verify", "data", "hash.theirs", root))
	if err != nil {
		return err
	}
	b.beside("verity verify 1 GiB", ms[0], ms[1], "veritysetup", limit)
	return nil
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
	b.beside(what+"cold", ms[0], ms[2], "sha256sum disk.raw", target{wall: 7 * time.Second, rss: 200 << 10})
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

// measure computes launch digests of the Debian kernel with a 30 MB initrd beside the floor: hashing the
// same files.
func (b *bench) measure() error {
	kernel := "out/vmlinuz" // of build
	if _, err := os.Stat(b.path(kernel)); err != nil {
		return fmt.Errorf("the Debian kernel comes from the build: %w", err)
	}
	if err := b.fill("initrd", 30_000_000); err != nil {
		return err
	}
	const firmware = "out/firmware/amdsev.fd"
	common := []string{b.tally, "measure", "snp", "--vcpu-type", "EPYC-v4", "--ovmf", firmware, "--kernel", kernel, "--initrd", "initrd", "--append", "quiet"}
	ms, err := b.race(4*b.runs, cmd(append(common, "--vcpus", "1")...), cmd(append(common, "--vcpus", "512")...), cmd("sha256sum", kernel, "initrd", firmware))
	if err != nil {
		return err
	}
	limit := target{wall: 40 * time.Millisecond, rss: 20 << 10}
	b.beside("measure snp, Debian kernel, 30 MB initrd, 1 vCPU", ms[0], ms[2], "sha256sum", limit)
	b.beside("measure snp, the same, 512 vCPUs", ms[1], ms[2], "sha256sum", limit)
	return nil
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

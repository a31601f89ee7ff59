package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"tally/mkimage/lock"
)

// A point is what building an image of n packages costs.
type point struct {
	n           int
	cold        measured // from .deb files
	cached      measured // from packages unpacked before
	debs, image int64    // bytes of the .deb files and of disk.raw
}

// growthCounts are the numbers of packages.
var growthCounts = []int{1, 3, 10, 30, 100, 300, 1000}

// Every synthetic package has as many files, of as many bytes; half of the bytes can be compressed away.
const (
	perPackage = 20
	fileBytes  = 10 << 10
)

// growth builds images of 1 to 1,000 synthetic packages, on the kernel and stub of the 103-package image,
// and draws what it costs.
func growth(ctx context.Context, tally, dir, svg string, runs int) error {
	tally, err := filepath.Abs(tally)
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tally-growth-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	b := &bench{ctx: ctx, tally: tally, dir: dir, runs: runs}
	packages, err := b.synthetic(growthCounts[len(growthCounts)-1])
	if err != nil {
		return err
	}
	base, err := b.baseLock()
	if err != nil {
		return err
	}
	var points []point
	for _, n := range growthCounts {
		p, err := b.point(base, packages[:n])
		if err != nil {
			return err
		}
		fmt.Printf("%5d packages: cold %v, cached %v\n", n, p.cold, p.cached)
		points = append(points, p)
	}
	if err := os.WriteFile(svg, drawGrowth(points), 0o644); err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(svg, ".svg")+".md", describeGrowth(points, filepath.Base(svg), runs), 0o644)
}

func (b *bench) store() *lock.Store { return lock.NewStore(b.path("cache")) }

// synthetic puts n packages into the cache.
func (b *bench) synthetic(n int) ([]lock.Package, error) {
	if _, err := exec.LookPath("xz"); err != nil {
		return nil, err
	}
	var all []lock.Package
	random := rand.NewChaCha8([32]byte{3})
	for i := range n {
		name := fmt.Sprintf("synthetic%04d", i)
		data, err := b.deb(name, random)
		if err != nil {
			return nil, err
		}
		o, err := b.store().Put(data)
		if err != nil {
			return nil, err
		}
		all = append(all, lock.Package{Name: name, Version: "1", Arch: "all", Suite: "trixie", Path: "pool/main/s/" + name + ".deb", Object: o, For: []string{"root.0"}})
	}
	return all, nil
}

// deb is one package: an ar archive (deb(5)) of a control and a data archive.
func (b *bench) deb(name string, random *rand.ChaCha8) ([]byte, error) {
	var control, data bytes.Buffer
	z := gzip.NewWriter(&control)
	stanza := fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: bytes\n", name)
	if err := writeTar(z, []member{{"./control", []byte(stanza)}}); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	var files []member
	for i := range perPackage {
		content := make([]byte, fileBytes)
		random.Read(content[:fileBytes/2])
		files = append(files, member{fmt.Sprintf("./usr/share/%s/f%02d", name, i), content})
	}
	if err := writeTar(&data, files); err != nil {
		return nil, err
	}
	c := exec.CommandContext(b.ctx, "xz", "-3", "-T1")
	c.Stdin = &data
	packed, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("xz: %w", err)
	}
	out := []byte("!<arch>\n")
	for _, m := range []member{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", control.Bytes()}, {"data.tar.xz", packed}} {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		out = append(out, m.data...)
		if len(m.data)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out, nil
}

// A member is one file of an archive.
type member struct {
	name string
	data []byte
}

func writeTar(w io.Writer, files []member) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		if err := t.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return t.Close()
}

// baseLock locks the 103-package image, fetches what it names, and keeps all but the root's packages.
func (b *bench) baseLock() (*lock.Lock, error) {
	spec, err := b.growthSpec()
	if err != nil {
		return nil, err
	}
	name := b.path("image.lock")
	if _, err := b.once(b.tally, "lock", spec, "-o", name, "--cache", b.path("cache")); err != nil {
		return nil, err
	}
	if _, err := b.once(b.tally, "build", spec, "--lock", name, "--cache", b.path("cache"), "--quiet", "-o", "out"); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	k, err := lock.Parse(data, name)
	if err != nil {
		return nil, err
	}
	var rest []lock.Package
	for _, p := range k.Packages {
		for _, user := range p.For {
			if user == "root.0" {
				continue
			}
			q := p
			q.For = nil
			for _, u := range p.For {
				if u != "root.0" {
					q.For = append(q.For, u)
				}
			}
			rest = append(rest, q)
			break
		}
	}
	k.Packages = rest
	return k, nil
}

// growthSpec is the spec of the images: one package of the archive stands for all that the lock will have.
func (b *bench) growthSpec() (string, error) {
	repo, err := filepath.Abs(".")
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(b.dir, repo)
	if err != nil {
		return "", err
	}
	rel = filepath.ToSlash(rel)
	text := `name: growth
version: 0.1.0
epoch: 1767225600
root:
  - debian: {suites: [trixie], packages: [tzdata-legacy], scripts: ignore}
init: {go: {module: ` + rel + `, package: ./cmd/init}}
kernel: {debian: {suites: [trixie], package: linux-image-cloud-amd64}}
modules: [sha256-ssse3, virtio_blk, dm-verity, erofs, virtio_net]
stub: {debian: {suites: [trixie], package: systemd-boot-efi, path: usr/lib/systemd/boot/efi/linuxx64.efi.stub}}
firmware:
  - {name: amdsev, file: {path: ` + rel + `/examples/minimal/firmware/OVMF.amdsev.fd.xz, decompress: xz}, vars: as-is}
`
	name := b.path("image.yaml")
	return name, os.WriteFile(name, []byte(text), 0o600)
}

// point measures one number of packages.
func (b *bench) point(base *lock.Lock, packages []lock.Package) (point, error) {
	k := *base
	k.Packages = append(append([]lock.Package{}, base.Packages...), packages...)
	data, err := k.Marshal()
	if err != nil {
		return point{}, err
	}
	name := b.path("growth.lock")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return point{}, err
	}
	build := []string{b.tally, "build", b.path("image.yaml"), "--lock", name, "--cache", b.path("cache"), "--quiet", "--offline", "-o", "out"}
	cold := func() error { return os.RemoveAll(filepath.Join(b.path("cache"), "unpacked")) }
	ms, err := b.race(b.runs, command{build, cold}, cmd(build...))
	if err != nil {
		return point{}, err
	}
	p := point{n: len(packages), cold: ms[0], cached: ms[1]}
	for _, q := range packages {
		p.debs += q.Size
	}
	fi, err := os.Stat(b.path("out/disk.raw"))
	if err != nil {
		return point{}, err
	}
	p.image = fi.Size()
	return p, nil
}

// describeGrowth is the table beside the drawing, with what is needed to judge it.
func describeGrowth(points []point, svg string, runs int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# How the cost of a build grows\n\n![seconds by number of packages](%s)\n\n", svg)
	fmt.Fprintf(&b, "Each package has %d files of %d KiB. Kernel, init and stub are the same in all: they are the floor on the left.\n", perPackage, fileBytes>>10)
	b.WriteString("*Cold* starts from the .deb files, *cached* from packages unpacked by an earlier build. A load average well above the\n")
	b.WriteString("number of CPUs means that others used the machine: then the CPU times hold and the wall times do not.\n\n")
	b.WriteString("| packages | .deb MB | disk.raw MB | cold s | cold CPU s | cold MiB | cached s | cached CPU s | cached MiB |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range points {
		fmt.Fprintf(&b, "| %d | %.1f | %.1f | %.2f | %.2f | %.0f | %.2f | %.2f | %.0f |\n", p.n, float64(p.debs)/1e6, float64(p.image)/1e6,
			p.cold.wall.Seconds(), p.cold.cpu.Seconds(), mib(p.cold.rss), p.cached.wall.Seconds(), p.cached.cpu.Seconds(), mib(p.cached.rss))
	}
	fmt.Fprintf(&b, "\nMeasured on %s, median of %d runs: %d CPUs (%s), %s/%s, %s, load average %s.\n", time.Now().UTC().Format("2006-01-02"), runs, runtime.NumCPU(), cpuName(), runtime.GOOS, runtime.GOARCH, runtime.Version(), loadAverage())
	b.WriteString("Made by `make build && go run ./internal/bench -plot docs/build-cost.svg`.\n")
	return []byte(b.String())
}

func cpuName() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name\t: "); ok {
			return strings.TrimSpace(name)
		}
	}
	return "unknown"
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// peers builds the programs that measure is raced against: they are a module of their own.
func (b *bench) peers() (string, error) {
	peer := b.path("peer")
	build := exec.CommandContext(b.ctx, "go", "build", "-o", peer, "./peer")
	build.Dir = filepath.Join("measure", "internal", "oracles")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return peer, nil
}

// debianFirmware unpacks Debian's OVMF.fd, the one firmware that all peers can read. It does not pass through
// this program: a child's smallest measurable memory is its parent's.
func (b *bench) debianFirmware() (string, error) {
	f, err := os.Create(b.path("OVMF.fd"))
	if err != nil {
		return "", err
	}
	unxz := exec.CommandContext(b.ctx, "xz", "-dc", "measure/snp/testdata/vectors/ovmf/OVMF.fd.xz")
	unxz.Stdout = f
	return f.Name(), errors.Join(unxz.Run(), f.Close())
}

// measureFloor races measure snp over kernel, initrd and firmware against the bare hash loops.
func (b *bench) measureFloor(kernel, initrd, firmware string) error {
	peer, err := b.peers()
	if err != nil {
		return err
	}
	common := []string{b.tally, "measure", "snp", "--quiet", "--vcpu-type", "EPYC-v4", "--ovmf", firmware, "--kernel", kernel, "--initrd", initrd, "--append", "quiet"}
	ms, err := b.race(4*b.runs, cmd(append(common, "--vcpus", "1")...), cmd(append(common, "--vcpus", "512")...), cmd(peer, "floor", kernel, initrd, firmware))
	if err != nil {
		return err
	}
	limit := target{wall: 40 * time.Millisecond, rss: 16 << 10}
	b.beside("measure snp, Debian kernel, 30 MB initrd, 1 vCPU", ms[0], ms[2], "bare hash loops", limit)
	b.beside("measure snp, the same, 512 vCPUs", ms[1], ms[2], "bare hash loops", limit)
	if err := b.match(common); err != nil {
		return err
	}
	return b.measurePeers(peer)
}

// match searches for a launch of 512 vCPUs. It always goes over the whole space: another set of inputs might give
// the same digest.
func (b *bench) match(common []string) error {
	launch := exec.CommandContext(b.ctx, common[0], append(slices.Clone(common[1:]), "--vcpus", "512", "--vmm-type", "QEMU-no-fpu-init")...)
	launch.Dir = b.dir
	answer, err := launch.Output()
	if err != nil {
		return err
	}
	args := []string{b.tally, "match", "--quiet", strings.TrimSpace(string(answer))}
	for i := 0; i+1 < len(common); i++ {
		switch common[i] {
		case "--ovmf", "--kernel", "--initrd", "--append":
			args = append(args, common[i], common[i+1])
		}
	}
	ms, err := b.race(b.runs, cmd(args...))
	if err != nil {
		return err
	}
	t := target{wall: time.Second}
	b.rows = append(b.rows, row{what: "match, SNP, all inputs known", ours: ms[0].String(), target: t.String(), verdict: t.judge(ms[0], 0, 0)})
	return nil
}

// measurePeers races measure snp over a firmware alone against the two Go programs that can do that. Equal
// digests first: otherwise the figures would be of different jobs.
func (b *bench) measurePeers(peer string) error {
	firmware, err := b.debianFirmware()
	if err != nil {
		return err
	}
	for _, vcpus := range []string{"1", "512"} {
		qemu := []string{b.tally, "measure", "snp", "--quiet", "--vcpu-type", "EPYC-v4", "--ovmf", firmware, "--vcpus", vcpus}
		gce := []string{b.tally, "measure", "snp", "--quiet", "--vmm-type", "gce", "--ovmf", firmware, "--vcpus", vcpus}
		for _, pair := range []struct {
			name string
			ours []string
		}{{"sev-snp-measure-go", qemu}, {"gce-tcb-verifier", gce}} {
			theirs := []string{peer, pair.name, firmware, vcpus}
			if err := b.sameOutput(pair.ours, theirs); err != nil {
				return err
			}
			ms, err := b.race(2*b.runs, cmd(pair.ours...), cmd(theirs...))
			if err != nil {
				return err
			}
			b.beside("measure snp, firmware alone, "+vcpus+" vCPUs", ms[0], ms[1], pair.name, target{})
		}
	}
	return nil
}

// sameOutput wants two commands to print the same.
func (b *bench) sameOutput(x, y []string) error {
	one, err := exec.CommandContext(b.ctx, x[0], x[1:]...).Output()
	if err != nil {
		return err
	}
	two, err := exec.CommandContext(b.ctx, y[0], y[1:]...).Output()
	if err != nil {
		return err
	}
	if !bytes.Equal(one, two) || len(one) == 0 {
		return errors.New("two programs print different digests")
	}
	return nil
}

// measureTDX races measure tdx against the bare hash loops, both on two cores: kernel and firmware on one, the initrd
// on the other.
func (b *bench) measureTDX(kernel, initrd, firmware string) error {
	peer, err := b.peers()
	if err != nil {
		return err
	}
	ms, err := b.race(4*b.runs, cmd(b.tally, "measure", "tdx", "--quiet", "--profile", "qemu-10.2/edk2-202608", "--ovmf", firmware, "--kernel", kernel, "--initrd", initrd, "--append", "quiet"),
		cmd(peer, "tdx-floor", kernel, initrd, firmware))
	if err != nil {
		return err
	}
	b.beside("measure tdx, Debian kernel, 30 MB initrd", ms[0], ms[1], "bare hash loops", target{wall: 60 * time.Millisecond, rss: 24 << 10})
	return nil
}

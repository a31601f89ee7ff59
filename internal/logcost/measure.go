package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"tally/release/releasetest/smallout"
)

// costs measures logs in a scratch directory.
type costs struct {
	ctx              context.Context
	tally, self, dir string
	runs, sequence   int
}

// A cost is what one process took.
type cost struct {
	wall, cpu time.Duration
	rss       int64 // KiB
}

// A point is what a log of n leaves costs.
type point struct {
	n             int
	fill, audit   cost
	publish       cost // one more release
	verify, prove cost // its bundle offline; with a proof from the log
	disk, files   int64
}

// once runs a command in the scratch directory.
func (c *costs) once(args ...string) (cost, error) {
	cmd := exec.CommandContext(c.ctx, args[0], args[1:]...)
	cmd.Dir = c.dir
	start := time.Now()
	out, err := cmd.CombinedOutput()
	wall := time.Since(start)
	if err != nil {
		return cost{}, fmt.Errorf("%q: %w: %s", args[1:], err, out)
	}
	return cost{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss}, nil
}

// median runs a command a few times, each after before, which is not measured; nil does nothing.
func (c *costs) median(before func() error, args ...string) (cost, error) {
	var all []cost
	for range c.runs {
		if before != nil {
			if err := before(); err != nil {
				return cost{}, err
			}
		}
		one, err := c.once(args...)
		if err != nil {
			return cost{}, err
		}
		all = append(all, one)
	}
	m := cost{}
	slices.SortFunc(all, func(a, b cost) int { return int(a.cpu - b.cpu) })
	m.cpu = all[len(all)/2].cpu
	slices.SortFunc(all, func(a, b cost) int { return int(a.wall - b.wall) })
	m.wall = all[len(all)/2].wall
	for _, one := range all {
		m.rss = max(m.rss, one.rss)
	}
	return m, nil
}

func (c *costs) path(name string) string { return filepath.Join(c.dir, name) }

// prepare makes what the releases are of, and who signs them.
func (c *costs) prepare() error {
	if err := smallout.Write(c.path("out")); err != nil {
		return err
	}
	if err := os.Setenv("COSIGN_PASSWORD", "cost"); err != nil {
		return err
	}
	_, err := c.once(c.tally, "release", "keygen", "-o", "signer")
	return err
}

// point fills a log with n leaves, publishes releases into it and audits it.
func (c *costs) point(n int) (p point, err error) {
	p.n = n
	for _, name := range []string{"pub", "pub.key", "state"} {
		if err := os.RemoveAll(c.path(name)); err != nil {
			return p, err
		}
	}
	if err := os.WriteFile(c.path("policy.yaml"), []byte("schema: tally.policy/v1\nrelease:\n  signers: [{file: signer.pub}]\n  log: {file: pub/log.vkey, witnesses: none}\n"), 0o644); err != nil {
		return p, err
	}
	if p.fill, err = c.once(c.self, "-step", "fill="+strconv.Itoa(n), "-dir", c.dir); err != nil {
		return p, err
	}
	sign := func() error {
		c.sequence++
		_, err := c.once(c.tally, "release", "sign", "out", "--key", "signer.key", "-o", "r.json", "--sequence", strconv.Itoa(c.sequence))
		return err
	}
	if p.publish, err = c.median(sign, c.tally, "release", "publish", "r.json", "out", "--log", "pub", "--signer", "signer.pub"); err != nil {
		return p, err
	}
	if p.verify, err = c.median(nil, c.tally, "release", "verify", "r.json", "--policy", "policy.yaml"); err != nil {
		return p, err
	}
	if p.prove, err = c.median(nil, c.tally, "release", "verify", "r.json", "--policy", "policy.yaml", "--state", "state", "--log", "pub"); err != nil {
		return p, err
	}
	if p.audit, err = c.median(nil, c.self, "-step", "audit", "-dir", c.dir); err != nil {
		return p, err
	}
	p.disk, p.files, err = usage(c.path("pub"))
	return p, err
}

// usage is how many bytes of disk and how many files a directory has.
func usage(dir string) (bytes, files int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		files++
		bytes += st.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return bytes, files, err
}

package main

import (
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// A measured is the outcome of running one command a few times.
type measured struct {
	wall time.Duration // median
	rss  int64         // KiB, the largest
	cpu  time.Duration // of user and system, median
}

// A command is one thing to measure.
type command struct {
	args   []string
	before func() error // ahead of each run, not timed; may be nil
}

func cmd(args ...string) command { return command{args: args} }

// race runs the commands in turn, all of them in each round, so that whatever else the machine does
// meets them alike. The first round warms caches and does not count.
func (b *bench) race(runs int, cs ...command) ([]measured, error) {
	all := make([][]measured, len(cs))
	for round := range runs + 1 {
		for i, c := range cs {
			if c.before != nil {
				if err := c.before(); err != nil {
					return nil, err
				}
			}
			m, err := b.once(c.args...)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				all[i] = append(all[i], m)
			}
		}
	}
	var out []measured
	for _, ms := range all {
		out = append(out, median(ms))
	}
	return out, nil
}

// median takes the median of the wall times and the largest memory.
func median(ms []measured) measured {
	slices.SortFunc(ms, func(x, y measured) int { return int(x.wall - y.wall) })
	m := measured{wall: ms[len(ms)/2].wall}
	slices.SortFunc(ms, func(x, y measured) int { return int(x.cpu - y.cpu) })
	m.cpu = ms[len(ms)/2].cpu
	for _, x := range ms {
		m.rss = max(m.rss, x.rss)
	}
	return m
}

// once runs a command in the scratch directory.
func (b *bench) once(args ...string) (measured, error) {
	c := exec.CommandContext(b.ctx, args[0], args[1:]...)
	c.Dir = b.dir
	start := time.Now()
	out, err := c.CombinedOutput()
	wall := time.Since(start)
	if err != nil {
		return measured{}, fmt.Errorf("%s %.60q: %v: %s", args[0], args[1:], err, out)
	}
	return measured{wall, c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss, c.ProcessState.UserTime() + c.ProcessState.SystemTime()}, nil
}

package main

import (
	"errors"
	"fmt"
	"os/exec"

	"tally/internal/cli"
	"tally/internal/qemu"
)

// A runAnswer is the answer of tally run (tally.run/v1).
type runAnswer struct {
	Schema   string   `json:"schema"`
	Boot     string   `json:"boot"`
	Accel    string   `json:"accel"`
	Firmware string   `json:"firmware"`
	End      qemu.End `json:"end"`
	Reason   string   `json:"reason"`
	Detail   string   `json:"detail"`
	Served   bool     `json:"served"`
	ServeMS  int64    `json:"serve_ms,omitempty"`
	RanMS    int64    `json:"ran_ms"`
}

func (b *bootRun) print(c *cli.Context, r qemu.Result) error {
	a := runAnswer{Schema: "tally.run/v1", Boot: c.String("boot"), Accel: string(b.m.Accel), Firmware: b.fw, End: r.End, Detail: r.Detail,
		Served: r.Served, ServeMS: r.ServeIn.Milliseconds(), RanMS: r.Ran.Milliseconds()}
	if r.End == qemu.HashTree {
		a.Reason = "hash-tree"
	}
	if b.e.json {
		return b.e.printJSON(a)
	}
	if r.Served {
		b.e.printf("served after %.1f s\n", r.ServeIn.Seconds())
	}
	b.e.printf("%s\n", r.End)
	return nil
}

// judge turns the end of a boot into the command's verdict.
func (b *bootRun) judge(r qemu.Result) error {
	waited := b.opt.Ready != nil
	var exit *exec.ExitError
	switch {
	case r.End == qemu.HashTree:
		return verdict(exitUnverified, "hash-tree", "guest stopped, its disk is not as measured: %s", r.Detail)
	case r.End == qemu.Refused || r.End == qemu.Panicked:
		return fmt.Errorf("guest %s: %s", r.End, r.Detail)
	case r.End == qemu.TimedOut:
		return fmt.Errorf("guest neither served nor ended within %v", b.opt.Boot)
	case waited && !b.ready:
		return errors.New("guest ended before what was waited for")
	case errors.As(b.cmdErr, &exit) && exit.ExitCode() > 0:
		return &exitError{code: exit.ExitCode(), err: fmt.Errorf("%s: %w", b.command[0], b.cmdErr)}
	case b.cmdErr != nil:
		return fmt.Errorf("%s: %w", b.command[0], b.cmdErr)
	}
	return nil
}

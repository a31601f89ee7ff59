package main

import (
	"fmt"
	"strings"

	"tally/internal/cli"
	"tally/mkimage/lock"
)

func lockDiffCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "say what distinguishes two locks", ArgsUsage: "A B",
		Description: "One line for each input that was added, removed or changed, with the fields that differ. Exit 0: the locks are equal,\n" +
			"byte for byte; 3: they are not.\n\n" +
			"--json prints tally.lock-diff/v1: a, b (file and the lock's digest), equal, reason (bytes) when they are not, changes: a list of kind (lock,\n" +
			"toolchain, suite, package, file, dir, oci, model, go, module), name, change (added, removed, changed) and fields: field, a, b.\n\n" +
			"   tally lock diff old/image.lock image.lock",
		Action: func(c *cli.Context) error { return runLockDiff(c, e) },
	}
}

// A lockDiff is tally.lock-diff/v1.
type lockDiff struct {
	Schema  string        `json:"schema"`
	A       lockName      `json:"a"`
	B       lockName      `json:"b"`
	Equal   bool          `json:"equal"`
	Reason  string        `json:"reason,omitempty"`
	Changes []lock.Change `json:"changes"`
}

type lockName struct {
	File   string    `json:"file"`
	Digest lock.Hash `json:"digest"`
}

func runLockDiff(c *cli.Context, e *env) error {
	if err := wantArgs(c, "A", "B"); err != nil {
		return err
	}
	var locks [2]*lock.Lock
	for i, file := range c.Args().Slice() {
		raw, err := readSmall(file, lock.MaxLock)
		if err != nil {
			return err
		}
		if locks[i], err = lock.Parse(raw, file); err != nil {
			return err
		}
	}
	a, b := locks[0], locks[1]
	d := lockDiff{Schema: "tally.lock-diff/v1", A: lockName{c.Args().Get(0), a.Digest}, B: lockName{c.Args().Get(1), b.Digest}, Equal: a.Digest == b.Digest, Changes: append([]lock.Change{}, lock.Diff(a, b)...)}
	if !d.Equal {
		d.Reason = "bytes"
	}
	if e.json {
		if err := e.printJSON(d); err != nil {
			return err
		}
	} else {
		for _, ch := range d.Changes {
			e.printf("%-7s  %s %s  %s\n", ch.How, ch.Kind, ch.Name, describe(ch))
		}
	}
	if !d.Equal {
		return verdict(exitDiffers, d.Reason, "%s and %s differ in %d input(s)", d.A.File, d.B.File, len(d.Changes))
	}
	return nil
}

// describe is a change in one line: hashes are shortened, and of what was added or removed only the first
// fields are shown.
func describe(ch lock.Change) string {
	var parts []string
	for _, f := range ch.Fields {
		switch ch.How {
		case "changed":
			parts = append(parts, fmt.Sprintf("%s %s -> %s", f.Name, abridge(f.A), abridge(f.B)))
		default:
			if f.Name == "version" || f.Name == "sha256" || len(parts) == 0 {
				parts = append(parts, f.Name+" "+abridge(f.A+f.B))
			}
		}
	}
	return strings.Join(parts, ", ")
}

// abridge cuts hashes: twelve digits tell two apart for people.
func abridge(s string) string {
	switch {
	case s == "":
		return "(none)"
	case len(s) >= 64 && strings.Trim(s[:64], "0123456789abcdef") == "":
		return s[:12]
	}
	return s
}

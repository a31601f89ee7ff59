package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"tally/compare"
	"tally/internal/scratch"
	"tally/mkimage"
	"tally/release/rebuild"
)

// again builds a second time with everything changed that must not matter, and compares with m, which lies in first.
func (b *build) again(ctx context.Context, e *env, a specArg, first string, m *mkimage.Manifest) error {
	dir, err := scratch.New("", "tally-twice")
	if err != nil {
		return err
	}
	defer dir.Remove()
	second := *b
	second.jobs, second.steps.Vary = 1, true
	second.environ = changedEnviron(b.environ, filepath.Join(dir.Path, "gocache"))
	procs, mask := runtime.GOMAXPROCS(1), syscall.Umask(0o077)
	defer func() {
		runtime.GOMAXPROCS(procs)
		syscall.Umask(mask)
	}()
	e.logf("building again under another directory, umask, time zone, locale, build cache and GOMAXPROCS")
	out := filepath.Join(dir.Path, "a directory with another name")
	other, err := second.run(ctx, a, out)
	if err != nil {
		return err
	}
	var subjects []rebuild.Subject
	for _, a := range m.Artifacts {
		subjects = append(subjects, rebuild.Subject{Name: a.Name, SHA256: a.SHA256.String()})
	}
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	subjects = append(subjects, rebuild.Subject{Name: "manifest.json", SHA256: sha256Hex(data)})
	r, err := rebuild.Compare(ctx, subjects, os.DirFS(out))
	if err != nil {
		return err
	}
	if !r.Reproduced {
		r.Notes = append(r.Notes, differentSteps(m, other)...)
		if why, err := compare.Paths(ctx, first, out, compare.Options{}); err == nil {
			r.Explanation = why
		}
		return printDifferent(e, r)
	}
	e.logf("the second build is identical: %d files", len(r.Subjects))
	return nil
}

// differentSteps says which build steps did not make the same twice.
func differentSteps(m, other *mkimage.Manifest) (notes []string) {
	for _, what := range mkimage.DiffSteps(m, other) {
		notes = append(notes, what+" was made differently")
	}
	return notes
}

// printDifferent prints what a second build did otherwise, as a rebuild is printed.
func printDifferent(e *env, r *rebuild.Report) error {
	if e.json {
		if err := e.printJSON(r); err != nil {
			return err
		}
	} else {
		printComparison(e, r)
		for _, n := range r.Notes {
			e.printf("%s\n", n)
		}
		if r.Explanation != nil {
			printExplanation(e, wantColour(e.stdout, os.Getenv), r.Explanation)
		}
	}
	return verdict(exitDiffers, "bytes", "the second build differs")
}

// changedEnviron replaces what tends to leak into builds.
func changedEnviron(environ []string, cache string) []string {
	changed := map[string]string{"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "USER": "somebody-else", "LOGNAME": "somebody-else",
		"GOCACHE": cache, "GOMAXPROCS": "1", "SOURCE_DATE_EPOCH": "1"}
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if _, ok := changed[name]; !ok {
			out = append(out, kv)
		}
	}
	for k, v := range changed {
		out = append(out, k+"="+v)
	}
	return out
}

func printComparison(e *env, r *rebuild.Report) {
	for _, row := range r.Subjects {
		e.printf("%-8s %s\n", row.Status, row.Name)
		if row.Status == rebuild.Differ {
			e.printf("         released %s\n         rebuilt  %s\n", row.Want, row.Got)
		}
	}
	for _, in := range r.Inputs {
		e.printf("input %s %s: was %s, is %s\n", in.Kind, in.Name, orNone(in.Was), orNone(in.Is))
	}
}

func orNone(s string) string {
	if s == "" {
		return "not there"
	}
	return s
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Package rebuild compares what was released with what was built again, byte for byte, and says which
// input differs when the inputs do.
package rebuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"

	"tally/compare"
	"tally/mkimage"
)

// A Subject is one file of a release by name and SHA-256 (64 hex digits).
type Subject struct{ Name, SHA256 string }

// A Status is the verdict on one subject.
type Status string

// The verdicts. Anything but Match means that the rebuild did not reproduce the release.
const (
	Match   Status = "MATCH"
	Differ  Status = "DIFFER"
	Missing Status = "MISSING" // released, but the rebuild did not make it
	Extra   Status = "EXTRA"   // made by the rebuild, but not released
)

// A Row is one line of the answer.
type Row struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Want   string `json:"want,omitempty"` // SHA-256 in the statement
	Got    string `json:"got,omitempty"`  // SHA-256 of the rebuilt file
}

// A Report is the answer.
type Report struct {
	Schema     string      `json:"schema"` // tally.rebuild/v1
	Reproduced bool        `json:"reproduced"`
	Reason     string      `json:"reason,omitempty"` // "bytes" when not reproduced
	Subjects   []Row       `json:"subjects"`         // sorted by name
	Inputs     []InputDiff `json:"inputs"`           // inputs that differ; empty when they are equal

	// Of a rebuild that did not reproduce. See Explain.
	Explanation *compare.Report `json:"explanation,omitempty"` // tally.compare/v1: A is the release, B the rebuild
	Stated      []Stated        `json:"stated,omitempty"`      // what the statement says otherwise, in order
	Notes       []string        `json:"notes,omitempty"`       // why there is no explanation

	Attestation *Attestation `json:"attestation,omitempty"` // the signed statement about all this
}

// Schema names the JSON form of a Report.
const Schema = "tally.rebuild/v1"

// maxFiles bounds how many files an output directory may hold.
const maxFiles = 10000

// Compare hashes every file of dir and holds it against subjects. Names that are not in subjects are
// EXTRA and count as a difference: an attacker's file must not ride along.
func Compare(ctx context.Context, subjects []Subject, dir fs.FS) (*Report, error) {
	if len(subjects) == 0 {
		return nil, errors.New("release: names no subject")
	}
	got := map[string]string{}
	err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if len(got) >= maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		got[path], err = hashFile(ctx, dir, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	r := &Report{Schema: Schema, Reproduced: true, Inputs: []InputDiff{}}
	for _, s := range subjects {
		row := Row{Name: s.Name, Status: Match, Want: s.SHA256, Got: got[s.Name]}
		switch {
		case row.Got == "":
			row.Status = Missing
		case row.Got != s.SHA256:
			row.Status = Differ
		}
		delete(got, s.Name)
		r.Subjects = append(r.Subjects, row)
	}
	for name, sum := range got {
		r.Subjects = append(r.Subjects, Row{Name: name, Status: Extra, Got: sum})
	}
	sort.Slice(r.Subjects, func(i, j int) bool { return r.Subjects[i].Name < r.Subjects[j].Name })
	for _, row := range r.Subjects {
		if row.Status != Match {
			r.Reproduced, r.Reason = false, "bytes"
		}
	}
	return r, nil
}

func hashFile(ctx context.Context, dir fs.FS, path string) (string, error) {
	f, err := dir.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h, buf := sha256.New(), make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		} else if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
	}
}

// An InputDiff is one input that is not the same in two builds.
type InputDiff struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Was  string `json:"was,omitempty"` // version and SHA-256 in the release; empty: not there
	Is   string `json:"is,omitempty"`  // in the rebuild
}

// Inputs compares what two manifests were built from, and what their build steps made of it: a row of kind
// step, called STEP: TARGET, beside equal inputs is a step that is not reproducible.
func Inputs(was, is *mkimage.Manifest) []InputDiff {
	type key struct{ kind, name string }
	index := func(m *mkimage.Manifest) map[key]string {
		all := map[key]string{}
		for _, in := range m.Inputs {
			k, text := key{in.Kind, in.Name}, in.Version+" sha256:"+in.SHA256.String()
			if more, ok := all[k]; ok { // one module in two versions, of two programs
				text = more + ", " + text
			}
			all[k] = text
		}
		for _, s := range m.Steps {
			for _, o := range s.Outputs {
				all[key{"step", s.Name + ": " + o.Target}] = "sha256:" + o.SHA256.String()
			}
		}
		return all
	}
	a, b := index(was), index(is)
	diffs := []InputDiff{}
	for k, v := range a {
		if b[k] != v {
			diffs = append(diffs, InputDiff{k.kind, k.name, v, b[k]})
		}
	}
	for k, v := range b {
		if _, ok := a[k]; !ok {
			diffs = append(diffs, InputDiff{k.kind, k.name, "", v})
		}
	}
	sort.Slice(diffs, func(i, j int) bool { return diffs[i].Kind+"\x00"+diffs[i].Name < diffs[j].Kind+"\x00"+diffs[j].Name })
	return diffs
}

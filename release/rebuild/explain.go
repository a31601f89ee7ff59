package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tally/compare"
)

// A Find returns the path of a released file, by its name in the release and its SHA-256 (64 hex digits). A
// file that is not at hand is an error that wraps fs.ErrNotExist.
type Find func(name, sha256 string) (path string, err error)

// A Stated is one value that a statement carries and that the rebuild has otherwise.
type Stated struct {
	Field string `json:"field"` // e.g. "inputs.lock", "cmdline", "verity.root_hash"
	Was   string `json:"was"`   // in the statement
	Is    string `json:"is"`    // of the rebuild
}

// Explain compares the released files that are at hand with the rebuilt ones in the directory out, and puts the
// answer into r.Explanation. A file that is at hand but is not the released one (its SHA-256 differs) explains
// nothing: it is left out, and a note says so. Without a single released file that differs there is no explanation.
// The error is ctx's alone: whoever serves the released files must not be able to take the verdict away, so everything
// else that goes wrong here is a note.
func Explain(ctx context.Context, r *Report, out string, find Find, opt compare.Options) error {
	a, b := compare.Output{Name: "released", Files: map[string]string{}}, compare.Output{Name: "rebuilt", Files: map[string]string{}}
	var notes []string
	differ := false
	for _, row := range r.Subjects {
		rebuilt := filepath.Join(out, filepath.FromSlash(row.Name))
		switch row.Status {
		case Match: // the rebuilt file is the released one
			a.Files[row.Name], b.Files[row.Name] = rebuilt, rebuilt
			continue
		case Extra:
			b.Files[row.Name] = rebuilt
			continue
		}
		path, err := released(ctx, row, find)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			notes = append(notes, fmt.Sprintf("the released %s is not at hand (--from DIR): what differs in it cannot be said", row.Name))
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			notes = append(notes, fmt.Sprintf("%s: %v: what differs in it cannot be said", row.Name, err))
			continue
		}
		differ = true
		if a.Files[row.Name] = path; row.Status == Differ {
			b.Files[row.Name] = rebuilt
		}
	}
	a.Gaps = len(notes) > 0
	if !differ {
		r.Notes = notes
		return nil
	}
	explanation, err := compare.Outputs(ctx, a, b, opt)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.Notes = append(notes, fmt.Sprintf("explaining the difference: %v", err))
		return nil
	}
	explanation.Notes = append(explanation.Notes, notes...)
	r.Explanation = explanation
	return nil
}

// released finds the released file of a row and checks that it is that file.
func released(ctx context.Context, row Row, find Find) (string, error) {
	path, err := find(row.Name, row.Want)
	if err != nil {
		return "", err
	}
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	got, err := hashFile(ctx, os.DirFS(dir), name)
	if err != nil {
		return "", err
	}
	if got != row.Want {
		return "", errors.New("the file at hand is not the released one")
	}
	return path, nil
}

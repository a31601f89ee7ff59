package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"tally/internal/atomicfile"
	"tally/release"
)

// maxRemembered bounds the state file: the largest and latest trees are kept.
const maxRemembered = 4096

// A logState is what --state DIR remembers of one log: every tree that a verified bundle showed, one
// tlog text (golang.org/x/mod/sumdb/tlog.FormatTree) after another in DIR/ORIGIN-ID.trees.
type logState struct {
	path  string // empty: nothing is remembered
	trees []tlog.Tree
}

func openState(dir string, key release.LogKey) (*logState, error) {
	if dir == "" || key.IsZero() {
		return &logState{}, nil
	}
	id := key.ID()
	s := &logState{path: filepath.Join(dir, fmt.Sprintf("%s-%x.trees", key.Origin(), id[:8]))}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	for _, text := range strings.SplitAfter(string(data), "\n\n") {
		if text == "" {
			continue
		}
		t, err := tlog.ParseTree([]byte(strings.TrimSuffix(text, "\n")))
		if err != nil {
			return nil, fmt.Errorf("%s: %w: the file is damaged; deleting it forgets what was seen", s.path, err)
		}
		s.trees = append(s.trees, t)
	}
	return s, nil
}

// remember adds a verified tree.
func (s *logState) remember(t tlog.Tree) error {
	if s.path == "" {
		return nil
	}
	for _, old := range s.trees {
		if old == t {
			return nil
		}
	}
	s.trees = append(s.trees, t)
	if n := len(s.trees); n > maxRemembered {
		s.trees = s.trees[n-maxRemembered:]
	}
	var b strings.Builder
	for _, t := range s.trees {
		b.Write(tlog.FormatTree(t))
		b.WriteByte('\n')
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteFile(s.path, []byte(b.String()), 0o600)
}

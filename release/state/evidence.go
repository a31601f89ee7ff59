package state

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/atomicfile"
)

// maxEvidence bounds the forks of one log whose evidence is kept: one convicts it, and a log can fork as often as it likes.
const maxEvidence = 100

// KeepEvidence writes the two notes of a fork to a file and returns its path, or "" when nothing is
// remembered or there is nothing to keep. The notes are text, one after the other. What is kept already stays as it is: of
// two trees the first notes, whatever cosignatures they had, and of a log that has forked too often the first forks. That
// others are not kept any more is an error.
func (s *State) KeepEvidence(notes []string) (string, error) {
	if s.path == "" || len(notes) != 2 {
		return "", nil
	}
	lock, err := s.lock()
	if err != nil {
		return "", err
	}
	defer lock.Close()
	dir, id := filepath.Join(s.dir, "evidence"), s.key.ID()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	ours := fmt.Sprintf("%x-", id[:8])
	path := filepath.Join(dir, fmt.Sprintf("%s%x.txt", ours, sha256.Sum256([]byte(body(notes[0])+"\n\n"+body(notes[1])))))
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	kept, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	n := 0
	for _, e := range kept {
		if strings.HasPrefix(e.Name(), ours) {
			n++
		}
	}
	if n >= maxEvidence {
		return "", fmt.Errorf("%s has %d forks of log %s already, which stay; the evidence of this one is not kept", dir, n, s.key.Origin())
	}
	if err := atomicfile.WriteFile(path, []byte(notes[0]+"\n"+notes[1]), 0o600); err != nil {
		return "", err
	}
	return path, nil
}

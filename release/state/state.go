// Package state is what a verifier remembers between runs: a directory with one file for each log,
//
//	DIR/ORIGIN-ID.json          trees seen with their signed checkpoints, and high-water marks
//	DIR/evidence/ID-HASH.txt    two checkpoints of one log of which neither contains the other
//
// Forgetting it loses protection against forks and rollback, never more: nothing is trusted because it is
// remembered. ID are the first eight bytes of the log's identity in hex, so that a new key is a new log.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"tally/internal/atomicfile"
	"tally/release"
)

const (
	schema  = "tally.log-state/v1"
	maxFile = 64 << 20 // bytes

	// maxTrees bounds the trees remembered. Those that a later tree was proved to contain go first.
	maxTrees = 1024

	// maxNotes bounds their checkpoints in bytes: whoever is between a log and its clients can make each as large as one may be, and a file above
	// maxFile could not be read again. In JSON a byte has up to six.
	maxNotes = 8 << 20
)

// A State is what is remembered of one log.
type State struct {
	dir, path string // empty: nothing is remembered
	key       release.LogKey
	file      file
	filled    map[string]bool // texts of the checkpoints that a policy was given
}

type file struct {
	Schema   string                    `json:"schema"`
	Origin   string                    `json:"origin"`
	Trees    []tree                    `json:"trees"`
	Releases map[string]uint64         `json:"releases"` // NAME: highest sequence accepted
	Channels map[string]mark           `json:"channels"` // NAME@CHANNEL: newest statement accepted
	Revoked  map[release.Digest]string `json:"revoked"`  // statement: why
	Audited  int64                     `json:"audited"`  // leaves that a monitor has read
}

type tree struct {
	Checkpoint string `json:"checkpoint"`
	Proved     bool   `json:"proved"` // a later tree was proved to contain it
}

type mark struct {
	Sequence uint64         `json:"sequence"`
	Payload  release.Digest `json:"payload_sha256"`
}

// Open reads what dir remembers of the log; an empty dir or a log without key remembers nothing. A file that
// is damaged is an error: deleting it is the user's decision.
func Open(dir string, key release.LogKey) (*State, error) {
	s := &State{dir: dir, key: key}
	if dir == "" || key.IsZero() {
		s.file = s.empty()
		return s, nil
	}
	id := key.ID()
	s.path = filepath.Join(dir, fmt.Sprintf("%s-%x.json", key.Origin(), id[:8]))
	return s, s.read()
}

func (s *State) empty() file {
	f := file{Schema: schema, Trees: []tree{}, Releases: map[string]uint64{}, Channels: map[string]mark{}, Revoked: map[release.Digest]string{}}
	if !s.key.IsZero() {
		f.Origin = s.key.Origin()
	}
	return f
}

func (s *State) read() error {
	s.file = s.empty()
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if err := s.decode(data); err != nil {
		return fmt.Errorf("%s: %w: the file is damaged; deleting it forgets what was seen", s.path, err)
	}
	return nil
}

func (s *State) decode(data []byte) error {
	if len(data) > maxFile {
		return fmt.Errorf("larger than %d bytes", maxFile)
	}
	out := s.empty()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the end")
	}
	if out.Schema != schema || out.Origin != s.key.Origin() || out.Audited < 0 {
		return fmt.Errorf("schema %.64q of log %.253q, want %q of %q", out.Schema, out.Origin, schema, s.key.Origin())
	}
	for _, t := range out.Trees {
		if _, err := s.key.OpenCheckpoint([]byte(t.Checkpoint)); err != nil {
			return err
		}
	}
	if out.Releases == nil || out.Channels == nil || out.Revoked == nil {
		return errors.New("a list is missing")
	}
	s.file = out
	return nil
}

// Fill gives a policy what is remembered.
func (s *State) Fill(p *release.Policy) {
	p.Log.Seen, s.filled = nil, map[string]bool{}
	for _, t := range s.file.Trees {
		open, err := s.key.OpenCheckpoint([]byte(t.Checkpoint))
		if err == nil { // held since decode
			p.Log.Seen = append(p.Log.Seen, release.SeenTree{Tree: open, Note: t.Checkpoint, Proved: t.Proved})
			s.filled[body(t.Checkpoint)] = true
		}
	}
	p.Memory = release.Memory{Releases: s.file.Releases, Channels: map[string]release.Mark{}, Revoked: s.file.Revoked}
	for k, m := range s.file.Channels {
		p.Memory.Channels[k] = release.Mark(m)
	}
}

// Audited is how many leaves a monitor has read.
func (s *State) Audited() int64 { return s.file.Audited }

// Remember adds what a verification proved; of one that refused, what it revokes and the channel statement in force.
func (s *State) Remember(r *release.Result) error {
	return s.update(func(f *file) {
		for _, c := range r.Revoking {
			f.addRevoked(c)
		}
		if r.Statement == nil {
			if r.InForce != nil {
				f.addChannel(r.InForce, r.ChannelPayload)
			}
			return
		}
		f.addTrees(r.Trees, r.Proved, s.filled)
		rel := r.Statement.Predicate.Release
		f.Releases[rel.Name] = max(f.Releases[rel.Name], rel.Sequence)
		if r.Channel == nil {
			return
		}
		f.addChannel(r.Channel, r.ChannelPayload)
	})
}

// Said is what the leaves that a monitor read say to clients.
type Said struct {
	Channels map[release.Digest]*release.Channel // by payload: statements of the channels' signers
	Revoking []*release.Channel                  // those of revocation keys, of which only the revocations count
}

// RememberAudit adds what a monitor proved: the head of the log, with everything that was remembered before a
// prefix of it, and what is said among the leaves.
func (s *State) RememberAudit(head release.SeenTree, said Said) error {
	return s.update(func(f *file) {
		f.addTrees([]release.SeenTree{head}, true, s.filled)
		for payload, c := range said.Channels {
			f.addChannel(c, payload)
		}
		for _, c := range said.Revoking {
			f.addRevoked(c)
		}
		f.Audited = max(f.Audited, head.Tree.N)
	})
}

func (f *file) addChannel(c *release.Channel, payload release.Digest) {
	if m := f.Channels[c.Key()]; c.Predicate.Sequence > m.Sequence {
		f.Channels[c.Key()] = mark{c.Predicate.Sequence, payload}
	}
	f.addRevoked(c)
}

func (f *file) addRevoked(c *release.Channel) {
	for _, rev := range c.Predicate.Revoked {
		f.Revoked[rev.Statement] = rev.Reason
	}
}

// addTrees adds trees, each once. When they were proved, they and the ones that the policy was given lie in the last of
// them, which remains to be proved next time; so does what another verification remembered meanwhile.
func (f *file) addTrees(trees []release.SeenTree, proved bool, given map[string]bool) {
	inside := map[string]bool{}
	if proved {
		maps.Copy(inside, given)
		for _, t := range trees {
			inside[body(t.Note)] = true
		}
		delete(inside, body(trees[len(trees)-1].Note))
	}
	known := map[string]bool{}
	for i, t := range f.Trees {
		f.Trees[i].Proved = t.Proved || inside[body(t.Checkpoint)]
		known[body(t.Checkpoint)] = true
	}
	for _, t := range trees {
		if at := body(t.Note); !known[at] {
			known[at] = true
			f.Trees = append(f.Trees, tree{t.Note, inside[at]})
		}
	}
	f.forget()
}

// body is the signed text of a checkpoint: the same tree with other cosignatures is the same.
func body(note string) string {
	text, _, _ := bytes.Cut([]byte(note), []byte("\n\n"))
	return string(text)
}

// update rereads the file under a lock, so that two verifications at once lose nothing, and writes it anew.
func (s *State) update(change func(*file)) error {
	if s.path == "" {
		return nil
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.read(); err != nil {
		return err
	}
	change(&s.file)
	data, err := json.MarshalIndent(s.file, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.WriteFile(s.path, append(data, '\n'), 0o600); err != nil {
		return err
	}
	// The new name must survive a crash too, or what was seen since could be denied.
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	if err = dir.Sync(); errors.Is(err, unix.EINVAL) {
		err = nil // a file system that does not sync directories
	}
	return errors.Join(err, dir.Close())
}

// lock makes the directory its holder's until the file is closed.
func (s *State) lock() (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, nil
}

// Trees are the remembered trees, for a monitor.
func (s *State) Trees() []tlog.Tree {
	var out []tlog.Tree
	for _, t := range s.file.Trees {
		if open, err := s.key.OpenCheckpoint([]byte(t.Checkpoint)); err == nil {
			out = append(out, open)
		}
	}
	return out
}

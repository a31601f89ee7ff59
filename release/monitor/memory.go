package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/internal/atomicfile"
	"tally/release"
)

const schema = "tally.monitor-state/v1"

var maxMemory = 256 << 20 // bytes; a variable for the test

// minBare is the least that the file takes for a leaf without bundle: a line of its index and hash.
const minBare = 4 + len(`"0": "",`) + 64 + 1

// minUnheld is that for a leaf whose bundle does not hold.
const minUnheld = 4 + len(`"0": {},`) + 1

// A memory is what a monitor remembers of one log between rounds.
type memory struct {
	path string
	file memoryFile
}

type memoryFile struct {
	Schema   string                      `json:"schema"`
	LogKey   string                      `json:"log_key"`            // verifier key
	Size     int64                       `json:"size"`               // leaves audited
	Root     string                      `json:"root"`               // of the tree of those leaves; base64
	Full     time.Time                   `json:"full,omitzero"`      // when every leaf was last read
	Bare     map[int64]release.Digest    `json:"bare,omitempty"`     // leaves that had no bundle, by index
	Lost     map[int64]release.Digest    `json:"lost,omitempty"`     // leaves that had one when they were told of
	Unheld   map[int64]struct{}          `json:"unheld,omitempty"`   // leaves with a bundle that does not hold: nobody was told what they say
	Again    int64                       `json:"again,omitempty"`    // of them, those from here on are read again first
	Ahead    map[int64]int64             `json:"ahead,omitempty"`    // of bare and lost: leaves of the tree in its bundle, which the log did not have
	Queue    []Release                   `json:"queue,omitempty"`    // releases for which the command has not been run
	Unsaid   []Alert                     `json:"unsaid,omitempty"`   // alerts that no later round finds, until they are told
	Versions map[string]release.Digest   `json:"versions,omitempty"` // NAME@VERSION: payload
	Highest  map[string]uint64           `json:"highest,omitempty"`  // NAME: highest sequence
	Channels map[string]channelMark      `json:"channels,omitempty"` // NAME@CHANNEL: newest statement
	Revoked  map[release.Digest]struct{} `json:"revoked,omitempty"`  // statements
}

type channelMark struct {
	Sequence uint64         `json:"sequence"`
	Payload  release.Digest `json:"payload_sha256"`
}

// openMemory reads the file at path; an absent one remembers nothing.
func openMemory(path string, key release.LogKey) (*memory, error) {
	m := &memory{path: path, file: memoryFile{Schema: schema, LogKey: key.String()}}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		m.file.fill()
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(maxMemory)+1))
	if err != nil {
		return nil, err
	}
	if err := m.decode(data, key); err != nil {
		return nil, fmt.Errorf("%s: %w: the file is damaged; deleting it audits the log from its beginning", path, err)
	}
	return m, nil
}

func (m *memory) decode(data []byte, key release.LogKey) error {
	if len(data) > maxMemory {
		return fmt.Errorf("larger than %d bytes", maxMemory)
	}
	var f memoryFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the end")
	}
	if f.Schema != schema || f.LogKey != key.String() || f.Size < 0 {
		return fmt.Errorf("schema %.64q, log %.300q, want %q, %q", f.Schema, f.LogKey, schema, key)
	}
	if _, err := tlog.ParseHash(f.Root); err != nil && f.Size > 0 {
		return fmt.Errorf("root: %w", err)
	}
	for _, list := range []map[int64]release.Digest{f.Bare, f.Lost} {
		for index := range list {
			if index < 0 || index >= f.Size {
				return fmt.Errorf("leaf %d without bundle, of %d leaves", index, f.Size)
			}
		}
	}
	for index := range f.Unheld {
		if index < 0 || index >= f.Size {
			return fmt.Errorf("leaf %d with a bundle that does not hold, of %d leaves", index, f.Size)
		}
	}
	m.file = f
	m.file.fill()
	return nil
}

// fill makes the maps that are not there.
func (f *memoryFile) fill() {
	if f.Bare == nil {
		f.Bare = map[int64]release.Digest{}
	}
	if f.Lost == nil {
		f.Lost = map[int64]release.Digest{}
	}
	if f.Unheld == nil {
		f.Unheld = map[int64]struct{}{}
	}
	if f.Versions == nil {
		f.Versions = map[string]release.Digest{}
	}
	if f.Highest == nil {
		f.Highest = map[string]uint64{}
	}
	if f.Channels == nil {
		f.Channels = map[string]channelMark{}
	}
	if f.Revoked == nil {
		f.Revoked = map[release.Digest]struct{}{}
	}
}

func (m *memory) save() error {
	data, err := json.MarshalIndent(m.file, "", "  ")
	if err != nil {
		return err
	}
	if len(data) >= maxMemory { // what could not be read again
		return m.tooLarge(len(data))
	}
	return atomicfile.WriteFile(m.path, append(data, '\n'), 0o600)
}

func (m *memory) tooLarge(n int) error {
	return fmt.Errorf("%s: at least %d bytes, want less than %d: the log has too many releases, or leaves without a bundle that holds", m.path, n, maxMemory)
}

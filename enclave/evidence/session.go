package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxSessions is the largest number of sessions that one quote stands for.
const MaxSessions = 1 << 16

// maxPath is the length of the longest inclusion proof in a tree of MaxSessions leaves.
const maxPath = 16

// A SessionDocument is session evidence as it travels: the hardware's report over the root of a tree of
// sessions (RFC 6962, section 2.1), and the proof that this session is a leaf of it (SPEC.md, section 3).
type SessionDocument struct {
	Platform     string     // as in the key evidence
	Size, Index  uint32     // leaves of the tree; which of them this session is
	Path         [][32]byte // from the leaf's sibling to the root's child
	Report       []byte     // its REPORTDATA is SessionReportData of the root
	Endorsements []byte     // or empty: those of the key evidence
}

func (d *SessionDocument) check() error {
	if err := checkPlatform(d.Platform); err != nil {
		return err
	}
	return d.checkPath()
}

// checkPath wants the one path that a leaf of such a tree has.
func (d *SessionDocument) checkPath() error {
	if d.Size == 0 || d.Size > MaxSessions || d.Index >= d.Size {
		return fmt.Errorf("leaf %d of %d: want one of 1 to %d", d.Index, d.Size, MaxSessions)
	}
	if n := pathLength(d.Index, d.Size); len(d.Path) != n {
		return fmt.Errorf("path: %d digests, want %d for leaf %d of %d", len(d.Path), n, d.Index, d.Size)
	}
	return nil
}

// Marshal returns the one encoding of d.
func (d *SessionDocument) Marshal() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("session evidence: %w", err)
	}
	if len(d.Report) > MaxDocument || len(d.Endorsements) > MaxDocument {
		return nil, fmt.Errorf("session evidence: a field of over %d bytes", MaxDocument)
	}
	b := append([]byte{Version, byte(len(d.Platform))}, d.Platform...)
	b = binary.BigEndian.AppendUint32(b, d.Size)
	b = binary.BigEndian.AppendUint32(b, d.Index)
	b = append(b, byte(len(d.Path)))
	for _, p := range d.Path {
		b = append(b, p[:]...)
	}
	b = lp16(lp16(b, d.Report), d.Endorsements)
	if len(b) > MaxDocument {
		return nil, fmt.Errorf("session evidence: %d bytes, want at most %d", len(b), MaxDocument)
	}
	return b, nil
}

// ParseSession reads session evidence. It accepts exactly what Marshal writes.
func ParseSession(data []byte) (*SessionDocument, error) {
	if len(data) > MaxDocument {
		return nil, fmt.Errorf("session evidence: %d bytes, want at most %d", len(data), MaxDocument)
	}
	r, d := &reader{rest: data}, new(SessionDocument)
	if v := r.take("version", 1); r.err == nil && v[0] != Version {
		return nil, fmt.Errorf("session evidence: version %d, want %d", v[0], Version)
	}
	d.Platform = string(r.lp8("platform"))
	d.Size, d.Index = r.u32("tree size"), r.u32("leaf index")
	if n := r.take("path", 1); n != nil {
		if n[0] > maxPath {
			return nil, fmt.Errorf("session evidence: path: %d digests, want at most %d", n[0], maxPath)
		}
		for range n[0] {
			if b := r.take("path", 32); b != nil {
				d.Path = append(d.Path, [32]byte(b))
			}
		}
	}
	d.Report, d.Endorsements = r.lp16("report"), r.lp16("endorsements")
	if r.err == nil && len(r.rest) != 0 {
		r.err = fmt.Errorf("%d bytes after the last field", len(r.rest))
	}
	if r.err == nil {
		r.err = d.check()
	}
	if r.err != nil {
		return nil, fmt.Errorf("session evidence: %w", r.err)
	}
	return d, nil
}

func (r *reader) u32(what string) uint32 {
	if b := r.take(what, 4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Root returns the root of the tree in which leaf stands where d says.
func (d *SessionDocument) Root(leaf [32]byte) ([32]byte, error) {
	if err := d.checkPath(); err != nil {
		return leaf, fmt.Errorf("session evidence: %w", err)
	}
	node, at, last, path := leaf, d.Index, d.Size-1, d.Path
	for ; last > 0; at, last = at/2, last/2 {
		switch {
		case at%2 == 1:
			node, path = inner(path[0], node), path[1:]
		case at < last:
			node, path = inner(node, path[0]), path[1:]
		}
	}
	return node, nil
}

// pathLength is the number of siblings on the way from a leaf to the root.
func pathLength(at, size uint32) (n int) {
	for last := size - 1; last > 0; at, last = at/2, last/2 {
		if at%2 == 1 || at < last {
			n++
		}
	}
	return n
}

func inner(left, right [32]byte) [32]byte {
	return sha256.Sum256(bytes.Join([][]byte{{1}, left[:], right[:]}, nil))
}

// A Tree is a tree of sessions: leaves are SessionLeaf values.
type Tree struct{ levels [][][32]byte }

// NewTree builds the tree of 1 to MaxSessions leaves.
func NewTree(leaves [][32]byte) (*Tree, error) {
	if len(leaves) == 0 || len(leaves) > MaxSessions {
		return nil, fmt.Errorf("session evidence: %d sessions, want 1 to %d", len(leaves), MaxSessions)
	}
	t := &Tree{levels: [][][32]byte{leaves}}
	for level := leaves; len(level) > 1; {
		var up [][32]byte
		for i := 0; i+1 < len(level); i += 2 {
			up = append(up, inner(level[i], level[i+1]))
		}
		if len(level)%2 == 1 { // the last one rises as it is
			up = append(up, level[len(level)-1])
		}
		t.levels = append(t.levels, up)
		level = up
	}
	return t, nil
}

// Root returns the root.
func (t *Tree) Root() [32]byte { return t.levels[len(t.levels)-1][0] }

// Prove returns a document for leaf i, with no report in it yet.
func (t *Tree) Prove(i int) (*SessionDocument, error) {
	if i < 0 || i >= len(t.levels[0]) {
		return nil, errors.New("session evidence: no such leaf")
	}
	d := &SessionDocument{Size: uint32(len(t.levels[0])), Index: uint32(i)}
	for _, level := range t.levels {
		if sibling := i ^ 1; sibling < len(level) {
			d.Path = append(d.Path, level[sibling])
		}
		i /= 2
	}
	return d, nil
}

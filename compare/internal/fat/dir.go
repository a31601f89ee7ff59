package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

const (
	entrySize = 32
	attrLong  = 0x0f
	attrLabel = 0x08
	lastLong  = 0x40    // in an entry's number: the name's last part, which is stored first
	maxLong   = 20 * 13 // characters in the 20 entries that a long name may have
)

// A walker reads the directories; each cluster may be used once.
type walker struct {
	v    *Volume
	used map[uint32]bool
}

// chain follows a chain of clusters that nobody else uses.
func (w *walker) chain(first uint32) ([]uint32, error) {
	var all []uint32
	for c := first; ; {
		if c < 2 || c-2 >= w.v.Clusters {
			return nil, fmt.Errorf("cluster %d of %d in a chain", c, w.v.Clusters)
		}
		if w.used[c] {
			return nil, fmt.Errorf("cluster %d is used twice", c)
		}
		w.used[c] = true
		all = append(all, c)
		next, end := w.v.next(c)
		if end {
			return all, nil
		}
		c = next
	}
}

func (w *walker) read(first uint32) ([]byte, error) {
	chain, err := w.chain(first)
	if err != nil {
		return nil, err
	}
	if int64(len(chain))*w.v.ClusterSize > maxEntries*entrySize {
		return nil, fmt.Errorf("directory of %d clusters: want at most %d entries", len(chain), maxEntries)
	}
	b := make([]byte, int64(len(chain))*w.v.ClusterSize)
	_, err = content{w.v, chain}.ReadAt(b, 0)
	return b, err
}

func (v *Volume) rootBytes(w *walker) ([]byte, error) {
	if v.Bits == 32 {
		return w.read(v.first)
	}
	b := make([]byte, v.rootLen)
	_, err := v.r.ReadAt(b, v.root)
	return b, err
}

// dir adds the entries of the directory in b, which is called path.
func (w *walker) dir(path string, b []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("directory %.64q: more than %d levels", path, maxDepth)
	}
	var long []uint16
	for ; len(b) >= entrySize && b[0] != 0; b = b[entrySize:] {
		e := b[:entrySize]
		switch {
		case e[0] == 0xe5:
			long = nil
			continue
		case e[11]&0x3f == attrLong:
			if e[0]&lastLong != 0 {
				long = nil
			}
			if len(long) >= maxLong {
				return fmt.Errorf("directory %.64q: a long name of more than %d characters", path, maxLong)
			}
			long = append(longPart(e), long...)
			continue
		case e[11]&attrLabel != 0:
			if path == "" {
				w.v.Label = strings.TrimRight(string(e[:11]), " ")
			}
			long = nil
			continue
		}
		name := shortName(e)
		if len(long) > 0 {
			name = string(utf16.Decode(long))
		}
		long = nil
		if name == "." || name == ".." {
			continue
		}
		if err := w.entry(path, name, e, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(dir, name string, e []byte, depth int) error {
	if name == "" || strings.ContainsAny(name, "/\x00") || len(name) > 1024 {
		return fmt.Errorf("directory %.64q: name %.64q is not allowed", dir, name)
	}
	if len(dir)+1+len(name) > maxPath {
		return fmt.Errorf("path %.64q…: %d bytes, want at most %d", dir, len(dir)+1+len(name), maxPath)
	}
	if len(w.v.Entries) >= maxEntries {
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	le := binary.LittleEndian
	n := Entry{
		Path: dir + "/" + name, Short: string(e[:11]), Attributes: e[11], CreatedTenths: e[13],
		Created: uint32(le.Uint16(e[16:]))<<16 | uint32(le.Uint16(e[14:])), Accessed: le.Uint16(e[18:]),
		Written: uint32(le.Uint16(e[24:]))<<16 | uint32(le.Uint16(e[22:])),
		Cluster: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:])), Size: int64(le.Uint32(e[28:])),
	}
	if w.v.Bits != 32 {
		n.Cluster &= 0xffff
	}
	if n.Dir() {
		b, err := w.read(n.Cluster)
		if err != nil {
			return fmt.Errorf("directory %.64q: %w", n.Path, err)
		}
		n.Size = 0
		w.v.Entries = append(w.v.Entries, n)
		return w.dir(n.Path, b, depth+1)
	}
	if n.Size > 0 {
		var err error
		if n.chain, err = w.chain(n.Cluster); err != nil {
			return fmt.Errorf("file %.64q: %w", n.Path, err)
		}
		if int64(len(n.chain))*w.v.ClusterSize < n.Size {
			return errors.New("file " + n.Path + ": its chain is shorter than its size")
		}
	}
	w.v.Entries = append(w.v.Entries, n)
	return nil
}

// longPart is the 13 characters of one long-name entry, up to the NUL.
func longPart(e []byte) []uint16 {
	var u []uint16
	for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := r[0]; i < r[1]; i += 2 {
			c := binary.LittleEndian.Uint16(e[i:])
			if c == 0 {
				return u
			}
			u = append(u, c)
		}
	}
	return u
}

// shortName is the 8.3 name; bits 3 and 4 of byte 12 make base and extension lower case.
func shortName(e []byte) string {
	base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if e[12]&0x08 != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&0x10 != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// Package cpio reads newc cpio archives as the Linux kernel unpacks them
// (Documentation/driver-api/early-userspace/buffer-format.rst): one archive after another, with zeros between
// them. Compressed parts are not read.
package cpio

import (
	"errors"
	"fmt"
	"strconv"
)

const (
	headerSize = 110
	trailer    = "TRAILER!!!"

	maxEntries = 1 << 20
	maxName    = 4096
)

// ErrNone is returned by Read for bytes that do not begin with a newc header.
var ErrNone = errors.New("cpio: no newc header (070701 or 070702)")

// An Entry is one member. Numbers are those of the header.
type Entry struct {
	Name                string
	Ino, Mode, UID, GID uint32
	Nlink, MTime        uint32
	Major, Minor        uint32 // of the file system it came from
	RMajor, RMinor      uint32 // of a device
	Check               uint32
	Data                []byte // aliases the archive
	Archive             int    // which of the concatenated archives, from 0
	Magic               string
}

// An Archive is all members of the concatenated archives, in order.
type Archive struct {
	Entries []Entry
	Count   int    // of archives
	Rest    []byte // from the first byte on that is neither header nor zero, e.g. a compressed archive
}

// Read reads b.
func Read(b []byte) (*Archive, error) {
	if len(b) < headerSize || !isMagic(b) {
		return nil, ErrNone
	}
	a := &Archive{Count: 1}
	off, open := 0, true
	for off < len(b) {
		if b[off] == 0 && !open {
			off++
			continue
		}
		if !isMagic(b[off:]) {
			if open {
				return nil, fmt.Errorf("cpio: byte %d: want a header or %s", off, trailer)
			}
			a.Rest = b[off:]
			return a, nil
		}
		if !open {
			open = true
			a.Count++
		}
		e, next, err := member(b, off)
		if err != nil {
			return nil, fmt.Errorf("cpio: header at byte %d: %w", off, err)
		}
		off = next
		if e.Name == trailer {
			open = false
			continue
		}
		if len(a.Entries) >= maxEntries {
			return nil, fmt.Errorf("cpio: more than %d members", maxEntries)
		}
		e.Archive = a.Count - 1
		a.Entries = append(a.Entries, e)
	}
	if open {
		return nil, fmt.Errorf("cpio: ends without %s", trailer)
	}
	return a, nil
}

func isMagic(b []byte) bool {
	return len(b) >= 6 && string(b[:5]) == "07070" && (b[5] == '1' || b[5] == '2')
}

// member reads the member at off and returns where the next one begins.
func member(b []byte, off int) (e Entry, next int, err error) {
	h := b[off:]
	if len(h) < headerSize {
		return e, 0, fmt.Errorf("%d bytes, want %d", len(h), headerSize)
	}
	e.Magic = string(h[:6])
	var size, nameSize uint32
	for i, f := range []*uint32{&e.Ino, &e.Mode, &e.UID, &e.GID, &e.Nlink, &e.MTime, &size, &e.Major, &e.Minor, &e.RMajor, &e.RMinor, &nameSize, &e.Check} {
		text := string(h[6+8*i:][:8])
		v, err := strconv.ParseUint(text, 16, 32)
		if err != nil || text[0] == '+' {
			return e, 0, fmt.Errorf("field %d: %q: want eight hexadecimal digits", i+1, text)
		}
		*f = uint32(v)
	}
	name := off + headerSize
	data := align4(name + int(min(nameSize, maxName+1)))
	if nameSize < 2 || nameSize > maxName || data > len(b) || b[name+int(nameSize)-1] != 0 {
		return e, 0, fmt.Errorf("name of %d bytes: want 2 to %d with a NUL at the end", nameSize, maxName)
	}
	e.Name = string(b[name : name+int(nameSize)-1])
	if int64(size) > int64(len(b)-data) {
		return e, 0, fmt.Errorf("%.64q: %d bytes of data, %d are left", e.Name, size, len(b)-data)
	}
	e.Data = b[data : data+int(size)]
	return e, min(len(b), align4(data+int(size))), nil
}

func align4(n int) int { return (n + 3) &^ 3 }

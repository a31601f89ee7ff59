package deb

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A member is one file of an ar archive (ar(5), the common format): 60 bytes of header, the data, a
// newline when the data has odd length.
type member struct {
	name         string
	offset, size int64
}

const (
	arMagic    = "!<arch>\n"
	arHeader   = 60
	maxMembers = 16
)

// readAr lists the members of the archive in r, which has size bytes.
func readAr(r io.ReaderAt, size int64) ([]member, error) {
	magic := make([]byte, len(arMagic))
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != arMagic {
		return nil, fmt.Errorf("ar archive: starts with %q, want %q", magic, arMagic)
	}
	var all []member
	for off := int64(len(arMagic)); off < size; {
		h := make([]byte, arHeader)
		if _, err := r.ReadAt(h, off); err != nil {
			if errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("ar archive: truncated in the header at byte %d", off)
			}
			return nil, err
		}
		n, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 63)
		if err != nil || string(h[58:60]) != "`\n" {
			return nil, fmt.Errorf("ar archive: malformed header at byte %d", off)
		}
		off += arHeader
		length := int64(n)
		if length > size-off {
			return nil, fmt.Errorf("ar archive: truncated: member at byte %d has %d bytes, %d are there", off-arHeader, length, size-off)
		}
		if len(all) == maxMembers {
			return nil, fmt.Errorf("ar archive: more than %d members", maxMembers)
		}
		name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
		all = append(all, member{name, off, length})
		off += length + length&1
	}
	return all, nil
}

package snp

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"tally/measure/eventlog"
)

// A Digest is a launch digest (48 bytes, SHA-384).
type Digest [48]byte

// String returns 96 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns 96 lower-case hex digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText wants 96 hex digits.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != 2*len(d) {
		return fmt.Errorf("launch digest %.100q: %d characters, want %d hex digits", b, len(b), 2*len(d))
	}
	var p Digest
	if _, err := hex.Decode(p[:], b); err != nil {
		return fmt.Errorf("launch digest %.100q: want %d hex digits", b, 2*len(d))
	}
	*d = p
	return nil
}

const pageSize = 4096

// A pageType is the PAGE_TYPE of SNP_LAUNCH_UPDATE (SEV-SNP Firmware ABI, table 67).
type pageType byte

const (
	pageNormal     pageType = 1
	pageVMSA       pageType = 2
	pageZero       pageType = 3
	pageUnmeasured pageType = 4
	pageSecrets    pageType = 5
	pageCPUID      pageType = 6
)

func (t pageType) String() string {
	return [...]string{"", "normal", "vmsa", "zero", "unmeasured", "secrets", "cpuid"}[t]
}

// A chain is a launch digest being computed.
type chain struct {
	ld     Digest
	events []Event
}

// An Event is a run of pages that entered the digest together.
type Event struct {
	What   string `json:"what"`   // firmware, a metadata section by name, or vmsa
	Type   string `json:"type"`   // page type
	GPA    uint64 `json:"gpa"`    // guest physical address of the first page
	Pages  int    `json:"pages"`  //
	Digest Digest `json:"digest"` // the launch digest after it

	Covers []eventlog.Part `json:"covers,omitempty"` // parts of the image that these pages fix
}

// add puts one page into the chain. contents is the SHA-384 of the page, zero for types without.
func (c *chain) add(t pageType, gpa uint64, contents [48]byte) {
	var info [0x70]byte
	copy(info[0:], c.ld[:])
	copy(info[0x30:], contents[:])
	binary.LittleEndian.PutUint16(info[0x60:], uint16(len(info)))
	info[0x62] = byte(t)
	binary.LittleEndian.PutUint64(info[0x68:], gpa)
	c.ld = sha512.Sum384(info[:])
}

// note records that pages from gpa on have entered, and which parts of the image they fix.
func (c *chain) note(what string, t pageType, gpa uint64, pages int, covers ...eventlog.Part) {
	c.events = append(c.events, Event{what, t.String(), gpa, pages, c.ld, covers})
}

// addReader puts the size bytes of r, whole pages of NORMAL data, into the chain. Firmware is full of equal filler pages: the
// digest of a page equal to the one before it is not computed again.
func (c *chain) addReader(gpa uint64, r io.ReaderAt, size int64) error {
	section, end := io.NewSectionReader(r, 0, size), gpa+uint64(size)
	buf := make([]byte, 16*pageSize)
	var last [pageSize]byte
	sum, known := [48]byte{}, false
	for {
		n, err := io.ReadFull(section, buf)
		for b := buf[:n-n%pageSize]; len(b) > 0; b, gpa = b[pageSize:], gpa+pageSize {
			if page := b[:pageSize]; !known || !bytes.Equal(page, last[:]) {
				sum, known = sha512.Sum384(page), true
				copy(last[:], page)
			}
			c.add(pageNormal, gpa, sum)
		}
		switch {
		case n%pageSize != 0:
			return fmt.Errorf("the last page has %d bytes, want %d", n%pageSize, pageSize)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if gpa != end {
				return fmt.Errorf("%d bytes fewer than %d: it became shorter", end-gpa, size)
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// addEmpty puts pages into the chain whose contents are not measured.
func (c *chain) addEmpty(t pageType, gpa uint64, size uint32) int {
	pages := int(size / pageSize)
	for i := range pages {
		c.add(t, gpa+uint64(i)*pageSize, [48]byte{})
	}
	return pages
}

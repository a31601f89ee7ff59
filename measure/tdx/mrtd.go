package tdx

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"tally/measure/eventlog"
	"tally/measure/internal/fw"
)

// A Digest is the value of a measurement register (48 bytes, SHA-384).
type Digest [48]byte

// String returns 96 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns 96 lower-case hex digits.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText wants 96 lower-case hex digits.
func (d *Digest) UnmarshalText(b []byte) error {
	p, err := ParseDigest(string(b))
	if err == nil {
		*d = p
	}
	return err
}

// ParseDigest reads 96 lower-case hex digits.
func ParseDigest(s string) (d Digest, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != s {
		return d, fmt.Errorf("digest %.100q: want 96 lower-case hex digits", s)
	}
	return Digest(b), nil
}

// A Pass is the order in which a host adds and extends the pages of a section. The zero Pass is invalid.
type Pass string

// The orders in use.
const (
	SinglePass Pass = "single-pass" // page by page: upstream KVM and QEMU, and Google's
	TwoPass    Pass = "two-pass"    // all pages of a section added, then all extended: Intel's and Ubuntu's QEMU 8.2 trees
)

// Passes lists the orders.
func Passes() []Pass { return []Pass{SinglePass, TwoPass} }

// An Event is a section that was added.
type Event struct {
	What     string `json:"what"`     // section type
	GPA      uint64 `json:"gpa"`      // guest physical address of its first page
	Pages    uint64 `json:"pages"`    //
	Extended bool   `json:"extended"` // its contents entered, not its addresses alone

	after Digest // MRTD if the build ended here
}

// An MRTD is the value under one order and the events behind it, in launch order.
type MRTD struct {
	Pass   Pass    `json:"pass"`
	Digest Digest  `json:"digest"`
	Events []Event `json:"events"`

	known bool // computed earlier, without its events
}

// log returns the sections in the form that all registers share; a digest is MRTD after the section.
func (m *MRTD) log() []eventlog.Event {
	if m.known {
		return []eventlog.Event{{What: "firmware", Digest: m.Digest[:], Covers: []eventlog.Part{eventlog.PartFirmware}}}
	}
	var log []eventlog.Event
	for _, e := range m.Events {
		l := eventlog.Event{What: e.What, Detail: fmt.Sprintf("%d pages at %#x, contents measured: %t", e.Pages, e.GPA, e.Extended), Digest: e.after[:]}
		if e.Extended {
			l.Covers = []eventlog.Part{eventlog.PartFirmware}
		}
		log = append(log, l)
	}
	return log
}

const (
	pageSize  = fw.PageSize
	chunkSize = 256
)

// Measure computes MRTD for a firmware of size bytes (whole pages, at most 64 MiB) under an order.
func Measure(r io.ReaderAt, size int64, pass Pass) (*MRTD, error) {
	if pass != SinglePass && pass != TwoPass {
		return nil, fmt.Errorf("pass %.40q: want one of %v", pass, Passes())
	}
	sections, err := fw.ReadTDVF(r, size)
	if err != nil {
		return nil, err
	}
	b := builder{hash: sha512.New384()}
	m := &MRTD{Pass: pass}
	for _, s := range sections {
		if s.Attr&fw.TDPageAug != 0 || s.Size == 0 {
			continue
		}
		if err := b.section(r, s, pass); err != nil {
			return nil, fmt.Errorf("firmware: %s at byte %d: %w", s.Type, s.Offset, err)
		}
		e := Event{What: s.Type.String(), GPA: s.GPA, Pages: s.Size / pageSize, Extended: s.Attr&fw.TDExtend != 0}
		b.hash.Sum(e.after[:0])
		m.Events = append(m.Events, e)
	}
	b.hash.Sum(m.Digest[:0])
	return m, nil
}

// A builder is a trust domain being built.
type builder struct {
	hash hash.Hash
	page [pageSize]byte
	buf  [16 * pageSize]byte // of the file, from byte at on
	at   int64
	have int
}

func (b *builder) section(r io.ReaderAt, s fw.TDSection, pass Pass) error {
	if pass == TwoPass || s.Attr&fw.TDExtend == 0 {
		for off := uint64(0); off < s.Size; off += pageSize {
			b.call("MEM.PAGE.ADD", s.GPA+off)
		}
	}
	if s.Attr&fw.TDExtend == 0 {
		return nil
	}
	for off := uint64(0); off < s.Size; off += pageSize {
		if pass == SinglePass {
			b.call("MEM.PAGE.ADD", s.GPA+off)
		}
		if err := b.load(r, s, off); err != nil {
			return err
		}
		for i := uint64(0); i < pageSize; i += chunkSize {
			b.call("MR.EXTEND", s.GPA+off+i)
			b.hash.Write(b.page[i : i+chunkSize])
		}
	}
	return nil
}

// call enters what a call of the TDX module says about the memory at gpa.
func (b *builder) call(name string, gpa uint64) {
	var buf [128]byte
	copy(buf[:16], name)
	binary.LittleEndian.PutUint64(buf[16:], gpa)
	b.hash.Write(buf[:])
}

// load reads the page at off of a section; past its contents there are zeros.
func (b *builder) load(r io.ReaderAt, s fw.TDSection, off uint64) error {
	clear(b.page[:])
	if off >= uint64(s.RawSize) {
		return nil
	}
	want := b.page[:min(pageSize, uint64(s.RawSize)-off)]
	from := int64(s.Offset) + int64(off)
	if from < b.at || from+int64(len(want)) > b.at+int64(b.have) {
		n, err := r.ReadAt(b.buf[:], from)
		if b.at, b.have = from, n; n < len(want) {
			return fmt.Errorf("page at %#x: %w", off, err)
		}
	}
	copy(want, b.buf[from-b.at:])
	return nil
}

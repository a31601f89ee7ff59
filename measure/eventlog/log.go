package eventlog

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"   // registers the hash
	_ "crypto/sha256" // registers the hash
	_ "crypto/sha512" // registers the hash
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
)

// Limits of a log. Real ones have 20 to 200 events and some 10 KB; the longest event is a dbx of 20 KB.
const (
	MaxSize   = 16 << 20 // bytes of a log
	maxEvents = 16384
	maxAlgs   = 8
	maxData   = 4 << 20 // bytes of one event's data
)

// An Algorithm is a TPM_ALG_ID of a hash.
type Algorithm uint16

// The hashes known (TCG Algorithm Registry, section 6.10).
const (
	SHA1   Algorithm = 0x4
	SHA256 Algorithm = 0xb
	SHA384 Algorithm = 0xc
	SHA512 Algorithm = 0xd
)

// hashes are those whose registers can be replayed; digests of others are skipped by their stated size.
var hashes = map[Algorithm]crypto.Hash{SHA1: crypto.SHA1, SHA256: crypto.SHA256, SHA384: crypto.SHA384, SHA512: crypto.SHA512}

// String returns the hash's name, such as "sha384".
func (a Algorithm) String() string {
	switch a {
	case SHA1:
		return "sha1"
	case SHA256:
		return "sha256"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	}
	return fmt.Sprintf("algorithm %#x", uint16(a))
}

// New returns the hash, nil for an algorithm that is not known.
func (a Algorithm) New() hash.Hash {
	h, ok := hashes[a]
	if !ok {
		return nil
	}
	return h.New()
}

// A Logged is one event of a log.
type Logged struct {
	Offset  int    // byte at which it starts
	Index   uint32 // register: of a PCR, or of a CC measurement register (0 MRTD, 1 RTMR0, …)
	Type    Type
	Digests map[Algorithm]Digest
	Data    []byte
}

// A Log is a parsed event log.
type Log struct {
	Algorithms []Algorithm // in the order of the header
	Events     []Logged    // in log order, without the header
}

// Parse reads a crypto-agile log of at most MaxSize bytes. What follows the last event must be empty, all
// zero or all 0xff, as in the fixed area that ACPI names.
func Parse(b []byte) (*Log, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("event log: %d bytes, want at most %d", len(b), MaxSize)
	}
	c := &cursor{b: b}
	sizes, algs, err := c.header()
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	l := &Log{Algorithms: algs}
	for !c.atEnd() {
		if len(l.Events) == maxEvents {
			return nil, fmt.Errorf("event log: byte %d: more than %d events", c.off, maxEvents)
		}
		start := c.off
		e, err := c.event(sizes)
		if err != nil {
			return nil, fmt.Errorf("event log: event %d at byte %d: %w", len(l.Events)+1, start, err)
		}
		l.Events = append(l.Events, e)
	}
	return l, nil
}

// A cursor reads a log from front to end.
type cursor struct {
	b   []byte
	off int
}

// atEnd says whether nothing but filler is left. It looks from the front alone: no event starts with much of it,
// so what fills megabytes behind the last one is passed over once, not before each event.
func (c *cursor) atEnd() bool {
	rest := c.b[c.off:]
	return only(rest, 0) || only(rest, 0xff)
}

// only says whether b is of one byte alone.
func only(b []byte, filler byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != filler })
}

func (c *cursor) take(n int, what string) ([]byte, error) {
	if n > len(c.b)-c.off {
		return nil, fmt.Errorf("%s: %d bytes at byte %d, but %d are left", what, n, c.off, len(c.b)-c.off)
	}
	c.off += n
	return c.b[c.off-n : c.off], nil
}

func (c *cursor) u16(what string) (uint16, error) {
	b, err := c.take(2, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint16(b), nil
}

func (c *cursor) u32(what string) (uint32, error) {
	b, err := c.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// header reads the event that names the algorithms.
func (c *cursor) header() (map[Algorithm]int, []Algorithm, error) {
	fixed, err := c.take(32, "header")
	if err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	size := le.Uint32(fixed[28:])
	if Type(le.Uint32(fixed[4:])) != NoAction || size > 1024 {
		return nil, nil, fmt.Errorf("header of type %s and %d bytes, want EV_NO_ACTION and at most 1024: not a TCG log", Type(le.Uint32(fixed[4:])), size)
	}
	data, err := c.take(int(size), "header")
	if err != nil {
		return nil, nil, err
	}
	const fixedPart = 16 + 4 + 4 + 4
	if len(data) < fixedPart || string(data[:16]) != "Spec ID Event03\x00" {
		return nil, nil, fmt.Errorf("header says %.16q, want \"Spec ID Event03\" (a log with SHA-1 alone is not read)", data[:min(16, len(data))])
	}
	n := le.Uint32(data[24:])
	if n == 0 || n > maxAlgs || len(data) < fixedPart+4*int(n)+1 {
		return nil, nil, fmt.Errorf("header of %d bytes names %d algorithms, want 1 to %d", len(data), n, maxAlgs)
	}
	sizes, algs := map[Algorithm]int{}, make([]Algorithm, 0, n)
	for i := range int(n) {
		a, size := Algorithm(le.Uint16(data[fixedPart+4*i:])), int(le.Uint16(data[fixedPart+4*i+2:]))
		if _, twice := sizes[a]; twice || size == 0 || size > 64 {
			return nil, nil, fmt.Errorf("header: %s of %d bytes: twice, or not of 1 to 64 bytes", a, size)
		}
		if h, ok := hashes[a]; ok && h.Size() != size {
			return nil, nil, fmt.Errorf("header: %s of %d bytes, want %d", a, size, h.Size())
		}
		sizes[a], algs = size, append(algs, a)
	}
	return sizes, algs, nil
}

// event reads one TCG_PCR_EVENT2.
func (c *cursor) event(sizes map[Algorithm]int) (Logged, error) {
	e := Logged{Offset: c.off, Digests: map[Algorithm]Digest{}}
	var err error
	if e.Index, err = c.u32("register"); err != nil {
		return e, err
	}
	t, err := c.u32("type")
	if err != nil {
		return e, err
	}
	e.Type = Type(t)
	if e.Index > 23 {
		return e, fmt.Errorf("register %d, want 0 to 23", e.Index)
	}
	n, err := c.u32("number of digests")
	if err != nil {
		return e, err
	}
	if int64(n) != int64(len(sizes)) {
		return e, fmt.Errorf("%d digests, the header names %d algorithms", n, len(sizes))
	}
	for range n {
		a, err := c.u16("algorithm")
		if err != nil {
			return e, err
		}
		size, ok := sizes[Algorithm(a)]
		if _, twice := e.Digests[Algorithm(a)]; !ok || twice {
			return e, fmt.Errorf("digest of %s: twice, or not named by the header", Algorithm(a))
		}
		d, err := c.take(size, "digest")
		if err != nil {
			return e, err
		}
		e.Digests[Algorithm(a)] = slices.Clone(d)
	}
	size, err := c.u32("size of the data")
	if err != nil {
		return e, err
	}
	if size > maxData {
		return e, fmt.Errorf("%d bytes of data, want at most %d", size, maxData)
	}
	data, err := c.take(int(size), "data")
	e.Data = slices.Clone(data)
	return e, err
}

// Replay computes the registers of one algorithm that the log's events extend. A register of a TPM starts
// at zero; register 0 at the locality that the firmware's StartupLocality event names.
func (l *Log) Replay(a Algorithm) (map[uint32]Digest, error) {
	if !slices.Contains(l.Algorithms, a) || a.New() == nil {
		return nil, fmt.Errorf("event log: no digests of %s, it has %v", a, l.Algorithms)
	}
	regs := map[uint32]Digest{}
	for _, e := range l.Events {
		if e.Type == NoAction {
			if loc, ok := bytes.CutPrefix(e.Data, []byte("StartupLocality\x00")); ok && e.Index == 0 && len(loc) == 1 && regs[0] == nil {
				regs[0] = append(make(Digest, a.New().Size()-1), loc[0])
			}
			continue
		}
		if regs[e.Index] == nil {
			regs[e.Index] = make(Digest, a.New().Size())
		}
		regs[e.Index] = Extend(a, regs[e.Index], e.Digests[a])
	}
	return regs, nil
}

// Extend returns the register after an event: H(register ‖ digest).
func Extend(a Algorithm, register, digest Digest) Digest {
	h := a.New()
	h.Write(register)
	h.Write(digest)
	return h.Sum(nil)
}

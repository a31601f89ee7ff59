package evidence

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Marshal returns the one encoding of d (SPEC.md, section 1).
func (d *Document) Marshal() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	c := &d.Claims
	b := []byte{Version, byte(len(d.Platform))}
	b = append(b, d.Platform...)
	b = append(b, byte(len(c.Authority)))
	b = append(b, c.Authority...)
	b = append(b, c.Static[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(c.NotBefore))
	b = binary.BigEndian.AppendUint64(b, uint64(c.NotAfter))
	for _, f := range [][]byte{c.EncapKey, c.GPU, c.Beacon, d.Report, d.Endorsements} {
		if len(f) > MaxDocument {
			return nil, fmt.Errorf("evidence: a field of %d bytes, want at most %d", len(f), MaxDocument)
		}
		b = lp16(b, f)
	}
	if len(b) > MaxDocument {
		return nil, fmt.Errorf("evidence: %d bytes, want at most %d", len(b), MaxDocument)
	}
	return b, nil
}

// Parse reads a document. It accepts exactly what Marshal writes; the result shares no memory with data.
func Parse(data []byte) (*Document, error) {
	if len(data) > MaxDocument {
		return nil, fmt.Errorf("evidence: %d bytes, want at most %d", len(data), MaxDocument)
	}
	r := &reader{rest: data}
	d := new(Document)
	if v := r.take("version", 1); r.err == nil && v[0] != Version {
		return nil, fmt.Errorf("evidence: version %d, want %d", v[0], Version)
	}
	d.Platform = string(r.lp8("platform"))
	c := &d.Claims
	c.Authority = string(r.lp8("authority"))
	copy(c.Static[:], r.take("static key", 32))
	c.Epoch = r.u64("epoch")
	c.NotBefore = int64(r.u64("not_before"))
	c.NotAfter = int64(r.u64("not_after"))
	c.EncapKey = r.lp16("encapsulation key")
	c.GPU = r.lp16("gpu")
	c.Beacon = r.lp16("beacon")
	d.Report = r.lp16("report")
	d.Endorsements = r.lp16("endorsements")
	if r.err == nil && len(r.rest) != 0 {
		r.err = fmt.Errorf("%d bytes after the last field", len(r.rest))
	}
	if r.err == nil {
		r.err = d.check()
	}
	if r.err != nil {
		return nil, fmt.Errorf("evidence: %w", r.err)
	}
	return d, nil
}

// A reader takes fields off the front; the first error stays.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(what string, n int) []byte {
	if r.err == nil && len(r.rest) < n {
		r.err = fmt.Errorf("%s: %d bytes left, want %d", what, len(r.rest), n)
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u64(what string) uint64 {
	if b := r.take(what, 8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) lp8(what string) []byte {
	if n := r.take(what, 1); n != nil {
		return r.take(what, int(n[0]))
	}
	return nil
}

// lp16 returns a copy, nil for an empty field.
func (r *reader) lp16(what string) []byte {
	n := r.take(what, 2)
	if n == nil {
		return nil
	}
	b := r.take(what, int(binary.BigEndian.Uint16(n)))
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

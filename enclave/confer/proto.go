package confer

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// A value is a field's: n of a varint, b of bytes.
type value struct {
	n uint64
	b []byte
}

func (v value) uint32(p *uint32) error {
	if v.n > math.MaxUint32 {
		return fmt.Errorf("%d, want at most %d", v.n, uint32(math.MaxUint32))
	}
	*p = uint32(v.n)
	return nil
}

func (v value) text(p *string) error {
	if !utf8.Valid(v.b) {
		return fmt.Errorf("want UTF-8")
	}
	*p = string(v.b)
	return nil
}

// fields hands each field of a message to its function, and returns a bit for each that was there. Fields up to
// single come once; asBytes are length-delimited, the others varints. Values are held to the shortest form of their
// lengths by nobody: what a protobuf library reads is read.
func fields(what string, data []byte, single protowire.Number, each map[protowire.Number]func(value) error, asBytes ...protowire.Number) (seen uint, err error) {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return seen, fmt.Errorf("confer: %s: %w", what, protowire.ParseError(n))
		}
		data = data[n:]
		set, want := each[num], protowire.VarintType
		if slices.Contains(asBytes, num) {
			want = protowire.BytesType
		}
		switch {
		case set == nil || typ != want:
			return seen, fmt.Errorf("confer: %s: field %d of wire type %d is not known", what, num, typ)
		case num <= single && seen&(1<<num) != 0:
			return seen, fmt.Errorf("confer: %s: field %d twice", what, num)
		}
		seen |= 1 << num
		var v value
		if want == protowire.BytesType {
			v.b, n = protowire.ConsumeBytes(data)
		} else {
			v.n, n = protowire.ConsumeVarint(data)
		}
		if n < 0 {
			return seen, fmt.Errorf("confer: %s: field %d: %w", what, num, protowire.ParseError(n))
		}
		if err := set(v); err != nil {
			return seen, fmt.Errorf("confer: %s: field %d: %w", what, num, err)
		}
		data = data[n:]
	}
	return seen, nil
}

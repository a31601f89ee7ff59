package deb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits on control data, in bytes and fields.
const (
	maxLine   = 1 << 20
	maxFields = 512
)

// A Paragraph is one stanza of a control file (Debian Policy 5.1): fields by lower-case name. The lines
// of a value are joined by "\n", each without its leading space.
type Paragraph map[string]string

// A ParagraphReader reads stanzas one after the other.
type ParagraphReader struct {
	s    *bufio.Scanner
	line int
}

// NewParagraphReader reads from r.
func NewParagraphReader(r io.Reader) *ParagraphReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	return &ParagraphReader{s: s}
}

// Next returns the next stanza, or io.EOF.
func (p *ParagraphReader) Next() (Paragraph, error) {
	var out Paragraph
	last := ""
	for p.s.Scan() {
		p.line++
		text := strings.TrimRight(p.s.Text(), " \t\r")
		switch {
		case text == "":
			if out != nil {
				return out, nil
			}
			continue
		case text[0] == '#':
			continue
		case text[0] == ' ' || text[0] == '\t':
			if last == "" {
				return nil, fmt.Errorf("line %d: continuation without a field", p.line)
			}
			out[last] += "\n" + text[1:]
			continue
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok || !fieldName(name) {
			return nil, fmt.Errorf("line %d: %.60q: want \"Field: value\"", p.line, text)
		}
		if out == nil {
			out = Paragraph{}
		}
		last = strings.ToLower(name)
		if _, twice := out[last]; twice {
			return nil, fmt.Errorf("line %d: field %q twice", p.line, name)
		}
		if len(out) >= maxFields {
			return nil, fmt.Errorf("line %d: more than %d fields", p.line, maxFields)
		}
		out[last] = strings.TrimSpace(value)
	}
	if err := p.s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: longer than %d bytes", p.line+1, maxLine)
	} else if err != nil {
		return nil, err
	}
	if out != nil {
		return out, nil
	}
	return nil, io.EOF
}

func fieldName(s string) bool {
	if s == "" || s[0] == '-' || s[0] == '#' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ':' {
			return false
		}
	}
	return true
}

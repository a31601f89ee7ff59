package deb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits on control data, in bytes and fields.
const (
	maxLine   = 1 << 20
	maxFields = 512
	maxStanza = 16 << 20
)

// A Paragraph is one stanza of a control file (Debian Policy 5.1): fields by lower-case name. The lines
// of a value are joined by "\n", each without its leading space.
type Paragraph map[string]string

// A ParagraphReader reads stanzas one after the other.
type ParagraphReader struct {
	s     *bufio.Scanner
	line  int
	size  int    // bytes of the stanza so far
	value []byte // of the field that is being read
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
	field := ""
	p.size = 0
	for p.s.Scan() {
		p.line++
		text := bytes.TrimRight(p.s.Bytes(), " \t\r")
		if p.size += len(text) + 1; p.size > maxStanza {
			return nil, fmt.Errorf("line %d: stanza longer than %d bytes", p.line, maxStanza)
		}
		switch {
		case len(text) == 0 && out == nil, len(text) > 0 && text[0] == '#':
			continue
		case len(text) == 0:
			out[field] = string(p.value)
			return out, nil
		case text[0] == ' ' || text[0] == '\t':
			if out == nil {
				return nil, fmt.Errorf("line %d: continuation without a field", p.line)
			}
			p.value = append(append(p.value, '\n'), text[1:]...)
			continue
		}
		if out == nil {
			out = Paragraph{}
		} else {
			out[field] = string(p.value)
		}
		var err error
		if field, err = p.field(out, text); err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
	}
	return p.end(out, field)
}

// field starts a field with its first line. The name stands in out at once, so that it is found twice.
func (p *ParagraphReader) field(out Paragraph, text []byte) (string, error) {
	name, value, ok := bytes.Cut(text, []byte(":"))
	if !ok || !fieldName(name) {
		return "", fmt.Errorf("%.60q: want \"Field: value\"", text)
	}
	lower := strings.ToLower(string(name))
	if _, twice := out[lower]; twice {
		return "", fmt.Errorf("field %q twice", name)
	}
	if len(out) >= maxFields {
		return "", fmt.Errorf("more than %d fields", maxFields)
	}
	out[lower] = ""
	p.value = append(p.value[:0], bytes.TrimSpace(value)...)
	return lower, nil
}

// end is what Next returns at the end of the file.
func (p *ParagraphReader) end(out Paragraph, field string) (Paragraph, error) {
	if err := p.s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: longer than %d bytes", p.line+1, maxLine)
	} else if err != nil {
		return nil, err
	}
	if out == nil {
		return nil, io.EOF
	}
	out[field] = string(p.value)
	return out, nil
}

func fieldName(s []byte) bool {
	if len(s) == 0 || s[0] == '-' || s[0] == '#' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ':' {
			return false
		}
	}
	return true
}

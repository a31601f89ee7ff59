package gpu

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A scanner reads the parts of XML 1.0 that manifests are made of: elements with attributes, text, references. Comments,
// instructions, CDATA, document types with their entities, and names beyond ASCII, all of which they do without, are refused. What
// it takes, it takes as encoding/xml does (FuzzScan), of which it has no more than this: names, values and texts are parts of the
// document unless there is a reference or a carriage return in them, so that a manifest is read in half the time.
type scanner struct {
	text string // of characters that XML allows: isText
	at   int
	tag  []attr // of the tag read last
}

// isText reports whether every character of UTF-8, which has no surrogates, is one of XML's.
func isText(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return !strings.Contains(text, "\ufffe") && !strings.Contains(text, "\uffff")
}

// isChar reports whether a character is one of XML's (XML 1.0, production 2).
func isChar(r rune) bool {
	return r >= ' ' && r < 0xd800 || r == '\n' || r == '\t' || r == '\r' || r > 0xdfff && r < 0xfffe || r > 0xffff && r <= 0x10ffff
}

func (s *scanner) more() bool { return s.at < len(s.text) }

// take passes over what comes next if it is the given text.
func (s *scanner) take(text string) bool {
	if !strings.HasPrefix(s.text[s.at:], text) {
		return false
	}
	s.at += len(text)
	return true
}

// space passes over white space and reports whether there was any.
func (s *scanner) space() bool {
	from := s.at
	for s.more() && strings.IndexByte(" \n\r\t", s.text[s.at]) >= 0 {
		s.at++
	}
	return s.at > from
}

// until returns what stands before the next c, or before the end, and stops there.
func (s *scanner) until(c byte) string {
	from, n := s.at, strings.IndexByte(s.text[s.at:], c)
	if n < 0 {
		n = len(s.text) - from
	}
	s.at += n
	return s.text[from:s.at]
}

// name reads a name with or without prefix.
func (s *scanner) name() (prefix, local string, err error) {
	from := s.at
	for s.more() && nameByte(s.text[s.at]) {
		s.at++
	}
	if s.more() && s.text[s.at] >= utf8.RuneSelf {
		return "", "", fmt.Errorf("%.40q: no valid name: not ASCII", s.text[from:s.at])
	}
	qname := s.text[from:s.at]
	local = qname
	if i := strings.IndexByte(qname, ':'); i >= 0 {
		prefix, local = qname[:i], qname[i+1:]
		if !isName(prefix) {
			return "", "", fmt.Errorf("%.40q: no valid name", qname)
		}
	}
	if !isName(local) {
		return "", "", fmt.Errorf("%.40q: no valid name", qname)
	}
	return prefix, local, nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == ':'
}

// isName wants a name of bytes that nameByte passes to have no colon, and to start as names do.
func isName(name string) bool {
	return name != "" && !strings.Contains(name, ":") && strings.IndexByte("0123456789-.", name[0]) < 0
}

// attributes reads those of a tag or declaration into s.tag and stops before its end.
func (s *scanner) attributes() (err error) {
	for s.tag = s.tag[:0]; ; {
		apart := s.space()
		if !s.more() || strings.IndexByte("/>?", s.text[s.at]) >= 0 {
			return nil
		}
		if !apart {
			return errors.New("want space before an attribute")
		}
		var a attr
		if a.prefix, a.name, err = s.name(); err != nil {
			return fmt.Errorf("attribute %w", err)
		}
		if a.value, err = s.value(); err != nil {
			return fmt.Errorf("attribute %.40q: %w", a.name, err)
		}
		s.tag = append(s.tag, a)
	}
}

// value reads what stands behind an attribute's name.
func (s *scanner) value() (string, error) {
	s.space()
	if !s.take("=") {
		return "", errors.New("want = behind its name")
	}
	s.space()
	quote := byte('\'')
	if s.take(`"`) {
		quote = '"'
	} else if !s.take("'") {
		return "", errors.New("want a value in quotes")
	}
	raw := s.until(quote)
	if !s.more() || strings.Contains(raw, "<") {
		return "", errors.New("want a value that ends, without <")
	}
	s.at++
	return expand(raw)
}

// chars reads text up to the next tag.
func (s *scanner) chars() (string, error) {
	raw := s.until('<')
	if strings.Contains(raw, "]]>") {
		return "", errors.New("]]> in text")
	}
	return expand(raw)
}

// expand puts characters in the place of references, and one newline in the place of each end of a line.
func expand(raw string) (string, error) {
	if !strings.ContainsAny(raw, "&\r") {
		return raw, nil
	}
	var b strings.Builder
	raw = strings.ReplaceAll(strings.ReplaceAll(raw, "\r\n", "\n"), "\r", "\n")
	for {
		text, rest, more := strings.Cut(raw, "&")
		b.WriteString(text)
		if !more {
			return b.String(), nil
		}
		name, after, ends := strings.Cut(rest, ";")
		r, ok := reference(name)
		if !ends || !ok {
			return "", fmt.Errorf("&%.20q: want a character by its number, or lt, gt, amp, quot, apos, and a semicolon", name)
		}
		b.WriteRune(r)
		raw = after
	}
}

var predefined = map[string]rune{"lt": '<', "gt": '>', "amp": '&', "quot": '"', "apos": '\''}

// reference returns the character that a reference names.
func reference(name string) (rune, bool) {
	number, ok := strings.CutPrefix(name, "#")
	if !ok {
		r, ok := predefined[name]
		return r, ok
	}
	base := 10
	if hex, ok := strings.CutPrefix(number, "x"); ok {
		number, base = hex, 16
	}
	n, err := strconv.ParseUint(number, base, 31)
	return rune(n), err == nil && isChar(rune(n))
}

// declaration passes over the declaration of XML at the start, where there is one: version 1.0, in UTF-8.
func (s *scanner) declaration() error {
	if !s.take("<?xml") {
		return nil
	}
	from := s.at
	if err := s.attributes(); err != nil {
		return fmt.Errorf("XML declaration: %w", err)
	}
	var names []string
	ok := !strings.Contains(s.text[from:s.at], "&")
	for _, a := range s.tag {
		switch a.name {
		case "version":
			ok = ok && a.value == "1.0"
		case "encoding":
			ok = ok && strings.EqualFold(a.value, "UTF-8")
		case "standalone":
			ok = ok && (a.value == "yes" || a.value == "no")
		}
		names = append(names, a.prefix+a.name)
	}
	switch strings.Join(names, " ") {
	case "version", "version encoding", "version standalone", "version encoding standalone":
	default:
		ok = false
	}
	if !ok || !s.take("?>") {
		return errors.New(`XML declaration: want version="1.0", encoding="UTF-8" and an end`)
	}
	return nil
}

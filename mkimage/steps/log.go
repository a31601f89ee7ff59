package steps

import (
	"bufio"
	"io"
	"strings"
	"unicode"
)

const (
	maxLine   = 2000 // bytes of a line of a step's output that are shown
	lastLines = 3    // of the output that stand in an error
)

// A talk is what a command says, by lines.
type talk struct {
	log  func(line string) // may be nil
	last []string
}

// follow reads r to its end. A line that is too long is shown cut, and what could move a terminal's cursor is
// shown as a space.
func (t *talk) follow(r io.Reader) {
	b := bufio.NewReaderSize(r, 64<<10)
	for rest := false; ; {
		line, more, err := b.ReadLine()
		if err != nil {
			return
		}
		if s := clean(line); s != "" && !rest {
			t.add(s)
		}
		rest = more
	}
}

func (t *talk) add(line string) {
	if t.log != nil {
		t.log(line)
	}
	t.last = append(t.last, line)
	if len(t.last) > lastLines {
		t.last = t.last[1:]
	}
}

// clean returns a line that can be printed.
func clean(line []byte) string {
	line = line[:min(len(line), maxLine)]
	s := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(line), "?"))
	return strings.TrimRight(s, " ")
}

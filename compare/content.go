package compare

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
)

// Limits of what is shown of two texts.
const (
	maxText  = 64 << 10 // bytes of each
	maxLines = 40       // of the diff
	maxLine  = 200      // bytes of a line
)

// content explains two byte strings that differ and are no container: sizes and digests, the lines when they
// are small texts, and a likely cause.
func (c *comparer) content(d Difference, a, b source) error {
	done, err := c.compressed(d, a, b, func(x, y source) error {
		d.Path += " (decompressed)"
		return c.content(d, x, y)
	})
	if done || err != nil {
		return err
	}
	x, y, text, err := texts(a, b)
	if err != nil {
		return err
	}
	cause := ""
	if text {
		d.Text = lines(x, y)
		cause = textCause(string(x), string(y))
	}
	byteCause, where, err := c.byteCause(a, b)
	if err != nil {
		return err
	}
	switch {
	case cause != "" && strings.HasPrefix(byteCause, "one byte"):
		cause += " (one byte)"
	case cause == "":
		if cause = byteCause; cause == "" {
			if cause, err = c.binaryCause(a, b); err != nil {
				return err
			}
		}
	}
	if cause == "" {
		cause = "other contents"
	}
	c.add(d, "content", c.digestText(a), c.digestText(b)+where, cause)
	return nil
}

// texts reads two sources that are both small texts; ok is false of others.
func texts(a, b source) (x, y []byte, ok bool, err error) {
	x, small, err := readAll(a, maxText)
	if err != nil || !small {
		return nil, nil, false, err
	}
	y, small, err = readAll(b, maxText)
	return x, y, err == nil && small && printable(x) && printable(y), err
}

// digestText is size and SHA-256 of something small enough to hash in passing.
func (c *comparer) digestText(s source) string {
	b, ok, err := readAll(s, 16<<20)
	if err != nil || !ok {
		return sizeText(s)
	}
	return fmt.Sprintf("%s sha256:%x", sizeText(s), sha256.Sum256(b))
}

// byteCause looks at how the bytes differ, whatever they mean. where says which differ.
func (c *comparer) byteCause(a, b source) (cause, where string, err error) {
	d, err := diffBytes(c.ctx, a, b, 512)
	if err != nil {
		return "", "", err
	}
	short, long := a, b
	if a.Size() > b.Size() {
		short, long = b, a
	}
	switch {
	case d.count == 0:
		tail, ok, err := readAll(sub(long, short.Size(), long.Size()-short.Size()), 16<<20)
		if err != nil {
			return "", "", err
		}
		if ok && zero(tail) {
			return "padding: one is the other with zeros appended", "", nil
		}
		return "one is the beginning of the other (cut off, or appended to)", "", nil
	case a.Size() != b.Size():
		return "", fmt.Sprintf(", first at byte %d", d.first), nil
	case d.count == 1:
		return "one byte differs (damage or tampering, hardly a build)", fmt.Sprintf(", byte %d: 0x%02x -> 0x%02x", d.first, d.x, d.y), nil
	}
	where = fmt.Sprintf(", %d bytes from byte %d on", d.count, d.first)
	magic := make([]byte, 2)
	if n, _ := a.ReadAt(magic, 0); n == 2 && magic[0] == 0x1f && magic[1] == 0x8b && d.first >= 4 && d.first+d.count <= 8 {
		return "time in the gzip header", where, nil
	}
	return "", where, nil
}

// printable says whether b is text that can be shown: UTF-8 without control characters but tab and newline.
func printable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	return !slices.ContainsFunc([]rune(string(b)), func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) })
}

// lines is a unified diff without its header, shortened.
func lines(x, y []byte) string {
	if !bytes.HasSuffix(x, []byte("\n")) && len(x) > 0 && bytes.HasSuffix(y, []byte("\n")) == bytes.HasSuffix(x, []byte("\n")) {
		x, y = append(bytes.Clone(x), '\n'), append(bytes.Clone(y), '\n') // neither ends in a newline: say nothing about it
	}
	out := strings.SplitAfter(string(diff.Diff("a", x, "b", y)), "\n")
	for len(out) > 0 && !strings.HasPrefix(out[0], "@@") {
		out = out[1:]
	}
	var b strings.Builder
	for i, line := range out {
		if i == maxLines {
			fmt.Fprintf(&b, "… %d more lines\n", len(out)-i-1)
			break
		}
		if len(line) > maxLine {
			line = strings.ToValidUTF8(line[:maxLine], "") + "…\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// textCause is how two texts differ; "" for identical ones.
func textCause(x, y string) string {
	p, q := strings.Split(x, "\n"), strings.Split(y, "\n")
	sp, sq := slices.Clone(p), slices.Clone(q)
	slices.Sort(sp)
	slices.Sort(sq)
	digits := func(s string) string {
		var b strings.Builder
		in := false
		for _, r := range s {
			if unicode.IsDigit(r) {
				if !in {
					b.WriteByte('0')
				}
				in = true
				continue
			}
			in = false
			b.WriteRune(r)
		}
		return b.String()
	}
	switch {
	case x == "" || y == "":
		return "changed text (one is empty)"
	case slices.Equal(sp, sq):
		return "same lines in another order (locale, order of files or of parallel work)"
	case strings.Join(strings.Fields(x), " ") == strings.Join(strings.Fields(y), " "):
		return "white space"
	case digits(x) == digits(y):
		return "changed text, in numbers only (time stamp, version or counter)"
	}
	return "changed text or configuration"
}

// cmdline compares two kernel command lines by words. Those with the root hash follow from the root.
func (c *comparer) cmdline(d Difference, a, b source) {
	x, ok, err := readAll(a, maxText)
	y, okToo, errToo := readAll(b, maxText)
	if err != nil || errToo != nil || !ok || !okToo || !printable(x) || !printable(y) {
		c.add(d, "content", sizeText(a), sizeText(b), "changed command line")
		return
	}
	p, q := strings.Fields(string(x)), strings.Fields(string(y))
	rest := func(words []string) string {
		return strings.Join(slices.DeleteFunc(slices.Clone(words), func(w string) bool {
			return strings.HasPrefix(w, "roothash=") || strings.HasPrefix(w, "tally.verity=") || strings.HasPrefix(w, "tally.scrub=")
		}), " ")
	}
	if rest(p) == rest(q) && !slices.Equal(p, q) {
		c.followsRoot(d, "text", string(x), string(y), "root hash on the command line", "root hash on the command line: the root file systems differ")
		return
	}
	d.Text = lines([]byte(strings.Join(p, "\n")), []byte(strings.Join(q, "\n")))
	c.add(d, "text", string(x), string(y), "changed command line")
}

// modeCause says what changes permission bits like that.
func modeCause(a, b uint32) string {
	diff := a ^ b
	switch {
	case diff&0o7000 != 0:
		return "setuid, setgid or sticky bit"
	case diff&^0o077 == 0 && (a&b == a || a&b == b) && diff&0o111 != 0 && diff&0o066 == 0:
		return "execute bit"
	case diff&^0o077 == 0 && (a&b == a || a&b == b):
		return "mode bits (umask)"
	case diff&^0o111 == 0:
		return "execute bit"
	}
	return "mode bits"
}

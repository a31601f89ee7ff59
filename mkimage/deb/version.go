package deb

import (
	"fmt"
	"strings"
)

// A Version is a Debian version as written: [epoch:]upstream[-revision].
type Version string

// ParseVersion checks the form of s (deb-version(7)).
func ParseVersion(s string) (Version, error) {
	epoch, rest := splitEpoch(s)
	if s == "" || len(s) > 255 || rest == "" || strings.HasSuffix(rest, "-") || strings.Trim(epoch, "0123456789") != "" || strings.Contains(s, ":") && (epoch == "" || len(epoch) > 9) {
		return "", fmt.Errorf("version %.80q: want [epoch:]upstream[-revision]", s)
	}
	for _, c := range rest {
		if !alnum(c) && !strings.ContainsRune(".+-~:", c) {
			return "", fmt.Errorf("version %.80q: character %q is not allowed", s, c)
		}
	}
	if rest[0] < '0' || rest[0] > '9' {
		return "", fmt.Errorf("version %.80q: want a digit first", s)
	}
	return Version(s), nil
}

func alnum(c rune) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func splitEpoch(s string) (epoch, rest string) {
	if e, r, ok := strings.Cut(s, ":"); ok {
		return e, r
	}
	return "", s
}

func (v Version) parts() (epoch, upstream, revision string) {
	epoch, upstream = splitEpoch(string(v))
	if i := strings.LastIndexByte(upstream, '-'); i >= 0 {
		upstream, revision = upstream[:i], upstream[i+1:]
	}
	return strings.TrimLeft(epoch, "0"), upstream, revision
}

// Compare returns -1, 0 or +1 by dpkg's order (Debian Policy 5.6.12).
func (v Version) Compare(w Version) int {
	ve, vu, vr := v.parts()
	we, wu, wr := w.parts()
	if c := compareDigits(ve, we); c != 0 {
		return c
	}
	if c := compareParts(vu, wu); c != 0 {
		return c
	}
	return compareParts(vr, wr)
}

// compareDigits compares numbers without leading zeros.
func compareDigits(a, b string) int {
	if len(a) != len(b) {
		return sign(len(a) - len(b))
	}
	return strings.Compare(a, b)
}

// compareParts alternates between non-digits, by dpkg's letter order, and digits, as numbers.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			if c := order(a) - order(b); c != 0 {
				return sign(c)
			}
			a, b = a[1:], b[1:]
		}
		var na, nb string
		na, a = leadingNumber(a)
		nb, b = leadingNumber(b)
		if c := compareDigits(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// order is the weight of the first character: tilde before the end, the end and digits before letters,
// letters before the rest.
func order(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case alnum(rune(s[0])):
		return int(s[0])
	}
	return int(s[0]) + 256
}

func leadingNumber(s string) (n, rest string) {
	i := 0
	for i < len(s) && digit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

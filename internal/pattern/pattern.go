// Package pattern holds regular expressions that are compiled when first used: tally is one program, and a command
// should not pay, in time and memory, for the patterns of the others.
package pattern

import (
	"regexp"
	"sync"
)

// A Pattern is a regular expression.
type Pattern struct{ compiled func() *regexp.Regexp }

// New takes the text of a constant; using the result panics when that is no regular expression.
func New(text string) Pattern {
	return Pattern{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

// MatchString says whether s has a match.
func (p Pattern) MatchString(s string) bool { return p.compiled().MatchString(s) }

// FindString returns the leftmost match in s; "" when there is none.
func (p Pattern) FindString(s string) string { return p.compiled().FindString(s) }

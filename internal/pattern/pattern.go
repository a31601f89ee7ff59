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

// FindStringSubmatch returns the leftmost match in s and those of its groups; nil when there is none.
func (p Pattern) FindStringSubmatch(s string) []string { return p.compiled().FindStringSubmatch(s) }

// FindSubmatch is FindStringSubmatch in bytes.
func (p Pattern) FindSubmatch(b []byte) [][]byte { return p.compiled().FindSubmatch(b) }

// ReplaceAllString returns s with each match replaced; $0 in by is the match.
func (p Pattern) ReplaceAllString(s, by string) string { return p.compiled().ReplaceAllString(s, by) }

// FindString returns the leftmost match in s; "" when there is none.
func (p Pattern) FindString(s string) string { return p.compiled().FindString(s) }

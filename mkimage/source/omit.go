package source

import (
	"fmt"
	"path"
	"strings"
)

// An omission leaves out what patterns name, with all below it. Their form is checked by package spec.
type omission struct {
	patterns []string
	used     map[string]bool
}

// out says whether the path p, or a directory that it lies in, is left out.
func (o *omission) out(p string) bool {
	found := false
	for _, pattern := range o.patterns {
		if ok, _ := path.Match(pattern, upTo(p, 1+strings.Count(pattern, "/"))); ok {
			if o.used == nil {
				o.used = map[string]bool{}
			}
			o.used[pattern], found = true, true
		}
	}
	return found
}

// upTo is the first n elements of p; p itself when it has fewer.
func upTo(p string, n int) string {
	for i := range len(p) {
		if p[i] == '/' {
			if n--; n == 0 {
				return p[:i]
			}
		}
	}
	return p
}

// check refuses a pattern that left nothing out: what it was written for has another name now, and is in the image.
func (o *omission) check() error {
	for _, p := range o.patterns {
		if !o.used[p] {
			return fmt.Errorf("omit: path %.200q: no package has it", p)
		}
	}
	return nil
}

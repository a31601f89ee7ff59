package policy

import (
	"fmt"
	"slices"
	"time"

	"tally/internal/strictyaml"
)

// A reader turns values into keys and times; the first error stays.
type reader struct {
	name string
	at   strictyaml.Positions
	read func(string) ([]byte, error)
	err  error
}

func (r *reader) fail(path, format string, args ...any) {
	if r.err == nil {
		r.err = r.at.Error(r.name, path, format, args...)
	}
}

func (r *reader) platforms(names []string, path string) []string {
	for i, name := range names {
		if name == "" || slices.Contains(names[:i], name) {
			r.fail(fmt.Sprintf("%s.%d", path, i), "platform %.64q: want each name once, and none empty", name)
		}
	}
	return names
}

func (r *reader) time(s, path string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.fail(path, "time %.64q: want RFC 3339, such as \"2027-01-01T00:00:00Z\"", s)
	}
	return t
}

// inlineOrFile returns what stands under exactly one of two keys: the text itself, or a file's.
func (r *reader) inlineOrFile(inline, file, key, path string) string {
	if (inline == "") == (file == "") {
		r.fail(path, "want either %q or \"file\"", key)
	}
	if r.err != nil || inline != "" {
		return inline
	}
	data, err := r.read(file)
	if err != nil {
		r.fail(path+".file", "%v", err)
	}
	return string(data)
}

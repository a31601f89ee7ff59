package monitor

import (
	"fmt"

	"tally/release"
)

// maxNamed is how many leaves of a kind have an alert each in a round; one speaks for the others. A log can have as many as it likes, and what is
// said of them is in memory until the round ends.
const maxNamed = 100

// A kind of leaves without bundle, or with one that does not hold, or does not count yet.
type kind struct {
	reason      release.Reason
	what        string
	n           int
	first, last int64 // of those without an alert of their own
}

// names counts a leaf and reports whether it has an alert of its own.
func (k *kind) names(index int64) bool {
	k.n++
	switch {
	case k.n <= maxNamed:
		return true
	case k.n == maxNamed+1:
		k.first, k.last = index, index
	default:
		k.first, k.last = min(k.first, index), max(k.last, index)
	}
	return false
}

func (k *kind) alert(rep *Report, index int64, format string, args ...any) {
	if k.names(index) {
		rep.Alerts = append(rep.Alerts, Alert{Reason: k.reason, Index: &index, Text: fmt.Sprintf(format, args...)})
	}
}

// rest speaks for those that have no alert of their own.
func (k *kind) rest(rep *Report) {
	if k.n > maxNamed {
		rep.alert(k.reason, "%d more %s; the first is leaf %d, the last leaf %d", k.n-maxNamed, k.what, k.first, k.last)
	}
}

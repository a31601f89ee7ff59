package monitor

import (
	"fmt"
	"slices"

	"tally/release"
)

// Told forgets the alerts of rep, the latest report, which somebody has been told of by now. A monitor that is killed
// before, in a command that takes hours or while it prints, says them in its next report.
func (m *Monitor) Told(rep *Report) error {
	if rep == nil || m.mem == nil || len(m.mem.file.Unsaid) == 0 {
		return nil
	}
	m.mem.file.Unsaid = nil
	return m.mem.save()
}

// bounded are the alerts that the file remembers: of each reason the first ones, and one for the others. A log can make
// as many as it likes, and a file that they fill ends every round.
func bounded(alerts []Alert) []Alert {
	n := map[release.Reason]int{}
	out := slices.DeleteFunc(slices.Clone(alerts), func(a Alert) bool {
		n[a.Reason]++
		return n[a.Reason] > maxNamed
	})
	for _, reason := range Reasons() {
		if more := n[reason] - maxNamed; more > 0 {
			out = append(out, Alert{Reason: reason, Text: fmt.Sprintf("at least %d more, of rounds that ended before anybody was told", more)})
		}
	}
	return out
}

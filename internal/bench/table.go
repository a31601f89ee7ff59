package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A row is one line of the table.
type row struct {
	what, ours, peer, ratio, target, verdict string
}

// A target is what the project promised; zero fields promise nothing.
type target struct {
	wall  time.Duration
	rss   int64   // KiB
	ratio float64 // our wall time by the peer's
	bytes int64   // of a file
}

func (t target) String() string {
	var s []string
	if t.ratio > 0 {
		s = append(s, fmt.Sprintf("ratio <= %.2f", t.ratio))
	}
	if t.wall > 0 {
		s = append(s, "<= "+seconds(t.wall))
	}
	if t.rss > 0 {
		s = append(s, fmt.Sprintf("<= %.0f MiB", mib(t.rss)))
	}
	if t.bytes > 0 {
		s = append(s, fmt.Sprintf("<= %.2f MB", float64(t.bytes)/1e6))
	}
	return strings.Join(s, ", ")
}

// judge says whether what was measured keeps the promise.
func (t target) judge(ours measured, ratio float64, bytes int64) string {
	if t == (target{}) {
		return ""
	}
	if t.wall > 0 && ours.wall > t.wall || t.rss > 0 && ours.rss > t.rss || t.ratio > 0 && ratio > t.ratio || t.bytes > 0 && bytes > t.bytes {
		return "MISSED"
	}
	return "met"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

func mib(kib int64) float64 { return float64(kib) / 1024 }

func (m measured) String() string { return fmt.Sprintf("%s, %.0f MiB", seconds(m.wall), mib(m.rss)) }

// beside records our figure and a peer's.
func (b *bench) beside(what string, ours, peer measured, peerName string, t target) {
	ratio := ours.wall.Seconds() / peer.wall.Seconds()
	b.rows = append(b.rows, row{what, ours.String(), peerName + " " + peer.String(), fmt.Sprintf("%.2f", ratio), t.String(), t.judge(ours, ratio, 0)})
}

// missing records what could not be measured, in one line.
func (b *bench) missing(what string, why error) {
	text := strings.Join(strings.Fields(why.Error()), " ")
	b.rows = append(b.rows, row{what: what, ours: fmt.Sprintf("not available: %.160s", text)})
}

func printTable(out io.Writer, rows []row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tOURS\tPEER OR FLOOR\tRATIO\tTARGET\t")
	var notes []string
	for _, r := range rows {
		if r.target == "" && r.peer == "" {
			notes = append(notes, r.what+": "+r.ours) // a long reason would widen the column
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.ours, r.peer, r.ratio, r.target, r.verdict)
	}
	w.Flush()
	for _, n := range notes {
		fmt.Fprintln(out, n)
	}
}

// Command bench runs each of our figures beside its peer or its floor, in one run on one machine, and
// prints one table. A row whose program or input is missing says so; no figure is ever carried over.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"syscall"
	"text/tabwriter"
	"time"
)

// A measured is the outcome of running one command a few times.
type measured struct {
	wall time.Duration // median
	rss  int64         // KiB, the largest
}

// A row is one line of the table.
type row struct {
	what, ours, peer, ratio, target string
}

type bench struct {
	tally, dir string
	runs       int
	rows       []row
}

func main() {
	log.SetFlags(0)
	tally := flag.String("tally", "bin/tally", "the program to measure")
	dir := flag.String("dir", "", "scratch directory (default: a temporary one)")
	runs := flag.Int("runs", 5, "runs of each command; the median counts")
	flag.Parse()
	abs, err := filepath.Abs(*tally)
	if err != nil {
		log.Fatal(err)
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "tally-bench-"); err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(*dir)
	}
	b := &bench{tally: abs, dir: *dir, runs: *runs}
	for _, f := range []func() error{b.verity, b.measure, b.build, b.initrd} {
		if err := f(); err != nil {
			log.Print("bench: ", err)
		}
	}
	b.print()
}

func (b *bench) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tOURS\tPEER OR FLOOR\tRATIO\tTARGET")
	for _, r := range b.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.what, r.ours, r.peer, r.ratio, r.target)
	}
	w.Flush()
}

// missing records a row that could not be measured.
func (b *bench) missing(what, why string) {
	b.rows = append(b.rows, row{what: what, ours: "not measured: " + why})
}

// run executes the command several times and returns median wall time and largest RSS. before is called
// ahead of each run and is not timed.
func (b *bench) run(before func() error, name string, args ...string) (measured, error) {
	var m measured
	var walls []time.Duration
	for range b.runs {
		if before != nil {
			if err := before(); err != nil {
				return m, err
			}
		}
		cmd := exec.Command(name, args...)
		cmd.Dir = b.dir
		start := time.Now()
		out, err := cmd.CombinedOutput()
		walls = append(walls, time.Since(start))
		if err != nil {
			return m, fmt.Errorf("%s %q: %v: %s", name, args, err, out)
		}
		m.rss = max(m.rss, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	sort.Slice(walls, func(i, j int) bool { return walls[i] < walls[j] })
	m.wall = walls[len(walls)/2]
	return m, nil
}

func (m measured) String() string {
	return fmt.Sprintf("%.3f s, %.0f MiB", m.wall.Seconds(), float64(m.rss)/1024)
}

// beside records ours and a peer's figure.
func (b *bench) beside(what string, ours, peer measured, peerName, target string) {
	b.rows = append(b.rows, row{what, ours.String(), peerName + " " + peer.String(), fmt.Sprintf("%.2f", ours.wall.Seconds()/peer.wall.Seconds()), target})
}

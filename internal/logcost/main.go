// Command logcost measures how the cost of a log grows with the number of its leaves, and writes the figures as a
// page. It is no part of the benchmarks beside peers: nobody else publishes releases so.
//
// Each step is a process of its own, so that its memory is its own: this program runs itself to fill a log and to
// audit it, and tally to publish and to verify.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("logcost: ")
	tally := flag.String("tally", "bin/tally", "the program to measure")
	dir := flag.String("dir", "", "scratch directory, 2 GB (default: a temporary one)")
	out := flag.String("out", "", "write the figures to this Markdown `FILE`")
	most := flag.Int("most", 1_000_000, "leaves of the largest log")
	runs := flag.Int("runs", 5, "runs of each command; the median counts")
	step := flag.String("step", "", "for the program's own use: fill=N or audit, in -dir")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *step != "" {
		err = runStep(ctx, *step, *dir)
	} else {
		err = run(ctx, *tally, *dir, *out, *most, *runs)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, tally, dir, out string, most, runs int) error {
	if out == "" || runs < 1 || most < 10 {
		return fmt.Errorf("want -out FILE, -runs of at least 1 and -most of at least 10")
	}
	tally, err := filepath.Abs(tally)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tally-logcost-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	c := &costs{ctx: ctx, tally: tally, self: self, dir: dir, runs: runs}
	if err := c.prepare(); err != nil {
		return err
	}
	var points []point
	for n := 10; n <= most; n *= 10 {
		p, err := c.point(n)
		if err != nil {
			return err
		}
		fmt.Println(p.row())
		points = append(points, p)
	}
	return os.WriteFile(out, page(points, runs), 0o644)
}

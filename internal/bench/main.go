// Command bench runs each of our figures beside its peer or its floor, in one run on one machine, and
// prints one table. A row whose program or input is missing says so; no figure is ever carried over.
//
// Wall time is the median, memory the largest resident set of the process and what it waited for, as
// wait4 reports it. Linux counts the parent's memory at the time of exec into that reading, so this
// program stays small, and prints its own share as the floor.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
)

// A bench collects the rows of one run.
type bench struct {
	ctx        context.Context
	tally, dir string // the program; the scratch directory
	runs       int
	rows       []row
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	tally := flag.String("tally", "bin/tally", "the program to measure")
	dir := flag.String("dir", "", "scratch directory, 6 GB (default: a temporary one)")
	runs := flag.Int("runs", 5, "runs of each command; the median counts")
	floor := flag.String("floor", "", "measure nothing: hash `FILE` with two goroutines, as a row of the table has it done")
	stream := flag.String("floor-stream", "", "measure nothing: hash `FILE` as one stream, as a row of the table has it done")
	volume := flag.String("write-volume", "", "for the program's own use: write a volume of the file that `LIST` describes and end")
	plot := flag.String("plot", "", "only measure how cost grows with the number of packages, and draw it to this SVG `FILE` and the figures beside it")
	tree := flag.String("write-tree", "", "for the program's own use: write the tree in this `DIR`ectory and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *floor != "":
		_, err = hashOnly(*floor)
	case *tree != "":
		_, err = writeTree(ctx, *tree, "tree.json", "ours.erofs", "ours.hash")
	case *stream != "":
		_, err = hashStream(*stream, sha256.New())
	case *volume != "":
		err = writeVolume(ctx, *volume, "volume.raw")
	case *plot != "":
		err = growth(ctx, *tally, *dir, *plot, min(*runs, 3))
	default:
		err = run(ctx, *tally, *dir, *runs)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, tally, dir string, runs int) error {
	if runs < 1 {
		return fmt.Errorf("-runs %d: want at least 1", runs)
	}
	tally, err := filepath.Abs(tally)
	if err != nil {
		return err
	}
	if _, err := os.Stat(tally); err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tally-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	b := &bench{ctx: ctx, tally: tally, dir: dir, runs: runs}
	for _, section := range []struct {
		what string
		run  func() error
	}{
		{"verity", b.verity},
		{"EROFS + verity", b.erofs},
		{"model volume", b.volume},
		{"build of 103 packages", b.build},
		{"compare", b.compare},
		{"measure snp", b.measure}, // on the kernel that build left
		{"initrd", b.initrd},
		{"release", b.release},
		{"GPU evidence", b.gpu},
	} {
		if err := section.run(); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			b.missing(section.what, err)
		}
	}
	floor, err := b.once("true")
	if err != nil {
		return err
	}
	printTable(os.Stdout, b.rows)
	printMachine(runs, floor.rss)
	return nil
}

// printMachine says where and how the figures came about.
func printMachine(runs int, least int64) {
	load, err := os.ReadFile("/proc/loadavg") // of the last minute: about 1 to 2 is this program's own
	if err == nil {
		load, _, _ = bytes.Cut(load, []byte(" "))
	}
	fmt.Printf("\n%d CPUs, %s/%s, median of %d runs; load average %s; the smallest memory this can read is %.0f MiB\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runs, load, mib(least))
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/release/log"
)

// What is measured is a log of so many leaves, which the audit accepts, and refuses when one is another.
func TestSteps(t *testing.T) {
	dir := t.TempDir()
	if err := runStep(t.Context(), "fill=300", dir); err != nil {
		t.Fatal(err)
	}
	key, err := log.ReadKey(filepath.Join(dir, "pub"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pub", log.CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := key.OpenCheckpoint(text); err != nil || tree.N != 300 {
		t.Errorf("%d leaves, %v", tree.N, err)
	}
	if err := runStep(t.Context(), "audit", dir); err != nil {
		t.Error(err)
	}
	entries := filepath.Join(dir, "pub", "tile", "entries", "000")
	data, err := os.ReadFile(entries)
	if err != nil || len(data) != 256*(2+leafBytes) {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	data[100] ^= 1
	if err := os.WriteFile(entries, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"audit", "fill=x", "fill", ""} {
		if err := runStep(t.Context(), step, dir); err == nil {
			t.Errorf("%q: no error", step)
		}
	}
	if size, files, err := usage(filepath.Join(dir, "pub")); err != nil || size < 300*leafBytes || files < 6 {
		t.Errorf("%d bytes in %d files, %v", size, files, err)
	}
}

// Every figure has a column, and the page says how it was made.
func TestPage(t *testing.T) {
	p := point{n: 1_000_000, fill: cost{wall: 4 * time.Second, cpu: time.Second, rss: 2048}, publish: cost{wall: 150 * time.Millisecond}, disk: 2_500_000}
	text := string(page([]point{{n: 10, fill: cost{wall: time.Second}}, p}, 3))
	for _, want := range []string{"Logs of 10 to 1,000,000 leaves", "| 1,000,000 | 4.00 | 250000 | 1.00 | 2 | 2.5 |", "| 150 |", "median of 3 runs", "go run ./internal/logcost", "Past a million"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var columns []int
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") {
			columns = append(columns, strings.Count(line, "|"))
		}
	}
	if len(columns) != 4 || columns[0] != columns[1] || columns[1] != columns[2] || columns[2] != columns[3] {
		t.Errorf("columns %v", columns)
	}
}

// The committed page says what this program would say beside other figures.
func TestCommittedPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/log-cost.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(head, "10", "1,000,000", leafBytes); !strings.HasPrefix(string(text), want) || !strings.HasSuffix(string(text), past) {
		t.Errorf("docs/log-cost.md: another text than this program's: make it again, or change both")
	}
	if rows := strings.Count(string(text), "\n| 1"); rows != 6 {
		t.Errorf("%d rows, want one for each power of ten from 10 to 1,000,000", rows)
	}
}

func TestRunRefusals(t *testing.T) {
	for _, c := range []struct {
		out        string
		most, runs int
	}{{"", 10, 1}, {"x", 1, 1}, {"x", 10, 0}} {
		if err := run(t.Context(), "tally", t.TempDir(), c.out, c.most, c.runs); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedianAndLargest(t *testing.T) {
	got := median([]measured{{wall: 9, rss: 1, cpu: 1}, {wall: 1, rss: 7, cpu: 5}, {wall: 3, rss: 2, cpu: 4}})
	if want := (measured{wall: 3, rss: 7, cpu: 4}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestJudge(t *testing.T) {
	limit := target{wall: time.Second, rss: 100, ratio: 0.5, bytes: 10}
	for _, c := range []struct {
		m     measured
		ratio float64
		bytes int64
		want  string
	}{
		{measured{wall: time.Second, rss: 100}, 0.5, 10, "met"},
		{measured{wall: time.Second + 1, rss: 1}, 0.1, 1, "MISSED"},
		{measured{wall: 1, rss: 101}, 0.1, 1, "MISSED"},
		{measured{wall: 1, rss: 1}, 0.51, 1, "MISSED"},
		{measured{wall: 1, rss: 1}, 0.1, 11, "MISSED"},
	} {
		if got := limit.judge(c.m, c.ratio, c.bytes); got != c.want {
			t.Errorf("%+v: %s, want %s", c, got, c.want)
		}
	}
	if got := (target{}).judge(measured{wall: time.Hour, rss: 1 << 40}, 9, 9); got != "" {
		t.Errorf("no target: %q", got)
	}
}

// TestMissingStaysInTheTable: what could not be measured is a line with the reason and no figure.
func TestMissingStaysInTheTable(t *testing.T) {
	b := &bench{}
	b.beside("job", measured{wall: time.Second, rss: 2048}, measured{wall: 2 * time.Second, rss: 1024}, "peer", target{ratio: 0.6})
	b.missing("other job", errors.New("no such\nprogram"))
	var out bytes.Buffer
	printTable(&out, b.rows)
	for _, want := range []string{"job ", "1.000 s, 2 MiB", "peer 2.000 s, 1 MiB", "0.50", "met", "other job: not available: no such program\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestRaceRunsInTurn(t *testing.T) {
	b := &bench{ctx: t.Context(), dir: t.TempDir()}
	cold := 0
	ms, err := b.race(2, command{[]string{"sh", "-c", "printf a >>log"}, func() error { cold++; return nil }}, cmd("sh", "-c", "printf b >>log"))
	if err != nil || len(ms) != 2 || ms[0].wall <= 0 || ms[0].rss <= 0 {
		t.Fatalf("%v, %v", ms, err)
	}
	if log, err := os.ReadFile(filepath.Join(b.dir, "log")); err != nil || string(log) != "ababab" || cold != 3 {
		t.Errorf("ran %q with %d preparations (%v), want one round to warm up and two that count", log, cold, err)
	}
	if _, err := b.race(1, cmd("sh", "-c", "echo reason; exit 3")); err == nil || !strings.Contains(err.Error(), "reason") {
		t.Errorf("failing command: %v", err)
	}
}

func TestRunRefusals(t *testing.T) {
	if err := run(context.Background(), "no/such/program", t.TempDir(), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing program: %v", err)
	}
	if err := run(context.Background(), os.Args[0], t.TempDir(), 0); err == nil {
		t.Error("no runs: no error")
	}
}

func TestDebRoots(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	lock := `{"packages": [{"for": ["root.0"]}, {"for": ["kernel", "root.0"]}, {"for": ["stub"]}, {}]}`
	if err := os.WriteFile(name, []byte(lock), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := debRoots(name); n != 2 || err != nil {
		t.Errorf("%d packages, %v, want 2", n, err)
	}
}

// TestFloor: the floor reads all of a file, of any size, and says when it cannot.
func TestFloor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(name, make([]byte, 3<<20+5), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := hashOnly(name); err != nil || n != 3<<20+5 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := hashOnly(name + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

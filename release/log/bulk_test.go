package log_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tally/release/log"
)

// TestAppendAll reads with torchwood what was added in bulk, and goes on as ever.
func TestAppendAll(t *testing.T) {
	const n = 5000 // more than go in at once
	dir, key := create(t)
	l, err := log.OpenBulk(t.Context(), dir, key, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, "leaf %d", i)
	}
	if err := errors.Join(l.AppendAll(t.Context(), nil), l.AppendAll(t.Context(), bodies), l.Close()); err != nil {
		t.Fatal(err)
	}
	audit(t, log.Handler(dir), dir, n)
	l = open(t, dir, key)
	for _, i := range []int{0, 4095, 4096, n - 1} {
		e, err := l.Append(t.Context(), bodies[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := check(e); err != nil || e.Index != int64(i) || e.TreeSize != n {
			t.Errorf("leaf %d: index %d of %d, %v", i, e.Index, e.TreeSize, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkAppendAll is an import of leaves of the length that a release's has, with opening and closing.
func BenchmarkAppendAll(b *testing.B) {
	const n = 100_000
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, "%497d", i)
	}
	for b.Loop() {
		b.StopTimer()
		dir, key := create(b)
		b.StartTimer()
		l, err := log.OpenBulk(b.Context(), dir, key, time.Now, quiet)
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(l.AppendAll(b.Context(), bodies), l.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
}

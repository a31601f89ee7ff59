package monitor

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
)

// benchLog is a log of n leaves of the length that a release's has.
func benchLog(b *testing.B, n int) (log.Source, release.LogKey) {
	dir := b.TempDir()
	pub, keyFile, quiet := filepath.Join(dir, "pub"), filepath.Join(dir, "key"), slog.New(slog.DiscardHandler)
	key, err := log.Create(b.Context(), pub, log.CreateOptions{Origin: "log.tally.example", KeyFile: keyFile, Rand: rand.Reader, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	l, err := log.OpenBulk(b.Context(), pub, keyFile, time.Now, quiet)
	if err != nil {
		b.Fatal(err)
	}
	bodies := make([][]byte, n)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, "%497d", i)
	}
	if err := l.AppendAll(b.Context(), bodies); err != nil {
		b.Fatal(err)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	src, err := log.OpenSource(pub, nil)
	if err != nil {
		b.Fatal(err)
	}
	return src, key
}

// BenchmarkAudit reads every leaf and every hash tile of a log of 100,000 and computes its root. The bundles,
// which cost a signature check each, are not part of it; see BenchmarkLeaf.
func BenchmarkAudit(b *testing.B) {
	const n = 100_000
	src, key := benchLog(b, n)
	b.ReportAllocs()
	for b.Loop() {
		if tree, err := Audit(b.Context(), src, key); err != nil || tree.N != n {
			b.Fatal(tree.N, err)
		}
	}
}

// BenchmarkLeaf reads and checks the bundle of one release's leaf; a round does several at once.
func BenchmarkLeaf(b *testing.B) {
	w := rt.New(b)
	src, err := log.OpenSource(w.LogDir, nil)
	if err != nil {
		b.Fatal(err)
	}
	m, err := Open(Options{Source: src, Dir: b.TempDir(), Policy: w.Policy, Now: func() time.Time { return rt.Now }})
	if err != nil {
		b.Fatal(err)
	}
	bundle, err := release.ParseBundle(w.Bundle)
	if err != nil {
		b.Fatal(err)
	}
	bodies := slices.Repeat([][]byte{bundle.Entry.Body}, width)
	for b.Loop() {
		leaves, err := m.judge(b.Context(), 0, bodies)
		if err != nil || leaves[0].release == nil {
			b.Fatal(err, leaves[0].alerts)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*width), "µs/leaf")
}

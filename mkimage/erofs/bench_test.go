package erofs

import (
	"context"
	"fmt"
	"io"
	"testing"

	"tally/mkimage/internal/treetest"
	"tally/mkimage/tree"
)

// BenchmarkWrite writes a tree of the shape of a small Debian system: 6,769 files, 218 MB, from memory.
func BenchmarkWrite(b *testing.B) {
	const files, size = 6769, 32 << 10
	t := tree.New()
	data := treetest.Pattern(size)
	for i := range files {
		if err := t.Add(tree.NewFile(fmt.Sprintf("d%03d/f%04d", i%500, i), 0o644, data, "bench")); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(files * size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Write(context.Background(), io.Discard, t, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

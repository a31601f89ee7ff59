package deb

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSortLikeApt holds our sort against that of libstdc++ where the order of equal elements shows: see sort.cc beside
// the vectors.
func TestSortLikeApt(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors/stdsort/sort.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var n, scores, seed, want uint32
		if _, err := fmt.Sscanf(line, "%d %d %d %x", &n, &scores, &seed, &want); err != nil {
			t.Fatal(err)
		}
		score, order := make([]uint32, n), make([]uint32, n)
		x := seed
		for i := range n {
			order[i] = i
			x = x*1664525 + 1013904223
			switch {
			case scores != 0:
				score[i] = (x >> 8) % scores
			case i >= n/2:
				score[i] = 2 * (i - n/2)
			case i%2 == 1:
				score[i] = n/2 + i + seed
			default:
				score[i] = i + 1
			}
		}
		sortLikeApt(order, func(a, b uint32) bool { return score[a] > score[b] })
		var got uint32
		for _, i := range order {
			got = got*31 + i
		}
		if got != want {
			t.Errorf("%d elements of %d scores, seed %d: hash %08x, libstdc++ has %08x", n, scores, seed, got, want)
		}
	}
}

package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tally/release"
)

// What is remembered has an end, and can be read again whatever the checkpoints are.
func TestForget(t *testing.T) {
	note := func(i int) string { return fmt.Sprintf("log.example\n%d\n\n— log.example AAAA\n", i) }
	add := func(f *file, from, to int, more string) {
		var trees []release.SeenTree
		for i := from; i < to; i++ {
			trees = append(trees, release.SeenTree{Note: more + note(i)})
		}
		f.addTrees(trees, false, nil)
	}
	var f file
	add(&f, 0, maxTrees, "")
	for _, i := range []int{1, 3, 5} {
		f.Trees[i].Proved = true
	}
	for _, tt := range []struct {
		add   int
		first []int // those that are left
	}{{0, []int{0, 1, 2}}, {2, []int{0, 2, 4, 5, 6}}, {1, []int{0, 2, 4, 6}}, {3, []int{6, 7, 8}}} {
		add(&f, maxTrees+10*tt.add, maxTrees+11*tt.add, "")
		for i, n := range tt.first {
			if len(f.Trees) != maxTrees || f.Trees[i].Checkpoint != note(n) {
				t.Errorf("%d more: %d trees, tree %d is %q, want %d", tt.add, len(f.Trees), i, f.Trees[i].Checkpoint, n)
			}
		}
	}
	// The largest checkpoints, of bytes that have six in JSON.
	f = file{}
	long := strings.Repeat("<", 64<<10-len(note(100)))
	add(&f, 0, 130, long)
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil || len(data) > maxFile*4/5 || len(f.Trees) != 128 || f.Trees[127].Checkpoint != long+note(129) {
		t.Errorf("%d trees in %d bytes, %v", len(f.Trees), len(data), err)
	}
}

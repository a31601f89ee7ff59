package compare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func named(names ...string) *fileTree {
	var nodes []*node
	for _, name := range names {
		nodes = append(nodes, &node{path: name, kind: "file"})
	}
	return newTree(nodes)
}

// TestNamesAreUnique: a name that is there again gets a number that makes it unlike every other.
func TestNamesAreUnique(t *testing.T) {
	for _, c := range [][2][]string{
		{{"a", "a", "a"}, {"a", "a (2)", "a (3)"}},
		{{"a (2)", "a", "a", "a"}, {"a (2)", "a", "a (3)", "a (4)"}},
		{{"a", "a", "a (2)", "a (2)", "a"}, {"a", "a (2)", "a (2) (2)", "a (2) (3)", "a (3)"}},
	} {
		var got []string
		tree := named(c[0]...)
		for _, n := range tree.nodes {
			got = append(got, n.path)
		}
		if !slices.Equal(got, c[1]) || len(tree.byPath) != len(c[0]) {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

// TestManyOfOne: so many members of one name, or names of one inode, as an archive may hold are compared in seconds.
func TestManyOfOne(t *testing.T) {
	const many = 200000
	var twice, linked [2]*fileTree
	done := make(chan error, 1)
	go func() {
		for i := range 2 {
			var names []string
			var nodes []*node
			for j := range many {
				names = append(names, "/a")
				nodes = append(nodes, &node{path: fmt.Sprintf("/%d", j), kind: "file", id: 1})
			}
			twice[i], linked[i] = named(names...), newTree(nodes)
		}
		c := newComparer(t.Context(), "a", "b", kindCPIO, Options{})
		done <- errors.Join(c.trees(Difference{}, twice[0], twice[1]), c.trees(Difference{}, linked[0], linked[1]))
	}()
	select {
	case err := <-done:
		if err != nil || len(twice[0].byPath) != many || len(linked[0].groups[1]) != many {
			t.Error(err, len(twice[0].byPath), len(linked[0].groups))
		}
	case <-time.After(time.Minute):
		t.Fatal("does not end")
	}
}

func TestTreesAreInterruptible(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newComparer(ctx, "a", "b", kindCPIO, Options{})
	for _, b := range []*fileTree{named("/a"), named()} {
		for _, a := range []*fileTree{named("/a"), named()} {
			if err := c.trees(Difference{}, a, b); !errors.Is(err, context.Canceled) || len(c.all) != 0 {
				t.Errorf("%v, want that it was cancelled", err)
			}
		}
	}
}

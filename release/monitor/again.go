package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tally/release"
	"tally/release/log"
)

// maxAgain is how many leaves with a bundle that did not hold a round reads again, one that is not full. A log can have
// as many as it likes.
const maxAgain = 100

// bareBefore reads the leaves again that had no bundle in an earlier round; a full round does anyway.
func (w *walk) bareBefore(ctx context.Context) error {
	if w.full {
		return nil
	}
	known := maps.Clone(w.m.mem.file.Bare)
	maps.Copy(known, w.m.mem.file.Lost)
	return w.again(ctx, slices.Sorted(maps.Keys(known)), func(index int64, h release.Digest) error {
		if h != known[index] {
			return fmt.Errorf("%w: leaf %d is %s, and was %s", log.ErrDamaged, index, h, known[index])
		}
		w.bare[index] = &bare{hash: known[index]}
		return nil
	})
}

// unheldBefore reads leaves again whose bundles did not hold in an earlier round, by turns, and takes up those that do by
// now. What is still wrong with the others, or that they have none any more, was said or is for a full round to say.
func (w *walk) unheldBefore(ctx context.Context) error {
	if w.full {
		return nil
	}
	mem := &w.m.mem.file
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(mem.Unheld)), func(index int64) bool { return w.bare[index] != nil })
	from, _ := slices.BinarySearch(all, mem.Again)
	turn := slices.Concat(all[from:], all[:from])[:min(len(all), maxAgain)]
	return w.again(ctx, turn, func(index int64, h release.Digest) error {
		mem.Again = index + 1
		l, err := w.m.leaf(ctx, index, h)
		if err != nil || l.silent() || l.tree.Tree.N > w.head.Tree.N {
			return err
		}
		if w.late(l) == nil { // or nothing says that the leaf that was read is the one in the tree
			w.keep(l)
		}
		return nil
	})
}

// again calls f with the hashes of leaves that were there before; neighbours share a tile, which is read once.
func (w *walk) again(ctx context.Context, leaves []int64, f func(int64, release.Digest) error) error {
	var bodies [][]byte
	at := int64(-1)
	for _, index := range leaves {
		first := index &^ (width - 1)
		if first != at {
			var err error
			if bodies, err = log.ReadEntries(ctx, w.m.o.Source, first>>height, int(min(w.head.Tree.N-first, width))); err != nil {
				return err
			}
			at = first
		}
		if err := f(index, release.LeafHash(bodies[index-first])); err != nil {
			return err
		}
	}
	return nil
}

// late holds the tree of a bundle that came late against the log's. A fork is told with the leaf; any other refusal is
// that nobody knows.
func (w *walk) late(l *leaf) *release.Error {
	var refusal *release.Error
	if l.tree.Note == "" || !errors.As(w.view.Contains(l.tree, w.m.o.Policy.Log.Key), &refusal) {
		return nil
	}
	if refusal.Reason == release.LogFork {
		w.forked(l)
		return nil
	}
	return refusal
}

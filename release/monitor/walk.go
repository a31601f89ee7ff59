package monitor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
)

const pollTime = 100 * time.Millisecond // between two looks for a bundle

// A walk reads the leaves of one round.
type walk struct {
	m    *Monitor
	rep  *Report
	head release.SeenTree
	view *release.LogView
	full bool // from the first leaf

	leaves []*leaf                  // of which something is to be told: new ones, and what is wrong with others
	litter map[release.Reason]*kind // leaves whose bundles do not hold, by what is wrong
	unheld []int64                  // of them, those that are in no leaves and were not judged
	wants  map[int64][]*leaf        // by the size of the tree in their bundles
	bare   map[int64]*bare
}

// A bare leaf is looked at again: it has no bundle, or one with a proof for a tree larger than the checkpoint at
// hand. Its body, 64 KiB of whatever a log likes, is not kept: a bundle has it, too, or is of another leaf.
type bare struct {
	hash  release.Digest
	ahead int64 // leaves of that larger tree; 0: no bundle
	told  bool  // what that bundle says, in this round
}

// run reads and judges. Nothing that it reads is believed before the tree's root is that of the checkpoint.
func (w *walk) run(ctx context.Context) error {
	w.wants, w.bare, w.litter = map[int64][]*leaf{}, map[int64]*bare{}, map[release.Reason]*kind{}
	f, err := w.start(ctx)
	if err != nil {
		return err
	}
	if err := w.bareBefore(ctx); err != nil {
		return err
	}
	if err := w.unheldBefore(ctx); err != nil {
		return err
	}
	for f.size < w.head.Tree.N {
		if err := w.tile(ctx, f); err != nil {
			return err
		}
	}
	if err := f.checkPartial(ctx, w.m.o.Source); err != nil {
		return err
	}
	if root := f.root(); root != w.head.Tree.Hash {
		return fmt.Errorf("%w: its %d leaves have root %s, the checkpoint says %s", log.ErrDamaged, f.size, root, w.head.Tree.Hash)
	}
	return w.await(ctx)
}

// start takes up the tree where the last round ended, or from nothing.
func (w *walk) start(ctx context.Context) (*frontier, error) {
	mem := &w.m.mem.file
	if mem.Size > w.head.Tree.N {
		return nil, fmt.Errorf("%w: %d leaves were audited, it has %d", log.ErrDamaged, mem.Size, w.head.Tree.N)
	}
	if w.full {
		return new(frontier), nil
	}
	f, err := load(ctx, w.m.o.Source, mem.Size, w.head.Tree.N)
	if err != nil {
		return nil, err
	}
	if mem.Size > 0 && f.root().String() != mem.Root {
		return nil, fmt.Errorf("%w: its tiles give root %s for the %d leaves audited before, which had %s", log.ErrDamaged, f.root(), mem.Size, mem.Root)
	}
	return f, nil
}

// tile judges the leaves of the entry bundle that f has come to, and adds them.
func (w *walk) tile(ctx context.Context, f *frontier) error {
	first := f.size &^ (width - 1)
	bodies, err := log.ReadEntries(ctx, w.m.o.Source, first>>height, int(min(w.head.Tree.N-first, width)))
	if err != nil {
		return err
	}
	bodies = bodies[f.size-first:]
	leaves, err := w.m.judge(ctx, f.size, bodies)
	if err != nil {
		return err
	}
	for _, l := range leaves {
		if l.bare {
			w.bare[l.index] = &bare{hash: l.hash}
			continue
		}
		if !l.judged || len(l.alerts) > 0 { // a log that is read again costs no memory for what is well
			w.keep(l)
		}
		if l.tree.Note != "" {
			w.wants[l.tree.Tree.N] = append(w.wants[l.tree.Tree.N], l)
		}
	}
	if n := len(w.bare)*minBare + len(w.unheld)*minUnheld; n >= maxMemory { // they could not be remembered, and all in memory at once are no better
		return w.m.mem.tooLarge(n)
	}
	for _, l := range leaves {
		if err := f.add(ctx, w.m.o.Source, tlog.Hash(l.hash)); err != nil {
			return err
		}
		if mem := &w.m.mem.file; f.size == mem.Size && f.root().String() != mem.Root {
			return fmt.Errorf("%w: its first %d leaves have root %s, and had %s when they were audited", log.ErrDamaged, f.size, f.root(), mem.Root)
		}
		if len(w.wants[f.size]) > 0 {
			w.compare(f.size, f.root())
		}
	}
	return nil
}

// keep keeps a leaf until it is told of. A log gives garbage for as many bundles as it likes: of most of them the index
// is enough.
func (w *walk) keep(l *leaf) {
	if !l.holds() {
		reason := l.alerts[0].Reason
		if w.litter[reason] == nil {
			w.litter[reason] = &kind{reason: reason, what: "leaves have a bundle that does not hold"}
		}
		if !w.litter[reason].names(l.index) {
			if !l.judged {
				w.unheld = append(w.unheld, l.index)
			}
			return
		}
	}
	w.leaves = append(w.leaves, l)
}

// compare holds the trees in bundles against the one that the leaves make.
func (w *walk) compare(size int64, root tlog.Hash) {
	for _, l := range w.wants[size] {
		if l.tree.Tree.Hash != root {
			w.forked(l)
		}
		l.tree.Note = ""
	}
	delete(w.wants, size)
}

func (w *walk) forked(l *leaf) {
	path, why := w.m.keep([]string{l.tree.Note, string(w.view.Checkpoint)})
	text := fmt.Sprintf("its bundle shows a tree of %d leaves with root %s, which is not a prefix of the log", l.tree.Tree.N, l.tree.Tree.Hash)
	if l.judged && len(l.alerts) == 0 {
		w.leaves = append(w.leaves, l)
	}
	l.alerts = append(l.alerts, Alert{Reason: release.LogFork, Index: &l.index, Text: text + why, Evidence: path})
}

// await gives bundles their time: a publisher writes one after its leaf is in the log.
func (w *walk) await(ctx context.Context) error {
	for end := time.Now().Add(w.m.o.Wait); len(w.bare) > 0; {
		if err := w.look(ctx); err != nil {
			return err
		}
		if len(w.bare) == 0 || time.Now().After(end) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollTime):
		}
	}
	for _, late := range w.wants {
		for _, l := range late {
			w.bare[l.index] = &bare{l.hash, l.tree.Tree.N, true}
		}
	}
	return nil
}

func (w *walk) look(ctx context.Context) error {
	for _, index := range slices.Sorted(maps.Keys(w.bare)) {
		l, err := w.m.leaf(ctx, index, w.bare[index].hash)
		if err != nil {
			return err
		}
		w.bare[index].ahead = 0
		if l.tree.Tree.N > w.head.Tree.N {
			w.bare[index].ahead = l.tree.Tree.N
		}
		if l.bare || w.bare[index].ahead > 0 {
			continue
		}
		delete(w.bare, index)
		if refusal := w.late(l); refusal != nil {
			l.alert(refusal.Reason, "%v", refusal.Err)
		}
		if !l.judged || len(l.alerts) > 0 && !slices.Contains(w.leaves, l) {
			w.keep(l)
		}
	}
	return nil
}

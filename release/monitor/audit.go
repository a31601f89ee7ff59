package monitor

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
)

// Audit reads every leaf and every hash tile of a log as it stands and returns the tree that they make, which is the
// one of its checkpoint. Bundles and signers are a round's business. It keeps a few hashes a level in memory, however
// many leaves there are.
func Audit(ctx context.Context, src log.Source, key release.LogKey) (tlog.Tree, error) {
	v, err := log.ReadView(ctx, src, key)
	if err != nil {
		return tlog.Tree{}, err
	}
	want, err := key.OpenCheckpoint(v.Checkpoint)
	if err != nil {
		return tlog.Tree{}, err
	}
	f := new(frontier)
	for f.size < want.N {
		leaves, err := log.ReadEntries(ctx, src, f.size>>height, int(min(want.N-f.size, width)))
		if err != nil {
			return tlog.Tree{}, err
		}
		for _, leaf := range leaves {
			if err := f.add(ctx, src, tlog.RecordHash(leaf)); err != nil {
				return tlog.Tree{}, err
			}
		}
	}
	if err := f.checkPartial(ctx, src); err != nil {
		return tlog.Tree{}, err
	}
	if root := f.root(); root != want.Hash {
		return tlog.Tree{}, fmt.Errorf("%w: its %d leaves have root %s, the checkpoint says %s", log.ErrDamaged, f.size, root, want.Hash)
	}
	return want, nil
}

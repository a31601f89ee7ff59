package monitor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release/log"
)

const (
	height = 8 // of a tile (C2SP tlog-tiles)
	width  = 1 << height
	levels = 8 // 2^64 leaves
)

// A frontier is a tree that grows leaf by leaf, kept as the hashes of the tiles that are not full yet. With a
// source every tile that it fills, and at the end every partial one, is compared with the source's.
type frontier struct {
	size int64
	rows [levels][]tlog.Hash // of the partial tile of each level
}

// load reads the partial tiles of a tree of size leaves from a log that has grown to head; whoever calls compares
// the root.
func load(ctx context.Context, src log.Source, size, head int64) (*frontier, error) {
	f := &frontier{size: size}
	for level := range f.rows {
		t := f.tile(level)
		if t.W == 0 {
			continue
		}
		w := t.W
		t.W = int(min(head>>(height*level)-t.N<<height, width)) // the narrower one may be gone
		data, err := log.ReadTile(ctx, src, t)
		if err != nil {
			return nil, err
		}
		for i := range w {
			f.rows[level] = append(f.rows[level], tlog.Hash(data[i*tlog.HashSize:]))
		}
	}
	return f, nil
}

// tile is the partial tile of a level; its width is 0 when the level ends with a full one.
func (f *frontier) tile(level int) tlog.Tile {
	return tlog.Tile{H: height, L: level, N: f.size >> (height * (level + 1)), W: int(f.size >> (height * level) & (width - 1))}
}

// add appends a leaf's hash. Tiles that it fills are compared with those of src.
func (f *frontier) add(ctx context.Context, src log.Source, h tlog.Hash) error {
	f.size++
	for level := range f.rows {
		f.rows[level] = append(f.rows[level], h)
		if len(f.rows[level]) < width {
			return nil
		}
		t := tlog.Tile{H: height, L: level, N: f.size>>(height*(level+1)) - 1, W: width}
		if err := same(ctx, src, t, f.rows[level]); err != nil {
			return err
		}
		h = subtree(f.rows[level])
		f.rows[level] = f.rows[level][:0]
	}
	return nil
}

// checkPartial compares the partial tiles with those of src.
func (f *frontier) checkPartial(ctx context.Context, src log.Source) error {
	for level, row := range f.rows {
		if t := f.tile(level); t.W > 0 {
			if err := same(ctx, src, t, row); err != nil {
				return err
			}
		}
	}
	return nil
}

func same(ctx context.Context, src log.Source, t tlog.Tile, row []tlog.Hash) error {
	data, err := log.ReadTile(ctx, src, t)
	if err != nil {
		return err
	}
	for i, h := range row {
		if !bytes.Equal(h[:], data[i*tlog.HashSize:][:tlog.HashSize]) {
			first := (t.N<<height + int64(i)) << (height * t.L)
			return fmt.Errorf("%w: hash %d of tile %d of level %d is not that of the leaves from %d on", log.ErrDamaged, i, t.N, t.L, first)
		}
	}
	return nil
}

// subtree is the root of a power of two of hashes.
func subtree(row []tlog.Hash) tlog.Hash {
	if len(row) == 1 {
		return row[0]
	}
	half := len(row) / 2
	return tlog.NodeHash(subtree(row[:half]), subtree(row[half:]))
}

// root is the tree's root hash (RFC 6962): the perfect subtrees, from the smallest, the last leaves', upward.
func (f *frontier) root() tlog.Hash {
	var acc *tlog.Hash
	for _, row := range f.rows {
		for end := len(row); end > 0; {
			n := end & -end // the lowest bit: the subtree that ends the row
			h := subtree(row[end-n : end])
			if acc != nil {
				h = tlog.NodeHash(h, *acc)
			}
			acc, end = &h, end-n
		}
	}
	if acc == nil {
		return sha256.Sum256(nil)
	}
	return *acc
}

package log

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
)

const (
	tileHeight    = 8 // C2SP tlog-tiles: 256 hashes a tile
	maxCheckpoint = 64 << 10
	maxEntries    = 256 * (2 + 65535)
	fetchTimeout  = 30 * time.Second // for one file that is read whole, and for each step of one that is not
	fetchStep     = 1 << 20          // bytes
)

// A Source is a published directory, here or behind a URL. What it gives is not believed but verified.
type Source interface {
	// Read returns the file at a slash-separated path, which must be local, with at most limit bytes.
	// An absent file is fs.ErrNotExist.
	Read(ctx context.Context, path string, limit int64) ([]byte, error)

	// Open opens the file for who reads it piece by piece, with whatever limit is due.
	Open(ctx context.Context, path string) (io.ReadCloser, error)
	String() string
}

// OpenSource opens a directory or an http(s) URL.
func OpenSource(place string, client *http.Client) (Source, error) {
	if !strings.Contains(place, "://") {
		st, err := os.Stat(place)
		if err == nil && !st.IsDir() {
			err = fmt.Errorf("%s: want a directory or a URL", place)
		}
		return dirSource(place), err
	}
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%.256q: want a directory or a URL with http or https and no query", withoutPassword(place))
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return &urlSource{u, client}, nil
}

// withoutPassword is place as a message may show it, be it a URL or only meant as one.
func withoutPassword(place string) string {
	if u, err := url.Parse(place); err == nil {
		return u.Redacted()
	}
	return place[strings.LastIndex(place, "@")+1:]
}

func checkLocal(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") {
		return fmt.Errorf("path %.256q: not a local path", name)
	}
	return nil
}

type dirSource string

func (d dirSource) String() string { return string(d) }

func (d dirSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), checkLocal(name)); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(name)
}

func (d dirSource) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	f, err := d.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readLimited(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// readLimited reads all of r, at most limit bytes. Its errors want the name of what r is.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return data, err
}

// ReadView reads the log's latest checkpoint, unverified, with what proves other trees against it.
func ReadView(ctx context.Context, src Source, key release.LogKey) (*release.LogView, error) {
	text, err := src.Read(ctx, CheckpointFile, maxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", src, err)
	}
	v := &release.LogView{Checkpoint: text}
	v.Prove = func(n int64) (tlog.TreeProof, error) {
		tree, err := key.OpenCheckpoint(text)
		if err != nil {
			return nil, err
		}
		return tlog.ProveTree(tree.N, n, hashes(ctx, src, tree.N))
	}
	return v, nil
}

// hashes reads stored hashes of a log of size leaves from its tiles as they are. A proof made of them is
// checked against two signed roots, so that wrong tiles give a wrong proof and not an unread one.
func hashes(ctx context.Context, src Source, size int64) tlog.HashReader {
	cache := map[tlog.Tile][]byte{}
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			t := grown(tlog.TileForIndex(tileHeight, x), size)
			data, ok := cache[t]
			if !ok {
				var err error
				if data, err = ReadTile(ctx, src, t); err != nil {
					return nil, err
				}
				cache[t] = data
			}
			var err error
			if out[i], err = tlog.HashFromTile(t, data, x); err != nil {
				return nil, err
			}
		}
		return out, nil
	})
}

// grown gives a tile the width it has in a log of size leaves.
func grown(t tlog.Tile, size int64) tlog.Tile {
	t.W = int(min(size>>(tileHeight*t.L)-t.N<<tileHeight, 1<<tileHeight))
	return t
}

// ErrDamaged says that a log's directory is not what its checkpoint promises: a file is absent, or has another
// form.
var ErrDamaged = errors.New("the log is damaged")

// ReadTile reads the first t.W hashes of a tile of height 8, 32 bytes each; where the partial tile is gone, the
// full one has the same beginning. A tile that is absent or too short is ErrDamaged.
func ReadTile(ctx context.Context, src Source, t tlog.Tile) ([]byte, error) {
	if t.W < 1 {
		return nil, fmt.Errorf("tile %s: outside the log", tilePath(t))
	}
	data, _, err := readWide(ctx, src, t, tlog.HashSize<<tileHeight)
	if err != nil {
		return nil, err
	}
	if len(data) < t.W*tlog.HashSize {
		return nil, fmt.Errorf("%w: tile %s: %d bytes, want %d", ErrDamaged, tilePath(t), len(data), t.W*tlog.HashSize)
	}
	return data[:t.W*tlog.HashSize], nil
}

// ReadEntries reads the first w leaves of the n-th entry bundle (C2SP tlog-tiles: each a 16-bit length and the
// leaf; 256 make a full bundle). A bundle that is absent or has another form is ErrDamaged.
func ReadEntries(ctx context.Context, src Source, n int64, w int) ([][]byte, error) {
	t := tlog.Tile{H: tileHeight, L: -1, N: n, W: w}
	if w < 1 || w > 1<<tileHeight {
		return nil, fmt.Errorf("%s: outside the log", tilePath(t))
	}
	data, whole, err := readWide(ctx, src, t, maxEntries)
	if err != nil {
		return nil, err
	}
	leaves, rest, err := parseEntries(data, w)
	if err == nil && whole && len(rest) != 0 {
		err = fmt.Errorf("%d bytes after %d leaves", len(rest), w)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, tilePath(t), err)
	}
	return leaves, nil
}

func parseEntries(data []byte, w int) (leaves [][]byte, rest []byte, err error) {
	for i := range w {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return nil, nil, fmt.Errorf("leaf %d of %d is cut short", i, w)
		}
		n := 2 + int(binary.BigEndian.Uint16(data))
		leaves, data = append(leaves, data[2:n:n]), data[n:]
	}
	return leaves, data, nil
}

// readWide reads a tile's file, or the full tile's where the partial one is gone; exact says that it is the one
// asked for.
func readWide(ctx context.Context, src Source, t tlog.Tile, limit int64) (data []byte, exact bool, err error) {
	data, err = src.Read(ctx, tilePath(t), limit)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return data, true, err
	}
	if t.W < 1<<tileHeight {
		full := t
		full.W = 1 << tileHeight
		if data, ferr := src.Read(ctx, tilePath(full), limit); ferr == nil || !errors.Is(ferr, fs.ErrNotExist) {
			return data, false, ferr
		}
	}
	return nil, true, fmt.Errorf("%w: %w", ErrDamaged, err)
}

// tilePath is the path of a tile by C2SP tlog-tiles, which leaves out the height that tlog names.
func tilePath(t tlog.Tile) string {
	p := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	if rest, ok := strings.CutPrefix(p, "data/"); ok {
		p = "entries/" + rest
	}
	return path.Join("tile", p)
}

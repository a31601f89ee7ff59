package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tally/internal/atomicfile"
	"tally/release"
	"tally/release/log"
)

// maxRebuilds bounds what one rebuilder says about one release: that it reproduced it, and that it did not, with
// several versions of tally.
const maxRebuilds = 32

// MaxRebuilds is how many bytes of rebuild statements about one release are fetched: a file has room for no more.
const MaxRebuilds = release.MaxFile - release.MaxBundle

// RevokedChannel is the channel in which revocations by a key of their own are published: its statements list
// nothing current.
const RevokedChannel = "revoked"

// Rebuild logs a rebuild statement, given as its signed bundle, and adds it to what its signer said about that
// release. The log may be another one than the release's. The same statement again is the first publication.
func Rebuild(ctx context.Context, l *log.Log, bundle []byte, signer release.PublicKey) (*Published, error) {
	b, err := release.ParseBundle(bundle)
	if err != nil {
		return nil, err
	}
	b.Entry, b.Others = nil, nil
	s, err := release.VerifyUnloggedRebuild(b, signer)
	if err != nil {
		return nil, err
	}
	if err := begin(l.Dir()); err != nil {
		return nil, err
	}
	name := release.PayloadDigest(b).String() + "-" + signer.ID().String()
	p, err := lookup(l.Dir(), name)
	if err == nil && p == nil {
		p, err = logBundle(ctx, l, name, b, signer, nil)
	}
	if err != nil {
		return nil, err
	}
	// Also of an earlier run that died in between.
	if err := addRebuild(filepath.Join(l.Dir(), rebuildPath(s.Predicate.Release.Statement, signer.ID())), p.Leaf); err != nil {
		return nil, err
	}
	return p, end(l.Dir(), name)
}

func rebuildPath(statement, signer release.Digest) string {
	return path.Join(rebuildDir, statement.String()+"-"+signer.String())
}

func addRebuild(file string, leaf release.Digest) error {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	leaves, err := parseLeaves(text)
	if err != nil {
		return fmt.Errorf("publish: %s: %w", file, err)
	}
	if slices.Contains(leaves, leaf) {
		return nil
	}
	if len(leaves) == maxRebuilds {
		return fmt.Errorf("publish: %s: %d statements about one release, want at most %d", file, len(leaves)+1, maxRebuilds)
	}
	return atomicfile.WriteFile(file, append(text, leaf.String()+"\n"...), 0o644)
}

func parseLeaves(text []byte) (out []release.Digest, err error) {
	for line := range strings.Lines(string(text)) {
		leaf, err := release.ParseDigest(strings.TrimSuffix(line, "\n"))
		if err != nil || len(out) == maxRebuilds {
			return nil, errors.Join(err, fmt.Errorf("want at most %d leaf hashes, one a line", maxRebuilds))
		}
		out = append(out, leaf)
	}
	return out, nil
}

// Rebuilds gets what the rebuilders said about the release whose payload has that digest, as bundles one a line,
// from a published directory. Nothing of it is verified yet, and what is withheld is not missed.
func Rebuilds(ctx context.Context, src log.Source, statement release.Digest, rebuilders []release.PublicKey) ([]byte, error) {
	var all [][]byte
	left := int64(MaxRebuilds)
	for _, k := range rebuilders {
		text, err := src.Read(ctx, rebuildPath(statement, k.ID()), 65*maxRebuilds)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		leaves, err := parseLeaves(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rebuildPath(statement, k.ID()), err)
		}
		for _, leaf := range leaves {
			b, err := src.Read(ctx, BundlePath(leaf), release.MaxRebuildBundle)
			if left -= int64(len(b)); err == nil && left < 0 {
				err = fmt.Errorf("statement %s: rebuild statements: more than %d bytes together", statement, MaxRebuilds)
			}
			if err != nil {
				return nil, err
			}
			all = append(all, bytes.TrimSpace(b))
		}
	}
	return bytes.Join(all, []byte("\n")), nil
}

// Revocations gets the latest statement of revocations about the releases of that name by a key of their own, or
// nothing when there is none.
func Revocations(ctx context.Context, src log.Source, name string) ([]byte, error) {
	if !release.ValidLabel(name) {
		return nil, fmt.Errorf("release %.128q: no name that a directory can have", name)
	}
	b, err := src.Read(ctx, ChannelPath(name+"@"+RevokedChannel), release.MaxChannelBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return bytes.TrimSpace(b), err
}

// ByDigest opens a published file. Its content is not checked here; see sign.HashCopy.
func ByDigest(ctx context.Context, src log.Source, d release.Digest) (io.ReadCloser, error) {
	return src.Open(ctx, path.Join(digestDir, d.String()))
}

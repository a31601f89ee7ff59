package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// Channel logs a channel statement, given as its signed bundle, and makes it the latest of its channel. It
// must follow the one before it: a higher sequence, no lower minimum, and every revocation still there.
// The same statement again is the first publication.
func Channel(ctx context.Context, l *log.Log, bundle []byte, signer release.PublicKey) (*Published, error) {
	b, err := release.ParseBundle(bundle)
	if err != nil {
		return nil, err
	}
	b.Entry, b.Others = nil, nil
	c, err := release.VerifyUnloggedChannel(b, signer)
	if err != nil {
		return nil, err
	}
	if err := begin(l.Dir()); err != nil {
		return nil, err
	}
	name := release.PayloadDigest(b).String() + "-" + signer.ID().String()
	old, err := LatestChannel(l.Dir(), c.Key())
	if err != nil {
		return nil, err
	}
	p, err := lookup(l.Dir(), name)
	if err != nil {
		return nil, err
	}
	if p == nil || old == nil || old.Predicate.Sequence < c.Predicate.Sequence {
		if p, err = makeLatest(ctx, l, b, signer, c, old, p); err != nil {
			return nil, err
		}
	} // else published, and the latest or followed by others
	return p, end(l.Dir(), name)
}

// ErrOvertaken is that a statement does not follow the latest one, and the log does not have it: it can be no part of the channel.
var ErrOvertaken = errors.New("the channel has gone on without it")

// makeLatest logs the statement, unless that was done before, and puts it into the place of old.
func makeLatest(ctx context.Context, l *log.Log, b *release.Bundle, signer release.PublicKey, c, old *release.Channel, p *Published) (*Published, error) {
	err := follows(c, old)
	if err != nil && p == nil {
		if late, lerr := finishLogged(ctx, l, b, signer); late != nil || lerr != nil {
			return late, lerr
		}
		err = fmt.Errorf("%w: %w", ErrOvertaken, err)
	}
	if err == nil && p == nil {
		p, err = logBundle(ctx, l, release.PayloadDigest(b).String()+"-"+signer.ID().String(), b, signer, nil)
	}
	if err != nil {
		return nil, err
	}
	return p, atomicfile.WriteFile(filepath.Join(l.Dir(), ChannelPath(c.Key())), p.Bundle, 0o644)
}

// finishLogged stores the bundle of a statement that an earlier run logged without coming to an end: its leaf is there for
// ever, though by now it follows nothing. It returns nil when the log does not have it.
func finishLogged(ctx context.Context, l *log.Log, b *release.Bundle, signer release.PublicKey) (*Published, error) {
	name := release.PayloadDigest(b).String() + "-" + signer.ID().String()
	data, err := os.ReadFile(filepath.Join(l.Dir(), pendingDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	was, k := resume(data, b, signer)
	if ok, err := l.Has(ctx, release.LeafHash(release.LeafBody(&was.Envelope, k))); err != nil || !ok {
		return nil, err
	}
	return logBundle(ctx, l, name, b, signer, nil)
}

// A Begun is a channel statement that an earlier run began to publish, and did not come to the end of.
type Begun struct {
	Payload  []byte         // to be signed again and given to Channel
	Signer   release.Digest // ID of who must sign it
	Path     string         // of the file that says so, below the directory
	sequence uint64
}

// BegunChannel finds the statements of the channel "NAME@CHANNEL" that were begun, in their order. They must be finished before
// the next one is made: it would have the sequence that one of them has in the log already. The caller holds the log open.
func BegunChannel(dir, key string) ([]Begun, error) {
	files, err := os.ReadDir(filepath.Join(dir, pendingDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []Begun
	for _, f := range files {
		payload, by, _ := strings.Cut(f.Name(), "-")
		digest, derr := release.ParseDigest(payload)
		signer, serr := release.ParseDigest(by)
		if derr != nil || serr != nil {
			continue
		}
		file := path.Join(pendingDir, f.Name())
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		b, err := release.ParseBundle(data)
		if err != nil || release.PayloadDigest(b) != digest {
			continue // as resume has it
		}
		if c, err := release.ParseChannel(b.Envelope.Payload); err == nil && c.Key() == key {
			all = append(all, Begun{b.Envelope.Payload, signer, file, c.Predicate.Sequence})
		}
	}
	slices.SortStableFunc(all, func(a, b Begun) int { return cmp.Compare(a.sequence, b.sequence) })
	return all, nil
}

// ChannelPath is where the latest statement of the channel "NAME@CHANNEL" lies, below the directory.
func ChannelPath(key string) string { return filepath.Join(channelDir, key+suffix) }

// LatestChannel reads the statement that was published last, or nil: what the next one follows. It is the
// publisher's own directory, so the signature is not checked again.
func LatestChannel(dir, key string) (*release.Channel, error) {
	data, err := os.ReadFile(filepath.Join(dir, ChannelPath(key)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := release.ParseBundle(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ChannelPath(key), err)
	}
	c, err := release.ParseChannel(b.Envelope.Payload)
	if err == nil && c.Key() != key {
		err = fmt.Errorf("is of channel %q", c.Key())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ChannelPath(key), err)
	}
	return c, nil
}

func follows(c, old *release.Channel) error {
	if old == nil {
		return nil
	}
	was, is := &old.Predicate, &c.Predicate
	switch {
	case is.Sequence <= was.Sequence:
		return fmt.Errorf("publish: channel %s: sequence %d does not follow %d", c.Key(), is.Sequence, was.Sequence)
	case is.MinimumSequence < was.MinimumSequence:
		return fmt.Errorf("publish: channel %s: minimum sequence %d is below the earlier %d", c.Key(), is.MinimumSequence, was.MinimumSequence)
	case is.IssuedAt.Before(was.IssuedAt):
		return fmt.Errorf("publish: channel %s: issued before the statement that it follows", c.Key())
	}
	kept := map[release.Digest]bool{}
	for _, r := range is.Revoked {
		kept[r.Statement] = true
	}
	for _, r := range was.Revoked {
		if !kept[r.Statement] {
			return fmt.Errorf("publish: channel %s: statement %s was revoked, and a revocation is for ever", c.Key(), r.Statement)
		}
	}
	return nil
}

// Holds reports whether a statement with that digest was published in dir, by whomever.
func Holds(dir string, payload release.Digest) (bool, error) {
	found, err := fs.Glob(os.DirFS(dir), path.Join(releaseDir, payload.String()+"-*")) // dir itself is no pattern
	return len(found) > 0, err
}

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

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

// makeLatest logs the statement, unless that was done before, and puts it into the place of old.
func makeLatest(ctx context.Context, l *log.Log, b *release.Bundle, signer release.PublicKey, c, old *release.Channel, p *Published) (*Published, error) {
	err := follows(c, old)
	if err == nil && p == nil {
		p, err = logBundle(ctx, l, b, signer, nil)
	}
	if err != nil {
		return nil, err
	}
	return p, atomicfile.WriteFile(filepath.Join(l.Dir(), ChannelPath(c.Key())), p.Bundle, 0o644)
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

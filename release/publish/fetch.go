package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"tally/release"
	"tally/release/log"
)

// A Want names what to fetch.
type Want struct {
	Name    string
	Version string // empty: the channel's current release with the highest sequence
	Channel string // whose statement to bring along; empty: none
	By      Party  // who signs releases
}

// A Party is whose statements are looked for.
type Party struct {
	Keys []release.PublicKey // and identities that name one signer

	// Certified reports whether a bundle is signed by a certificate of somebody who counts; nil: nobody does.
	Certified func(*release.Bundle) bool
}

// Signed reports whether one of p signed b. Nothing else of it is believed.
func (p Party) Signed(b *release.Bundle) bool {
	if b.Certificate != nil {
		return p.Certified != nil && p.Certified(b)
	}
	return slices.ContainsFunc(p.Keys, func(k release.PublicKey) bool { return release.VerifyEnvelope(b, k) == nil })
}

// Fetch gets a release's bundle, and after it the channel statement's if w names a channel and there is one,
// from a published directory: the form that release.Verify reads. Nothing of it is verified yet; the
// indexes only say what to look at. An absent release is fs.ErrNotExist.
func Fetch(ctx context.Context, src log.Source, w Want) ([]byte, error) {
	if !release.ValidLabel(w.Name) || w.Version != "" && !release.ValidLabel(w.Version) || w.Channel != "" && !release.ValidLabel(w.Channel) {
		return nil, fmt.Errorf("release %.128q, version %.128q, channel %.128q: no names that a directory can have", w.Name, w.Version, w.Channel)
	}
	var channel []byte
	if w.Channel != "" {
		var err error
		channel, err = src.Read(ctx, path.Join(channelDir, w.Name+"@"+w.Channel+suffix), release.MaxChannelBundle)
		if err != nil && (w.Version == "" || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("channel %s@%s: %w", w.Name, w.Channel, err)
		}
	}
	payload, err := choose(ctx, src, w, channel)
	if err != nil {
		return nil, err
	}
	bundle, err := fetchBundle(ctx, src, payload, append(slices.Clone(w.By.Keys), NamedSigners(channel)...))
	if err != nil {
		return nil, err
	}
	return append(append(bundle, '\n'), channel...), nil
}

// NamedSigners are the signers of releases that a channel statement names, given as its bundle: where else to look.
func NamedSigners(channel []byte) (keys []release.PublicKey) {
	b, err := release.ParseBundle(channel)
	if err != nil {
		return nil
	}
	c, err := release.ParseChannel(b.Envelope.Payload)
	if err != nil {
		return nil
	}
	list, _ := c.Predicate.NamedSigners() // held since ParseChannel
	for _, s := range list {
		keys = append(keys, s.Key)
	}
	return keys
}

// BundlePath is where the bundle of a leaf lies, below the directory.
func BundlePath(leaf release.Digest) string { return path.Join(bundleDir, leaf.String()+suffix) }

// HasChannel reports whether a channel of that name is published.
func HasChannel(ctx context.Context, src log.Source, name, channel string) (bool, error) {
	_, err := src.Read(ctx, path.Join(channelDir, name+"@"+channel+suffix), release.MaxChannelBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// choose finds the digest of the statement: by version, or the channel's latest.
func choose(ctx context.Context, src log.Source, w Want, channel []byte) (release.Digest, error) {
	if w.Version != "" {
		text, err := src.Read(ctx, path.Join(nameDir, w.Name+"@"+w.Version), 65)
		if err != nil {
			return release.Digest{}, fmt.Errorf("release %s %s: %w", w.Name, w.Version, err)
		}
		return release.ParseDigest(strings.TrimSuffix(string(text), "\n"))
	}
	current, err := Current(channel)
	if err != nil {
		return release.Digest{}, fmt.Errorf("release %s: %w", w.Name, err)
	}
	return current.Statement, nil
}

// Current is the release with the highest sequence that a channel statement, given as its bundle, calls current.
func Current(channel []byte) (release.CurrentRelease, error) {
	if channel == nil {
		return release.CurrentRelease{}, errors.New("neither a version nor a channel to choose by")
	}
	b, err := release.ParseBundle(channel)
	if err != nil {
		return release.CurrentRelease{}, fmt.Errorf("channel: %w", err)
	}
	c, err := release.ParseChannel(b.Envelope.Payload)
	if err != nil {
		return release.CurrentRelease{}, err
	}
	latest, ok := c.Predicate.Latest()
	if !ok {
		return latest, fmt.Errorf("channel %s: no release is current", c.Key())
	}
	return latest, nil
}

// fetchBundle finds the publication of a statement by one of the signers.
func fetchBundle(ctx context.Context, src log.Source, payload release.Digest, signers []release.PublicKey) ([]byte, error) {
	for _, k := range signers {
		text, err := src.Read(ctx, path.Join(releaseDir, payload.String()+"-"+k.ID().String()), 65)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		leaf, err := release.ParseDigest(strings.TrimSuffix(string(text), "\n"))
		if err != nil {
			return nil, err
		}
		return src.Read(ctx, BundlePath(leaf), release.MaxBundle)
	}
	return nil, fmt.Errorf("statement %s: not published by any of the %d signers that policy and channel name: %w", payload, len(signers), fs.ErrNotExist)
}

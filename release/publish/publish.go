// Package publish puts a signed release into a log directory, beside the tiles, so that one static web
// server serves everything that a client, a rebuilder or a monitor needs:
//
//	DIR/bundles/LEAF.sigstore.json   the bundle of every leaf; a leaf itself is only a hash
//	DIR/by-digest/SHA256             every subject of every release, and the statement itself
//	DIR/releases/SHA256-SIGNER       text: the leaf of the payload with that digest by that signer
//	DIR/names/NAME@VERSION           text: the digest of the latest payload published under that name
//	DIR/channels/NAME@CHANNEL.sigstore.json   the latest channel statement
//	DIR/rebuilds/SHA256-REBUILDER    text: the leaves of what that key said about the rebuilt release with that digest
//	DIR/.pending/SHA256-SIGNER       the signed bundle while it is being logged
//	DIR/.pending/busy                there while something is being published
//
// Names and channels are indexes for whoever fetches; what they lead to is verified like anything else. A
// release whose name or version cannot stand in a file name (release.ValidLabel) has no index by name.
//
// Publishing is idempotent by payload digest and signer: the second time finds the first, even if the
// process was killed between any two steps, and even if the signer's signatures are not deterministic.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tally/internal/atomicfile"
	"tally/release"
	"tally/release/log"
	"tally/release/sign"
)

const (
	bundleDir  = "bundles"
	digestDir  = "by-digest"
	releaseDir = "releases"
	nameDir    = "names"
	channelDir = "channels"
	rebuildDir = "rebuilds"
	pendingDir = ".pending"
	busyFile   = "busy"
	suffix     = ".sigstore.json"
)

// A Published says where a release went.
type Published struct {
	Bundle  []byte // complete, with its log entry
	Path    string // of the bundle, below the directory
	Leaf    release.Digest
	Index   int64
	Size    int64 // of the tree that the bundle's proof is for
	Already bool  // it had been published before
}

// A Request is a release to publish.
type Request struct {
	Bundle []byte            // signed; a log entry in it is left aside
	Signer release.PublicKey // who must have signed it
	OutDir string            // where the files are
	Files  []sign.File       // the subjects
	Rekor  *log.Rekor        // another log that gets the same leaf, before ours; nil: none
}

// Publish logs the release and stores bundle and files. The signature is checked first: nothing enters
// the log that its readers would refuse. Publications into one log come one after the other.
func Publish(ctx context.Context, l *log.Log, r Request) (*Published, error) {
	b, err := release.ParseBundle(r.Bundle)
	if err != nil {
		return nil, err
	}
	b.Entry, b.Others = nil, nil
	s, err := release.VerifyUnlogged(b, r.Signer)
	if err != nil {
		return nil, err
	}
	if err := Covers(s, r.Files); err != nil {
		return nil, err
	}
	if err := begin(l.Dir()); err != nil {
		return nil, err
	}
	name := release.PayloadDigest(b).String() + "-" + r.Signer.ID().String()
	p, err := lookup(l.Dir(), name)
	switch {
	case err != nil:
	case p == nil:
		p, err = publishNew(ctx, l, name, r, b)
	case r.Rekor != nil:
		err = addRekor(ctx, l.Dir(), r, p)
	}
	if err == nil {
		err = nameRelease(l.Dir(), name, s, release.PayloadDigest(b))
	}
	if err != nil {
		return nil, err
	}
	return p, end(l.Dir(), name)
}

func publishNew(ctx context.Context, l *log.Log, name string, r Request, b *release.Bundle) (*Published, error) {
	for _, f := range r.Files {
		if err := store(ctx, l.Dir(), filepath.Join(r.OutDir, filepath.FromSlash(f.Name)), f); err != nil {
			return nil, err
		}
	}
	return logBundle(ctx, l, name, b, r.Signer, r.Rekor)
}

// nameRelease writes the index by name, last: until there is what it leads to, whoever fetches by name finds the release before.
// A release that was published to the end does not take its name back from a later one.
func nameRelease(dir, name string, s *release.Statement, payload release.Digest) error {
	rel := s.Predicate.Release
	if !release.ValidLabel(rel.Name) || !release.ValidLabel(rel.Version) {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(dir, pendingDir, name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, nameDir, rel.Name+"@"+rel.Version), []byte(payload.String()+"\n"), 0o644)
}

// addRekor logs a release that was published before in Rekor too.
func addRekor(ctx context.Context, dir string, r Request, p *Published) error {
	b, err := release.ParseBundle(p.Bundle)
	if err != nil || b.EntryIn(r.Rekor.Key().ID()) != nil {
		return err
	}
	e, err := r.Rekor.Add(ctx, &b.Envelope, r.Signer)
	if err != nil {
		return err
	}
	b.Others = append(b.Others, e)
	if p.Bundle, err = b.Marshal(); err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, p.Path), p.Bundle, 0o644)
}

// begin makes the directories. After a publisher that was killed it sweeps out what that was still writing:
// whoever holds the log open is the only one to write there. The caller calls end once all is written.
func begin(dir string) error {
	subs := []string{bundleDir, digestDir, releaseDir, nameDir, channelDir, rebuildDir, pendingDir}
	for _, sub := range subs {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	busy := filepath.Join(dir, pendingDir, busyFile)
	if _, err := os.Lstat(busy); err == nil {
		for _, sub := range subs {
			if err := atomicfile.Sweep(filepath.Join(dir, sub)); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(busy, nil, 0o644)
}

// end forgets what was kept for the case of a kill.
func end(dir, name string) error {
	for _, file := range []string{name, busyFile} {
		if err := os.Remove(filepath.Join(dir, pendingDir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Covers checks that the files at hand are the subjects, each once.
func Covers(s *release.Statement, files []sign.File) error {
	if len(files) != len(s.Subject) {
		return fmt.Errorf("publish: %d files for %d subjects of the statement", len(files), len(s.Subject))
	}
	seen := map[string]bool{}
	for _, f := range files {
		want, ok := s.SubjectDigest(f.Name)
		if !ok || want != f.Digest {
			return fmt.Errorf("publish: file %q has SHA-256 %s, which is not its subject's: sign again", f.Name, f.Digest)
		}
		if seen[f.Name] {
			return fmt.Errorf("publish: file %q: twice, so another subject's is missing", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// resume returns the bundle that was pending, if it holds the same payload signed by the same key, else b. A certified
// signer has another key and certificate each time: what is pending under its name was verified before it came
// there, so its signature by its own certificate's key is enough.
func resume(pending []byte, b *release.Bundle, signer release.PublicKey) (*release.Bundle, release.PublicKey) {
	earlier, err := release.ParseBundle(pending)
	if err != nil || release.PayloadDigest(earlier) != release.PayloadDigest(b) || (earlier.Certificate == nil) != (b.Certificate == nil) {
		return b, signer
	}
	k := signer
	if earlier.Certificate != nil {
		if k, err = earlier.CertificateKey(); err != nil {
			return b, signer
		}
	}
	if release.VerifyEnvelope(earlier, k) != nil {
		return b, signer
	}
	earlier.Entry, earlier.Others = nil, nil
	return earlier, k
}

// logBundle appends the leaf and stores the complete bundle under the name of its payload and signer. A signature that was on its way into the log
// when an earlier run died is finished, not signed over. With a Rekor its entry comes first: what is in our log is
// published, and should be complete.
func logBundle(ctx context.Context, l *log.Log, name string, b *release.Bundle, signer release.PublicKey, rekor *log.Rekor) (*Published, error) {
	pending := filepath.Join(l.Dir(), pendingDir, name)
	if old, err := os.ReadFile(pending); err == nil {
		b, signer = resume(old, b, signer)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	data, err := b.Marshal()
	if err != nil {
		return nil, err
	}
	if err := atomicfile.WriteFile(pending, data, 0o644); err != nil {
		return nil, err
	}
	if rekor != nil {
		e, err := rekor.Add(ctx, &b.Envelope, signer)
		if err != nil {
			return nil, err
		}
		b.Others = append(b.Others, e)
	}
	body := release.LeafBody(&b.Envelope, signer)
	if b.Entry, err = l.Append(ctx, body); err != nil {
		return nil, err
	}
	p := &Published{Leaf: release.LeafHash(body), Index: b.Entry.Index, Size: b.Entry.TreeSize}
	p.Path = BundlePath(p.Leaf)
	if p.Bundle, err = b.Marshal(); err != nil {
		return nil, err
	}
	payload := filepath.Join(l.Dir(), digestDir, release.PayloadDigest(b).String())
	if err := atomicfile.WriteFile(payload, b.Envelope.Payload, 0o644); err != nil {
		return nil, err
	}
	if err := atomicfile.WriteFile(filepath.Join(l.Dir(), p.Path), p.Bundle, 0o644); err != nil {
		return nil, err
	}
	return p, atomicfile.WriteFile(filepath.Join(l.Dir(), releaseDir, name), []byte(p.Leaf.String()+"\n"), 0o644)
}

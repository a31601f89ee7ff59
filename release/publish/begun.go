package publish

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"tally/release"
	"tally/release/log"
)

// A Finished is a publication that an earlier run began and did not come to the end of.
type Finished struct {
	Path  string // of the file that says so, below the directory
	Index int64  // in the log; its bundle is stored now
	Err   error  // why not: the file stays
}

// FinishBegun stores the bundles of releases and rebuild statements that earlier runs logged and did not come to the end of:
// their leaves are there for ever, and nobody need publish the same payload again. That takes no signing key. What is not in
// the log stays as it is, and so does the payload that is about to be published, which that finishes, and what Channel has to
// put into its place in a channel. The caller holds the log open.
func FinishBegun(ctx context.Context, l *log.Log, but release.Digest) ([]Finished, error) {
	all, err := readBegun(l.Dir(), but)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if err := findKeys(ctx, l, all); err != nil {
		return nil, err
	}
	out := make([]Finished, len(all))
	for i, p := range all {
		out[i] = Finished{Path: path.Join(pendingDir, p.name)}
		if out[i].Err = p.err; p.err == nil {
			out[i].Index, out[i].Err = p.finish(ctx, l)
		}
	}
	return out, nil
}

// begun is what lies in pendingDir.
type begun struct {
	name   string // PAYLOAD-SIGNER
	signer release.Digest
	bundle *release.Bundle
	key    release.PublicKey
	err    error // why it cannot be finished
}

func readBegun(dir string, but release.Digest) (all []*begun, err error) {
	files, err := os.ReadDir(filepath.Join(dir, pendingDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range files {
		payload, by, _ := strings.Cut(f.Name(), "-")
		digest, derr := release.ParseDigest(payload)
		signer, serr := release.ParseDigest(by)
		if derr != nil || serr != nil || digest == but {
			continue
		}
		p := &begun{name: f.Name(), signer: signer}
		all = append(all, p)
		data, err := os.ReadFile(filepath.Join(dir, pendingDir, f.Name()))
		if err == nil {
			p.bundle, err = release.ParseBundle(data)
		}
		switch {
		case err != nil:
			p.err = err
		case release.PayloadDigest(p.bundle) != digest:
			p.err = errors.New("is of another payload than its name says")
		case release.IsChannel(p.bundle.Envelope.Payload):
			c, err := release.ParseChannel(p.bundle.Envelope.Payload)
			if p.err = err; err == nil {
				p.err = fmt.Errorf("the next statement of channel %s finishes it", c.Key())
			}
		default:
			p.bundle.Entry, p.bundle.Others = nil, nil
			if p.bundle.Certificate != nil { // what is pending under a certified signer's name was verified before, as resume has it
				p.key, p.err = p.bundle.CertificateKey()
			}
		}
	}
	return all, nil
}

var errNotLogged = errors.New("was begun and never logged: publish it again, or remove the file")

// findKeys gets the keys of signers without a certificate from the leaves: a bundle has only a hint of its key. The newest
// leaves come first, and one pass serves all.
func findKeys(ctx context.Context, l *log.Log, all []*begun) error {
	wanted := map[string]*begun{}
	for _, p := range all {
		if p.err == nil && p.key.IsZero() {
			p.err = errNotLogged // until its leaf is found
			wanted[beforeKey(release.LeafBody(&p.bundle.Envelope, release.PublicKey{}))] = p
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if _, err := l.Has(ctx, release.Digest{}); err != nil { // which waits until what was logged is published
		return err
	}
	src, err := log.OpenSource(l.Dir(), nil)
	if err != nil {
		return err
	}
	view, err := log.ReadView(ctx, src, l.Key())
	if err != nil {
		return err
	}
	tree, err := l.Key().OpenCheckpoint(view.Checkpoint)
	if err != nil {
		return err
	}
	const width = 256
	for n := (tree.N - 1) / width; n >= 0 && n*width < tree.N && len(wanted) > 0; n-- {
		leaves, err := log.ReadEntries(ctx, src, n, int(min(tree.N-n*width, width)))
		if err != nil {
			return err
		}
		for _, leaf := range leaves {
			if p := wanted[beforeKey(leaf)]; p != nil && p.takeKey(leaf) {
				p.err = nil
				delete(wanted, beforeKey(leaf))
			}
		}
	}
	return nil
}

// beforeKey is what stands in a leaf before the bytes of the key, which are the last value.
func beforeKey(leaf []byte) string { return string(leaf[:bytes.LastIndex(leaf, []byte(`":`))+1]) }

// takeKey takes the key out of a leaf, if it is the one of p's name and the leaf is p's.
func (p *begun) takeKey(leaf []byte) bool {
	value, _, _ := bytes.Cut(bytes.TrimPrefix(leaf[len(beforeKey(leaf)):], []byte(`:"`)), []byte(`"`))
	der, err := base64.StdEncoding.DecodeString(string(value))
	if err != nil {
		return false
	}
	k, err := release.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil || k.ID() != p.signer || !bytes.Equal(release.LeafBody(&p.bundle.Envelope, k), leaf) {
		return false
	}
	p.key = k
	return true
}

// finish does what is left of Publish and Rebuild once the leaf is in the log: by then all files of a release are stored.
func (p *begun) finish(ctx context.Context, l *log.Log) (int64, error) {
	has, err := l.Has(ctx, release.LeafHash(release.LeafBody(&p.bundle.Envelope, p.key)))
	if err == nil && !has {
		err = errNotLogged
	}
	if err != nil {
		return 0, err
	}
	r, err := release.VerifyUnloggedRebuild(p.bundle, p.key)
	var s *release.Statement
	if err != nil {
		if s, err = release.VerifyUnlogged(p.bundle, p.key); err != nil {
			return 0, err
		}
	}
	if err := begin(l.Dir()); err != nil {
		return 0, err
	}
	done, err := lookup(l.Dir(), p.name)
	if err == nil && done == nil {
		done, err = logBundle(ctx, l, p.name, p.bundle, p.key, nil)
	}
	if err != nil {
		return 0, err
	}
	if r != nil {
		err = addRebuild(filepath.Join(l.Dir(), rebuildPath(r.Predicate.Release.Statement, p.signer)), done.Leaf)
	} else {
		err = p.nameLate(l.Dir(), s, done.Index)
	}
	if err != nil {
		return 0, err
	}
	return done.Index, end(l.Dir(), p.name)
}

// nameLate names the release, unless one that was logged after it has its name by now.
func (p *begun) nameLate(dir string, s *release.Statement, index int64) error {
	payload := release.PayloadDigest(p.bundle)
	rel := s.Predicate.Release
	if release.ValidLabel(rel.Name) && release.ValidLabel(rel.Version) {
		text, err := os.ReadFile(filepath.Join(dir, nameDir, rel.Name+"@"+rel.Version))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		found, err := fs.Glob(os.DirFS(dir), path.Join(releaseDir, strings.TrimSpace(string(text))+"-*"))
		if err != nil {
			return err
		}
		for _, f := range found {
			other, err := lookup(dir, path.Base(f))
			if err != nil {
				return fmt.Errorf("the release that has the name %s@%s: %w", rel.Name, rel.Version, err)
			}
			if other.Index > index {
				return nil
			}
		}
	}
	return nameRelease(dir, p.name, s, payload)
}

package monitor

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"tally/release"
	"tally/release/publish"
)

const readers = 8 // bundles read and checked at once

// A leaf is one entry of the log with what its bundle says.
type leaf struct {
	index   int64
	hash    release.Digest
	judged  bool             // by an earlier round
	bare    bool             // it has no bundle
	tree    release.SeenTree // that the bundle's proof is for
	payload release.Digest
	release *Release         // one of these three, or an alert
	channel *release.Channel //
	rebuild *Rebuild         //
	signer  release.Digest
	revoker bool // the channel statement is a revocation key's: only its revocations count
	alerts  []Alert
}

// holds reports whether the bundle is the leaf's own and signed; what was signed may still be nothing that anybody can read.
func (l *leaf) holds() bool { return l.tree.Tree.N > 0 }

// silent reports whether the bundle does not tell what the leaf says.
func (l *leaf) silent() bool {
	return l.release == nil && l.channel == nil && l.rebuild == nil
}

func (l *leaf) alert(reason release.Reason, format string, args ...any) {
	l.alerts = append(l.alerts, Alert{Reason: reason, Index: &l.index, Text: fmt.Sprintf(format, args...)})
}

// judge reads and checks the bundles of consecutive leaves. What is wrong with a leaf is an alert; an error is
// that it could not be looked at.
func (m *Monitor) judge(ctx context.Context, first int64, bodies [][]byte) ([]*leaf, error) {
	out, errs := make([]*leaf, len(bodies)), make([]error, len(bodies))
	var all sync.WaitGroup
	next := make(chan int)
	for range min(readers, len(bodies)) {
		all.Go(func() {
			for i := range next {
				out[i], errs[i] = m.leaf(ctx, first+int64(i), release.LeafHash(bodies[i]))
			}
		})
	}
	for i := range bodies {
		next <- i
	}
	close(next)
	all.Wait()
	return out, errors.Join(errs...)
}

func (m *Monitor) leaf(ctx context.Context, index int64, hash release.Digest) (*leaf, error) {
	l := &leaf{index: index, hash: hash, judged: m.judged(index)}
	data, err := m.o.Source.Read(ctx, publish.BundlePath(l.hash), release.MaxBundle)
	if errors.Is(err, fs.ErrNotExist) {
		l.bare = true
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := release.ParseBundle(data)
	if err != nil {
		l.alert(release.BadBundle, "%v", err)
		return l, nil
	}
	signers, ids, err := m.signers(ctx, b)
	var refusal *release.Error
	if errors.As(err, &refusal) {
		l.alert(refusal.Reason, "%v", refusal.Err)
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	m.check(l, b, signers, ids)
	if m.o.Run != nil && l.release != nil && !l.judged {
		err = os.WriteFile(m.spooled(index), data, 0o600)
	}
	return l, err
}

// signers are the keys and identities that may sign what b holds: the policy's, or, when it names nobody for that, the
// leaf's own key.
func (m *Monitor) signers(ctx context.Context, b *release.Bundle) ([]release.Signer, *release.IdentityPolicy, error) {
	p := m.o.Policy
	switch payload := b.Envelope.Payload; {
	case !m.named() || release.IsRebuild(payload) && len(p.Rebuilders.Keys)+len(p.Rebuilders.Identities.List) == 0:
		k, err := m.leafKey(b)
		if err != nil {
			err = &release.Error{Reason: release.BadIdentity, Err: err}
		}
		return k, nil, err
	case release.IsRebuild(payload):
		return p.Rebuilders.Keys, &p.Rebuilders.Identities, nil
	case release.IsChannel(payload) && len(p.Channel.Signers) > 0:
		return slices.Concat(p.Channel.Signers, p.Revokers), &p.RevokerIdentities, nil
	case release.IsChannel(payload):
		ids := p.RevokerIdentities // one trusted root for all, where a policy has several
		if len(ids.List) == 0 {
			ids = p.Identities
		} else {
			ids.List = slices.Concat(p.Identities.List, ids.List)
		}
		return slices.Concat(p.Signers, p.Revokers), &ids, nil
	}
	named, err := m.namedSigners(ctx, b)
	return append(named, p.Signers...), &p.Identities, err
}

// named reports whether the policy names signers; otherwise anybody may sign.
func (m *Monitor) named() bool {
	return len(m.o.Policy.Signers)+len(m.o.Policy.Identities.List) > 0
}

// leafKey is the key that stands in the leaf that b says it is of; whoever checks b finds out whether it is.
func (m *Monitor) leafKey(b *release.Bundle) ([]release.Signer, error) {
	e := b.EntryIn(m.o.Policy.Log.Key.ID())
	if e == nil {
		return nil, errors.New("the bundle has no entry of this log, which would name its key")
	}
	var rec struct {
		Spec struct {
			V2 struct {
				Signature struct {
					Verifier struct {
						PublicKey struct {
							RawBytes []byte `json:"rawBytes"`
						} `json:"publicKey"`
					} `json:"verifier"`
				} `json:"signature"`
			} `json:"hashedRekordV002"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(e.Body, &rec); err != nil {
		return nil, fmt.Errorf("the leaf is no hashedrekord 0.0.2: %w", err)
	}
	if len(rec.Spec.V2.Signature.Verifier.PublicKey.RawBytes) == 0 {
		return nil, errors.New("the leaf names no key; a certificate is checked against a policy's identities alone")
	}
	der := rec.Spec.V2.Signature.Verifier.PublicKey.RawBytes
	k, err := release.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return []release.Signer{{Key: k}}, err
}

// namedSigners are the signers of b's release that the latest statement of the policy's channel names, if b is by none of
// the policy's. A statement that is not there or does not hold names nobody; an error is that it could not be looked at.
func (m *Monitor) namedSigners(ctx context.Context, b *release.Bundle) ([]release.Signer, error) {
	p := m.o.Policy
	for _, s := range p.Signers {
		if s.Key.Hint() == b.Hint {
			return nil, nil
		}
	}
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil || p.Channel.Name == "" || !release.ValidLabel(s.Predicate.Release.Name) {
		return nil, nil
	}
	key := s.Predicate.Release.Name + "@" + p.Channel.Name
	data, err := m.o.Source.Read(ctx, publish.ChannelPath(key), release.MaxChannelBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	channel, err := release.ParseBundle(data)
	if err != nil {
		return nil, nil
	}
	by, ids := p.Channel.Signers, (*release.IdentityPolicy)(nil)
	if len(by) == 0 {
		by, ids = p.Signers, &p.Identities
	}
	logged := p.Log
	logged.Seen, logged.View = nil, nil
	r, err := release.VerifyLogged(channel, by, ids, &logged)
	if err != nil {
		return nil, nil
	}
	if _, revoked := m.mem.file.Revoked[r.Signer.ID()]; revoked {
		return nil, nil // whoever writes the directory can put an old statement there
	}
	c, err := release.ParseChannel(channel.Envelope.Payload)
	if err != nil || c.Key() != key {
		return nil, nil
	}
	list, _ := c.Predicate.NamedSigners() // held since ParseChannel
	return list, nil
}

func (m *Monitor) check(l *leaf, b *release.Bundle, signers []release.Signer, ids *release.IdentityPolicy) {
	logged := m.o.Policy.Log
	logged.Seen, logged.View = nil, nil // forks are looked for by who walks the tree
	r, err := release.VerifyLogged(b, signers, ids, &logged)
	var refusal *release.Error
	switch {
	case errors.As(err, &refusal):
		l.alert(refusal.Reason, "%v", refusal.Err)
		return
	case r.Leaf != l.hash || r.Index != l.index:
		l.alert(release.BadInclusion, "the bundle under its name is that of leaf %s at index %d", r.Leaf, r.Index)
		return
	}
	l.tree, l.payload = r.Trees[0], r.Payload
	for _, s := range signers {
		if s.Key.ID() == r.Signer.ID() {
			m.checkWindow(l, s, r.Cosigned)
		}
	}
	l.signer = r.Signer.ID()
	if err := l.parse(b.Envelope.Payload); err != nil {
		l.alert(release.BadStatement, "%v", err)
	}
	l.revoker = l.channel != nil && m.o.Policy.Revoker(b)
}

// parse reads what was signed.
func (l *leaf) parse(payload []byte) (err error) {
	switch {
	case release.IsChannel(payload):
		l.channel, err = release.ParseChannel(payload)
		return err
	case release.IsRebuild(payload):
		s, err := release.ParseRebuild(payload)
		if err == nil {
			r := s.Predicate.Release
			l.rebuild = &Rebuild{r.Name, r.Version, s.Predicate.Result, r.Statement, l.signer, l.index}
		}
		return err
	}
	s, err := release.ParseStatement(payload)
	if err == nil {
		r := s.Predicate.Release
		l.release = &Release{r.Name, r.Version, r.Sequence, l.payload, l.signer, l.hash, l.index}
	}
	return err
}

// checkWindow weighs the signer's time. When the leaf was signed nobody knows; that it was logged by a moment is
// what witnesses say, or what the monitor saw itself.
func (m *Monitor) checkWindow(l *leaf, s release.Signer, cosigned time.Time) {
	at := cosigned
	if at.IsZero() {
		if l.index < m.first || l.judged {
			return // it was there before the monitor came, or was weighed when it did
		}
		at = m.o.Now()
	}
	if !s.NotBefore.IsZero() && at.Before(s.NotBefore) {
		l.alert(release.NotYetValid, "logged by %s, and the signer is not valid before %s", at.UTC().Format(time.RFC3339), s.NotBefore.Format(time.RFC3339))
	}
	if !s.NotAfter.IsZero() && !at.Before(s.NotAfter) {
		l.alert(release.Expired, "seen in the log by %s, and the signer is not valid after %s", at.UTC().Format(time.RFC3339), s.NotAfter.Format(time.RFC3339))
	}
}

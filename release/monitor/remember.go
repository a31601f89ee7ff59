package monitor

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"tally/internal/atomicfile"
	"tally/release"
	"tally/release/state"
)

// remember takes in what was found and writes it.
func (w *walk) remember() error {
	mem, said := &w.m.mem.file, state.Said{Channels: map[release.Digest]*release.Channel{}}
	before := len(w.rep.Alerts)
	for _, l := range w.leaves {
		w.rep.Alerts = append(w.rep.Alerts, l.alerts...)
		if !l.judged {
			delete(mem.Unheld, l.index)
		}
		switch {
		case l.judged: // what it says is known
		case l.silent():
			mem.Unheld[l.index] = struct{}{}
		case l.release != nil:
			if err := w.released(l); err != nil {
				return err
			}
		case l.channel != nil:
			if w.counts(l) && l.revoker {
				said.Revoking = append(said.Revoking, l.channel)
			} else if w.counts(l) {
				said.Channels[l.payload] = l.channel
			}
			w.channel(l)
		case l.rebuild != nil:
			w.rep.Rebuilds = append(w.rep.Rebuilds, *l.rebuild)
			if r := l.rebuild; r.Result != release.Reproduced {
				w.rep.Alerts = append(w.rep.Alerts, Alert{Reason: release.Mismatch, Index: &l.index, Text: fmt.Sprintf("%s %s was built again by key %s and differs", r.Name, r.Version, r.Signer)})
			}
		}
	}
	w.rememberGarbage()
	mem.Unsaid = bounded(append(mem.Unsaid, w.rep.Alerts[before:]...))
	w.rememberBare() // the rest is said in every round
	mem.Size, mem.Root = w.head.Tree.N, w.head.Tree.Hash.String()
	if err := w.m.state.RememberAudit(w.head, said); err != nil { // first: twice does no harm
		return err
	}
	return w.m.mem.save()
}

// counts reports whether clients, who share what is remembered, are to be held to a channel statement: not to one that
// anybody may have signed, nor to one by a channel's key that others have revoked. A revocation key loses its word by
// the policy alone, or whoever stole a channel's key could take it from it.
func (w *walk) counts(l *leaf) bool {
	_, revoked := w.m.mem.file.Revoked[l.signer]
	return w.m.named() && (l.revoker || !revoked)
}

// heard reports whether a channel statement's revocations take anything from anybody; those of a revoked key are said alone.
func (w *walk) heard(l *leaf) bool { return w.counts(l) || !w.m.named() }

// channelKey is the channel that a statement is of. What a revocation key says is not the channel's, whatever it calls itself.
func (l *leaf) channelKey() string {
	if l.revoker {
		return "revocations of " + l.channel.Key()
	}
	return l.channel.Key()
}

// rememberGarbage takes in the leaves that are not kept whole.
func (w *walk) rememberGarbage() {
	for _, index := range w.unheld {
		w.m.mem.file.Unheld[index] = struct{}{}
	}
	for _, reason := range Reasons() {
		if k := w.litter[reason]; k != nil {
			k.rest(w.rep)
		}
	}
}

// rememberBare takes in which leaves have no bundle, or none any more.
func (w *walk) rememberBare() {
	mem := &w.m.mem.file
	bare, lost, ahead := map[int64]release.Digest{}, map[int64]release.Digest{}, map[int64]int64{}
	gone := kind{reason: NoBundle, what: "leaves have no bundle: it had one when it was judged"}
	never := kind{reason: NoBundle, what: "leaves have no bundle: nobody can tell what was logged"}
	hidden := kind{reason: release.LogStale, what: "bundles show trees that the log's latest does not reach, as in an earlier round"}
	for _, index := range slices.Sorted(maps.Keys(w.bare)) {
		b, k := w.bare[index], &never
		if b.told || w.m.judged(index) {
			lost[index], k = b.hash, &gone
		} else {
			bare[index] = b.hash
		}
		if b.ahead == 0 {
			_, why, _ := strings.Cut(k.what, ": ")
			k.alert(w.rep, index, "leaf %s has no bundle: %s", b.hash, why)
			continue
		}
		// Once it is a publication between two reads. A log that shows it again hides the tree that clients are shown.
		if was := mem.Ahead[index]; was > 0 {
			hidden.alert(w.rep, index, "the bundle of leaf %s shows a tree of %d leaves, and one of %d in an earlier round; the log's latest has %d", b.hash, b.ahead, was, w.head.Tree.N)
		}
		ahead[index] = b.ahead
	}
	for _, k := range []*kind{&gone, &never, &hidden} {
		k.rest(w.rep)
	}
	mem.Bare, mem.Lost, mem.Ahead, w.rep.Bare = bare, lost, ahead, len(bare)+len(lost)
}

// released takes in a release; one that is known already, from another signer or an earlier round, is no news.
func (w *walk) released(l *leaf) error {
	mem, r := &w.m.mem.file, l.release
	version := r.Name + "@" + r.Version
	known, ok := mem.Versions[version]
	if ok && known == r.Payload {
		return nil
	}
	w.rep.Releases = append(w.rep.Releases, *r)
	if _, revoked := mem.Revoked[l.signer]; revoked {
		w.rep.Alerts = append(w.rep.Alerts, Alert{Reason: release.Revoked, Index: &l.index, Text: fmt.Sprintf("%s %s is signed by key %s, which was revoked before", r.Name, r.Version, l.signer)})
	}
	if ok {
		l.unexpected(w.rep, "%s %s is released a second time with other content: payload %s, before %s", r.Name, r.Version, r.Payload, known)
	}
	if high := mem.Highest[r.Name]; r.Sequence <= high {
		l.unexpected(w.rep, "%s %s has sequence %d, and %d was released before", r.Name, r.Version, r.Sequence, high)
	}
	mem.Versions[version], mem.Highest[r.Name] = r.Payload, max(mem.Highest[r.Name], r.Sequence)
	if w.m.o.Run == nil {
		return nil
	}
	mem.Queue = append(mem.Queue, *r)
	bundle, err := os.ReadFile(w.m.spooled(l.index))
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(w.m.queuePath(*r), bundle, 0o600)
}

func (l *leaf) unexpected(rep *Report, format string, args ...any) {
	rep.Alerts = append(rep.Alerts, Alert{Reason: Unexpected, Index: &l.index, Text: fmt.Sprintf(format, args...)})
}

// channel takes in a channel statement.
func (w *walk) channel(l *leaf) {
	mem, c := &w.m.mem.file, l.channel
	add := func(reason release.Reason, format string, args ...any) {
		w.rep.Alerts = append(w.rep.Alerts, Alert{Reason: reason, Index: &l.index, Text: fmt.Sprintf(format, args...)})
	}
	key := l.channelKey()
	last := mem.Channels[key]
	if l.payload == last.Payload {
		return
	}
	w.rep.Channels = append(w.rep.Channels, Channel{c.Key(), c.Predicate.Sequence, l.payload, l.index})
	if c.Predicate.Sequence <= last.Sequence {
		add(release.Rollback, "channel %s: sequence %d after %d", c.Key(), c.Predicate.Sequence, last.Sequence)
	} else {
		mem.Channels[key] = channelMark{c.Predicate.Sequence, l.payload}
	}
	heard := w.heard(l)
	for _, r := range c.Predicate.Revoked {
		if _, ok := mem.Revoked[r.Statement]; !ok {
			if heard {
				mem.Revoked[r.Statement] = struct{}{}
			}
			add(release.Revoked, "channel %s revokes the statement or key %s: %q", c.Key(), r.Statement, r.Reason)
		}
	}
	for _, r := range c.Predicate.Current {
		if l.revoker {
			break
		}
		if _, ok := mem.Revoked[r.Statement]; ok {
			add(release.Rollback, "channel %s calls the revoked statement %s current", c.Key(), r.Statement)
		}
	}
}

// Package monitor watches a transparency log of releases: that it only grows, that it keeps what its tiles
// promise, and that every leaf is a statement which somebody allowed has signed and anybody can read.
//
// A round reads the log's checkpoint, holds it against everything remembered (package state, which clients
// share), reads the leaves that are new, computes the tree from them and holds it against the signed root and
// against every hash tile on the way, and reads the bundle of each leaf. What it remembers itself stands in
//
//	DIR/ORIGIN-ID.monitor.json   tally.monitor-state/v1: the tree audited so far, leaves without a bundle that holds, versions, alerts to be told
//	DIR/queue/LEAF.sigstore.json bundles of new releases for which the command has not been run yet
//	DIR/round.scratch-*          those that a round has read; it ends without them
//
// with ORIGIN-ID as in package state. A round that cannot read everything, or write that, remembers nothing.
//
// An audited leaf cannot become another one without another root, which every round would see. But its bundle, its
// entry or a hash tile can be taken away or changed afterwards: whoever has the root does not have what it is of. So a
// full round reads everything again from the first leaf, once in Options.FullEvery. What it finds about a leaf that was
// judged before is what is wrong with it now; it is no news of releases, unless its bundle did not hold when it was judged:
// whoever serves a log can put anything in a bundle's place until then, and the bundle itself there later. Of such
// leaves every round reads some again.
//
// A bundle may be of a later tree than the checkpoint that a round began with; one round is given for that.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"tally/internal/scratch"
	"tally/release"
	"tally/release/log"
	"tally/release/state"
)

// Reasons of alerts beside those of package release.
const (
	NoBundle   release.Reason = "no-bundle"  // a leaf that nobody can read; said in every round until it has its bundle
	Damaged    release.Reason = "damaged"    // the directory is not what the checkpoint promises
	Unexpected release.Reason = "unexpected" // a version or sequence was released twice
	Command    release.Reason = "command"    // the command failed
)

// Reasons are all that an Alert can have.
func Reasons() []release.Reason {
	return []release.Reason{
		NoBundle, Damaged, Unexpected, Command, release.BadBundle, release.BadIdentity, release.BadSignature, release.NotLogged,
		release.BadLog, release.BadWitness, release.BadInclusion, release.LogFork, release.LogStale, release.NoProof,
		release.BadStatement, release.Expired, release.NotYetValid, release.Revoked, release.Rollback, release.PolicyEmpty, release.Mismatch,
	}
}

// Options are what a monitor needs.
type Options struct {
	Source log.Source
	Dir    string          // remembers; made when absent
	Policy *release.Policy // Log must be filled; without Signers and Identities anybody may sign
	Now    func() time.Time
	Wait   time.Duration // how long a bundle may come after its leaf

	Full      bool          // the first round reads everything again
	FullEvery time.Duration // and so does one after that time, also after a restart; 0: none

	// Run is called once for each new release with its bundle in a file; nil: nothing is run. It is called
	// again after a monitor that was killed meanwhile, and after an error that is ErrKeep.
	Run func(ctx context.Context, r Release, bundle string) error
}

// A Release is one that was found in the log.
type Release struct {
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	Sequence uint64         `json:"sequence"`
	Payload  release.Digest `json:"payload_sha256"`
	Signer   release.Digest `json:"key_id"`
	Leaf     release.Digest `json:"leaf_hash"`
	Index    int64          `json:"log_index"`
}

// A Channel is a channel statement that was found in the log.
type Channel struct {
	Name     string         `json:"name"` // NAME@CHANNEL
	Sequence uint64         `json:"sequence"`
	Payload  release.Digest `json:"payload_sha256"`
	Index    int64          `json:"log_index"`
}

// A Rebuild is a statement by somebody who built a release again.
type Rebuild struct {
	Name      string         `json:"name"`
	Version   string         `json:"version"`
	Result    string         `json:"result"`    // release.Reproduced or release.Differs
	Statement release.Digest `json:"statement"` // of the release: SHA-256 of its payload
	Signer    release.Digest `json:"key_id"`
	Index     int64          `json:"log_index"`
}

// An Alert is what somebody should look at.
type Alert struct {
	Reason   release.Reason `json:"reason"`
	Index    *int64         `json:"log_index,omitempty"` // of the leaf it is about
	Text     string         `json:"text"`
	Evidence string         `json:"evidence,omitempty"` // file with both checkpoints of a fork
}

// A Report is the outcome of a round.
type Report struct {
	Size     int64     // leaves of the log; 0 when its checkpoint was refused
	Audited  int64     // of them, those whose bundles have been looked at, in this round or before
	Fresh    int64     // of those, the ones of this round
	Again    int64     // of those, the ones that were looked at before and in this round again
	Cosigned time.Time // newest cosignatures; zero without witnesses
	Bare     int       // leaves without bundle
	Releases []Release
	Channels []Channel
	Rebuilds []Rebuild
	Alerts   []Alert
}

func (r *Report) alert(reason release.Reason, format string, args ...any) {
	r.Alerts = append(r.Alerts, Alert{Reason: reason, Text: fmt.Sprintf(format, args...)})
}

// A Monitor watches one log.
type Monitor struct {
	o     Options
	state *state.State
	mem   *memory
	first int64  // leaves that were there when the monitor came
	spool string // directory of the round's new bundles that the command wants
}

// Open reads what o.Dir remembers.
func Open(o Options) (*Monitor, error) {
	key := o.Policy.Log.Key
	if key.IsZero() || o.Dir == "" {
		return nil, errors.New("monitor: wants a log key and a directory that remembers")
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "queue"), 0o700); err != nil {
		return nil, err
	}
	s, err := state.Open(o.Dir, key)
	if err != nil {
		return nil, err
	}
	m := &Monitor{o: o, state: s}
	return m, m.reopen()
}

// reopen reads what the monitor itself remembers, if what is at hand is not that.
func (m *Monitor) reopen() (err error) {
	if m.mem == nil {
		key := m.o.Policy.Log.Key
		id := key.ID()
		m.mem, err = openMemory(filepath.Join(m.o.Dir, fmt.Sprintf("%s-%x.monitor.json", key.Origin(), id[:8])), key)
	}
	return err
}

// Round looks at the log once. An error without report means that it could not be looked at, or that nothing could be
// remembered; with one, that ctx ended in a command, or that the queue could not be written: what was found is in the report
// and remembered. Alerts that no later round would find are in every report until Told.
func (m *Monitor) Round(ctx context.Context) (*Report, error) {
	err := m.reopen()
	if err != nil {
		return nil, err
	}
	rep := &Report{Audited: m.mem.file.Size, Alerts: slices.Clone(m.mem.file.Unsaid)}
	p := *m.o.Policy
	m.state.Fill(&p)
	if p.Log.View, err = log.ReadView(ctx, m.o.Source, p.Log.Key); err != nil {
		return nil, err
	}
	r, err := release.VerifyLog(&p.Log, m.o.Now())
	var refusal *release.Error
	if errors.As(err, &refusal) {
		path, why := m.keep(refusal.Evidence)
		rep.Alerts = append(rep.Alerts, Alert{Reason: refusal.Reason, Text: refusal.Err.Error() + why, Evidence: path})
		if refusal.Reason != release.Expired {
			return rep, nil
		}
	}
	head := r.Trees[len(r.Trees)-1]
	rep.Size, rep.Cosigned = head.Tree.N, r.Cosigned
	if m.mem.file.Size == 0 {
		m.first = head.Tree.N
	}
	w := &walk{m: m, rep: rep, head: head, view: p.Log.View, full: m.full()}
	if err := m.audit(ctx, w); errors.Is(err, log.ErrDamaged) {
		rep.alert(Damaged, "%v", err)
		return rep, nil
	} else if err != nil {
		return nil, err
	}
	m.o.Full = false
	return rep, m.runCommands(ctx, rep)
}

// audit reads the log and remembers what it finds. What the command wants of it waits on disk: a log has as many releases
// as it likes.
func (m *Monitor) audit(ctx context.Context, w *walk) error {
	if m.o.Run != nil {
		d, err := scratch.New(m.o.Dir, "round")
		if err != nil {
			return err
		}
		defer d.Remove() // what stays, the next round removes
		m.spool = d.Path
	}
	if err := w.run(ctx); err != nil {
		return err
	}
	mem, size := &m.mem.file, w.head.Tree.N
	w.rep.Audited, w.rep.Fresh = size, size-mem.Size
	if w.full {
		w.rep.Again, mem.Full = mem.Size, m.o.Now().UTC().Truncate(time.Second)
	}
	err := w.remember()
	if err != nil {
		m.mem = nil // nobody was told of what it has now
	}
	return err
}

// full reports whether this round reads everything. The first one ever does in any case.
func (m *Monitor) full() bool {
	return m.o.Full || m.mem.file.Size == 0 || m.o.FullEvery > 0 && !m.o.Now().Before(m.mem.file.Full.Add(m.o.FullEvery))
}

// judged reports whether an earlier round knew what the leaf says.
func (m *Monitor) judged(index int64) bool {
	_, bare := m.mem.file.Bare[index]
	_, unheld := m.mem.file.Unheld[index]
	return index < m.mem.file.Size && !bare && !unheld
}

// keep keeps the evidence of a fork, if there is any. That it could not is for the alert to say, which is wanted all the more.
func (m *Monitor) keep(notes []string) (path, why string) {
	path, err := m.state.KeepEvidence(notes)
	if err != nil {
		return "", fmt.Sprintf("; keeping the evidence: %v", err)
	}
	return path, ""
}

func (m *Monitor) spooled(index int64) string {
	return filepath.Join(m.spool, strconv.FormatInt(index, 10))
}

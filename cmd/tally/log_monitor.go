package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tally/internal/cli"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/monitor"
)

// fullEvery is after what time a log is read whole again, if nobody says otherwise.
const fullEvery = 7 * 24 * time.Hour

func logMonitorCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "monitor", Usage: "watch a log: that it only grows, and what is in it", ArgsUsage: "LOG",
		Flags: append(policyFlags(),
			&cli.StringFlag{Name: "log-key", Usage: "without --policy: the log's verifier key, or a `FILE` that holds it (default: the one seen first at LOG)"},
			&cli.BoolFlag{Name: "once", Usage: "look once and end"},
			&cli.DurationFlag{Name: "every", Usage: "look every `DURATION`, until interrupted", Value: 5 * time.Minute},
			&cli.BoolFlag{Name: "full", Usage: "read every leaf again in the first round, those that were audited before too"},
			&cli.DurationFlag{Name: "full-every", Usage: "read every leaf again in a round each `DURATION`, also of rounds with --once; 0: only with --full", Value: fullEvery},
			&cli.DurationFlag{Name: "wait", Usage: "how long a bundle may come after its leaf", Value: 5 * time.Second},
			&cli.StringFlag{Name: "exec", Usage: "run `COMMAND` (by sh -c) for each new release"},
			&cli.StringFlag{Name: "metrics", Usage: "serve Prometheus metrics at `ADDRESS`, under /metrics"}),
		Description: "LOG is a published directory or its URL. Each round holds the log's checkpoint against everything remembered in DIR (the state of\n" +
			"'tally release verify' may be the same directory), reads the new leaves and every hash tile over them, computes the root, and checks the bundle of\n" +
			"each leaf. An audited leaf cannot change without the root, but what it is of can be taken away later: a full round reads all of it again and says\n" +
			"what is wrong with any leaf then (damaged, no-bundle, bundle, …). What a leaf tells whose bundle did not hold is said when it does: every round reads\n" +
			"a hundred of them again, a full one all. With --policy the log's key, its witnesses and the signers are the policy's; without it anybody may sign, which is said.\n\n" +
			"Alerts, by reason: log-fork (both checkpoints are kept in DIR/evidence, those of the first 100 forks of a log), log-stale (fewer leaves than were seen, or than bundles show), no-proof, log, witness, expired\n" +
			"(cosignatures, or a signer whose time is over), not-yet, damaged (tiles or entries are not what the checkpoint promises), no-bundle (a leaf that\n" +
			"nobody can read: said in every round until it has its bundle), bundle, identity, signature, not-logged, inclusion, statement (of a leaf's bundle),\n" +
			"unexpected (a version released twice, or a sequence that does not grow), revoked (new revocations, and releases by a key that was revoked\n" +
			"before), rollback (a channel statement that goes back), mismatch (a rebuilder's statement that a release did not come out again), command (COMMAND failed). What is about one leaf is said once; after a kill, in the next round. Of more than 100 alerts\n" +
			"of a reason in a round about leaves without bundle, or with one that does not hold, or about trees that the log hides, the rest is one: how many, the\n" +
			"first leaf and the last. DIR/ORIGIN-ID.monitor.json lists all that have no bundle (bare, lost) and all that never had one that holds (unheld); a full\n" +
			"round says again which do not hold.\n\n" +
			"COMMAND gets TALLY_BUNDLE (a file with the release's bundle, gone afterwards), TALLY_LOG (LOG), TALLY_NAME, TALLY_VERSION, TALLY_SEQUENCE,\n" +
			"TALLY_LOG_INDEX, TALLY_PAYLOAD_SHA256. Its output goes to stderr. It runs once for each release, again only after a kill.\n" +
			"Exit with --once: 0 no alert; 5 only expired, not-yet, revoked, rollback, mismatch, unexpected or command; 4 any other alert; 1 the log could not be read, or what was found not be\n" +
			"kept or worked off: 4 comes first, 5 last.\n" +
			"Without --once every round is printed as it ends, a log that cannot be read is a line on stderr, and Ctrl-C ends with 0.\n" +
			"--json prints one tally.log-audit/v1 a round: origin, size, audited, fresh (leaves of this round), again (leaves read again by a full round), bare (leaves without bundle), cosigned_at, releases (name, version, sequence,\n" +
			"payload_sha256, key_id, leaf_hash, log_index), channels (name, sequence, payload_sha256, log_index), rebuilds (name, version, result, statement, key_id, log_index), alerts (reason, log_index, text, evidence),\n" +
			"not_checked.\n\n" +
			"   tally log monitor https://releases.example/ --policy policy.yaml --state ~/.local/state/tally --every 1h \\\n" +
			"      --exec 'tally rebuild \"$TALLY_BUNDLE\" --from \"$TALLY_LOG\"' --metrics 127.0.0.1:9105",
		Action: func(c *cli.Context) error { return logMonitor(c, e) },
	}
}

// A monitorAnswer is tally.log-audit/v1.
type monitorAnswer struct {
	Schema     string            `json:"schema"`
	Origin     string            `json:"origin"`
	Size       int64             `json:"size"`
	Audited    int64             `json:"audited"`
	Fresh      int64             `json:"fresh"`
	Again      int64             `json:"again"`
	Bare       int               `json:"bare"`
	CosignedAt string            `json:"cosigned_at,omitempty"`
	Releases   []monitor.Release `json:"releases"`
	Channels   []monitor.Channel `json:"channels"`
	Rebuilds   []monitor.Rebuild `json:"rebuilds"`
	Alerts     []monitor.Alert   `json:"alerts"`
	NotChecked []string          `json:"not_checked"`
}

// A watcher is the command at work.
type watcher struct {
	e          *env
	m          *monitor.Monitor
	key        release.LogKey
	metrics    monitor.Metrics
	notChecked []string
}

func logMonitor(c *cli.Context, e *env) error {
	if err := wantArgs(c, "LOG"); err != nil {
		return err
	}
	if err := requireFlags(c, "state"); err != nil {
		return err
	}
	switch {
	case c.Bool("once") && (c.IsSet("every") || c.IsSet("metrics")):
		return usagef("--once goes with neither --every nor --metrics")
	case c.Duration("every") <= 0 || c.Duration("wait") < 0 || c.Duration("full-every") < 0:
		return usagef("--every wants a time above 0, --wait and --full-every one of at least 0")
	case c.IsSet("policy") && c.IsSet("log-key"):
		return usagef("--log-key goes without --policy, which names the log's key")
	}
	src, err := tlog.OpenSource(c.Args().First(), http.DefaultClient)
	if err != nil {
		return err
	}
	w := &watcher{e: e}
	p, err := w.policy(c, src)
	if err != nil {
		return err
	}
	w.key = p.Log.Key
	o := monitor.Options{Source: src, Dir: c.String("state"), Policy: p, Now: time.Now, Wait: c.Duration("wait"), Full: c.Bool("full"), FullEvery: c.Duration("full-every")}
	if command := c.String("exec"); command != "" {
		o.Run = func(ctx context.Context, r monitor.Release, bundle string) error {
			return runFor(ctx, e, command, c.Args().First(), r, bundle)
		}
	}
	if w.m, err = monitor.Open(o); err != nil {
		return err
	}
	if c.Bool("once") {
		return w.once(c.Context)
	}
	return w.follow(c)
}

// policy is what the log is held against.
func (w *watcher) policy(c *cli.Context, src tlog.Source) (*release.Policy, error) {
	if c.IsSet("policy") {
		file, err := loadPolicy(c)
		if err != nil {
			return nil, err
		}
		if err := file.Release.Check(); err != nil {
			return nil, verdict(exitAppraisal, string(release.PolicyEmpty), "%w", err)
		}
		if file.Release.Log.Unwitnessed {
			w.notChecked = append(w.notChecked, "witnesses: the policy asks for none")
		}
		return &file.Release, nil
	}
	w.notChecked = []string{"signers: no policy names them", "witnesses: no policy names them"}
	p := &release.Policy{Log: release.LogPolicy{Unwitnessed: true}}
	var err error
	if c.IsSet("log-key") {
		p.Log.Key, err = logKeyArg(c.String("log-key"))
		return p, err
	}
	p.Log.Key, err = firstKey(c, src)
	return p, err
}

func (w *watcher) once(ctx context.Context) error {
	rep, err := w.m.Round(ctx)
	perr := w.print(rep)
	if perr == nil {
		perr = w.m.Told(rep)
	}
	return roundVerdict(rep, errors.Join(err, perr))
}

// roundVerdict is the exit code of a round that failed, or did not. What failed after the round had found something hides
// no alert that no later round says again, but for the mild ones.
func roundVerdict(rep *monitor.Report, failed error) error {
	alert := alertVerdict(rep)
	if alert != nil && exitCode(alert) == exitUnverified {
		return errors.Join(alert, failed)
	}
	return cmp.Or(failed, alert)
}

// alertVerdict is the exit code of what a round found.
func alertVerdict(rep *monitor.Report) error {
	if rep == nil || len(rep.Alerts) == 0 {
		return nil
	}
	code, worst := exitAppraisal, rep.Alerts[0]
	for _, a := range rep.Alerts {
		if !mild(a.Reason) {
			code, worst = exitUnverified, a
			break
		}
	}
	return verdict(code, string(worst.Reason), "%s: %s (%d alerts)", worst.Reason, worst.Text, len(rep.Alerts))
}

// mild says that cryptography held.
func mild(r release.Reason) bool {
	return r.Policy() || r == monitor.Unexpected || r == monitor.Command
}

// print prints what a round found, also one that failed after that, when it ends.
func (w *watcher) print(rep *monitor.Report) error {
	if rep == nil {
		return nil
	}
	a := monitorAnswer{
		"tally.log-audit/v1", w.key.Origin(), rep.Size, rep.Audited, rep.Fresh, rep.Again, rep.Bare, "",
		append([]monitor.Release{}, rep.Releases...), append([]monitor.Channel{}, rep.Channels...), append([]monitor.Rebuild{}, rep.Rebuilds...),
		append([]monitor.Alert{}, rep.Alerts...), append([]string{}, w.notChecked...),
	}
	if !rep.Cosigned.IsZero() {
		a.CosignedAt = rep.Cosigned.UTC().Format(time.RFC3339)
	}
	if w.e.json {
		return errors.Join(w.e.printJSON(a), w.e.flush())
	}
	for _, r := range a.Releases {
		w.e.printf("release %s %s sequence %d index %d payload %s\n", r.Name, r.Version, r.Sequence, r.Index, r.Payload)
	}
	for _, ch := range a.Channels {
		w.e.printf("channel %s sequence %d index %d\n", ch.Name, ch.Sequence, ch.Index)
	}
	for _, r := range a.Rebuilds {
		w.e.printf("rebuild %s %s %s by key %s index %d\n", r.Name, r.Version, r.Result, r.Signer, r.Index)
	}
	for _, al := range a.Alerts {
		at := ""
		if al.Index != nil {
			at = fmt.Sprintf(" leaf %d:", *al.Index)
		}
		w.e.printf("ALERT %s:%s %s\n", al.Reason, at, al.Text)
		if al.Evidence != "" {
			w.e.printf("evidence %s\n", al.Evidence)
		}
	}
	for _, n := range a.NotChecked {
		w.e.printf("not checked %s\n", n)
	}
	again := ""
	if a.Again > 0 {
		again = fmt.Sprintf(", %d read again", a.Again)
	}
	w.e.printf("log %s: %d leaves, %d audited, %d of them new%s, %d alerts\n", a.Origin, a.Size, a.Audited, a.Fresh, again, len(a.Alerts))
	return w.e.flush()
}

// follow looks again and again until the context ends.
func (w *watcher) follow(c *cli.Context) error {
	if address := c.String("metrics"); address != "" {
		ln, err := new(net.ListenConfig).Listen(c.Context, "tcp", address)
		if err != nil {
			return err
		}
		w.e.logf("metrics at http://%s/metrics", ln.Addr())
		srv := &http.Server{Handler: &w.metrics, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
		defer srv.Close()
		go srv.Serve(ln)
	}
	tick := time.NewTicker(c.Duration("every"))
	defer tick.Stop()
	for {
		start := time.Now()
		rep, err := w.m.Round(c.Context)
		if perr := w.print(rep); perr != nil {
			return perr
		}
		if err = errors.Join(err, w.m.Told(rep)); c.Context.Err() != nil {
			return nil
		}
		w.metrics.Add(rep, start, time.Now())
		if err != nil {
			w.e.complain("%v", err)
		}
		select {
		case <-c.Context.Done():
			return nil
		case <-tick.C:
		}
	}
}

// runFor runs the command of --exec for one release.
func runFor(ctx context.Context, e *env, command, place string, r monitor.Release, bundle string) error {
	bundle, err := filepath.Abs(bundle)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Stdout, cmd.Stderr = e.stderr, e.stderr
	cmd.Env = append(os.Environ(), "TALLY_BUNDLE="+bundle, "TALLY_LOG="+place, "TALLY_NAME="+r.Name, "TALLY_VERSION="+r.Version,
		fmt.Sprintf("TALLY_SEQUENCE=%d", r.Sequence), fmt.Sprintf("TALLY_LOG_INDEX=%d", r.Index), "TALLY_PAYLOAD_SHA256="+r.Payload.String())
	return cmd.Run()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/monitor"
)

const followHelp = "With --follow LOG (a published directory or its URL) every release in the log is rebuilt and attested, those that are there and each\n" +
	"new one, until interrupted. The log is watched as 'tally log monitor' does; its alerts stand on stderr. What is still to be rebuilt is in\n" +
	"the directory of --state, so that a rebuild that failed is tried again in the next round and one that was killed is not forgotten. The directory may be that of\n" +
	"'tally log monitor' and of clients: what the log has shown is shared with them, what was rebuilt stands in DIR/follow and DIR/rebuild. With -o\n" +
	"OUT is a directory of bundles, PAYLOAD.sigstore.json each. Every rebuild is printed as it ends (--json: one tally.rebuild/v1 each). With\n" +
	"--once: exit 4 the log's worst alert, else 3 a rebuild differs, else 1 one could not be done, else 5 an alert of the policy's, else 0.\n\n"

func followFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "follow", Usage: "rebuild every release in `LOG` and attest it"},
		&cli.BoolFlag{Name: "once", Usage: "with --follow: look once, rebuild what is there, and end"},
		&cli.DurationFlag{Name: "every", Value: 5 * time.Minute, Usage: "with --follow: look every `DURATION`"},
	}
}

// A follower rebuilds what appears in a log.
type follower struct {
	c       *cli.Context
	e       *env
	a       *attester
	src     tlog.Source
	files   *finder // in --from, else where the log is published
	queue   string  // directory with the bundles still to be rebuilt
	out     string  // directory for statements, or empty
	m       *monitor.Monitor
	differs bool
}

func rebuildFollow(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	if err := requireFlags(c, "policy", "state"); err != nil {
		return err
	}
	if !c.Bool("attest") || c.IsSet("keep") || c.Duration("every") <= 0 {
		return usagef("--follow wants --attest and a time above 0 for --every, and excludes --keep")
	}
	a, err := newAttester(c, e)
	if err != nil {
		return err
	}
	p, err := loadPolicy(c)
	if err != nil {
		return err
	}
	p.Release.Rebuilders = release.RebuilderPolicy{}
	if err := p.Release.Check(); err != nil {
		return verdict(exitAppraisal, string(release.PolicyEmpty), "%w", err)
	}
	f := &follower{c: c, e: e, a: a, queue: filepath.Join(c.String("state"), "rebuild"), out: c.String("o")}
	if f.src, err = tlog.OpenSource(c.String("follow"), http.DefaultClient); err != nil {
		return err
	}
	if f.files, err = newFinder(append(c.StringSlice("from"), c.String("follow"))); err != nil {
		return err
	}
	own := filepath.Join(c.String("state"), "follow")
	_, queued := os.Lstat(f.queue)
	_, apart := os.Lstat(own)
	for _, dir := range []string{f.queue, f.out} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := f.openMonitor(&p.Release, own, queued == nil && errors.Is(apart, fs.ErrNotExist)); err != nil {
		return err
	}
	if c.Bool("once") {
		return f.once()
	}
	return f.loop(c.Duration("every"))
}

// openMonitor opens what is remembered. It is not what 'tally log monitor' remembers in the same directory: what that has seen is
// still to be rebuilt. Followers of earlier versions shared it, and go on from there.
func (f *follower) openMonitor(p *release.Policy, own string, earlier bool) (err error) {
	var from string
	f.m, from, err = monitor.OpenApart(monitor.Options{Source: f.src, Dir: f.c.String("state"), Policy: p, Now: time.Now, Wait: 5 * time.Second, FullEvery: fullEvery, Run: f.enqueue}, own, earlier)
	if err == nil && from != "" {
		f.e.complain("goes on from %s: what 'tally log monitor' saw there first was not rebuilt; to rebuild all of the log, remove %s and %s", from, own, f.queue)
	}
	return err
}

// enqueue keeps a new release's bundle until it was rebuilt. Until it could, the monitor does.
func (f *follower) enqueue(_ context.Context, r monitor.Release, bundle string) error {
	data, err := readSmall(bundle, release.MaxBundle)
	if err == nil {
		err = atomicfile.WriteFile(filepath.Join(f.queue, r.Payload.String()), data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("%w; %w", err, monitor.ErrKeep)
	}
	return nil
}

func (f *follower) once() error {
	rep, err := f.round()
	if err != nil {
		return roundVerdict(rep, err)
	}
	failed := f.work()
	alert := alertVerdict(rep)
	switch {
	case alert != nil && exitCode(alert) == exitUnverified:
		return errors.Join(alert, failed)
	case f.differs:
		return verdict(exitDiffers, "bytes", "a rebuild differs from its release")
	case failed != nil: // whatever a rebuild by itself would end with: 4 is the log's
		return &exitError{code: exitFailed, err: failed}
	}
	return alert
}

func (f *follower) loop(every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_, err := f.round()
		if err = errors.Join(err, f.work()); f.c.Context.Err() != nil {
			return nil
		}
		if err != nil {
			f.e.complain("%v", err)
		}
		select {
		case <-f.c.Context.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round looks at the log once and says what is wrong.
func (f *follower) round() (*monitor.Report, error) {
	rep, err := f.m.Round(f.c.Context)
	if rep != nil {
		for _, a := range rep.Alerts {
			f.e.complain("ALERT %s: %s", a.Reason, a.Text)
		}
	}
	return rep, errors.Join(err, f.m.Told(rep))
}

// work rebuilds what waits; what fails waits on.
func (f *follower) work() error {
	files, err := os.ReadDir(f.queue)
	if err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		if _, err := release.ParseDigest(file.Name()); err != nil {
			continue // being written
		}
		path := filepath.Join(f.queue, file.Name())
		if err := f.rebuild(path); err != nil {
			f.e.complain("release %s is tried again later: %v", file.Name(), err)
			failed = append(failed, err)
			if f.c.Context.Err() != nil {
				break
			}
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

func (f *follower) rebuild(path string) error {
	data, err := readSmall(path, release.MaxBundle)
	if err != nil {
		return err
	}
	s, payload, err := parseStatement(data, path)
	if err != nil {
		return err
	}
	t := newTarget(s, payload, func(d release.Digest) (io.ReadCloser, error) { return f.files.open(f.c.Context, d) })
	t.verified = true // by the monitor, before it came into the queue
	a := *f.a
	if a.registry != "" && !t.has(release.OCIManifest) {
		f.e.logf("release %s is in no registry: what is said of it is logged alone", payload)
		a.registry = ""
	}
	if f.out != "" {
		a.file = filepath.Join(f.out, payload.String()+".sigstore.json")
	}
	r, err := t.rebuild(f.c, f.e, &a)
	switch {
	case r == nil:
		return err
	case err != nil:
		f.e.complain("release %s: %v", payload, err) // an answer: the same again would come of another try
	}
	f.differs = f.differs || !r.Reproduced
	if !f.e.json {
		rel := s.Predicate.Release
		f.e.printf("%s %s, sequence %d, payload %s\n", rel.Name, rel.Version, rel.Sequence, payload)
	}
	var answer *exitError
	if err := printRebuild(f.e, t, r); err != nil && (!errors.As(err, &answer) || answer.code != exitDiffers) {
		return err
	}
	return f.e.flush()
}

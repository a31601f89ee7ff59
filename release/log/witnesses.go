package log

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/transparency-dev/tessera"

	"tally/release"
)

// witnesses are those whom a log asks to cosign.
type witnesses struct {
	quorum release.Quorum
	group  tessera.WitnessGroup // the same, for Tessera
}

// readPolicy reads the log's own policy.txt; nil means that it wants no cosignatures.
func readPolicy(dir string, key release.LogKey) (*witnesses, error) {
	path := filepath.Join(dir, PolicyFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("log: %w: without it nobody can tell who must cosign", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, release.MaxWitnessPolicy+1))
	if err != nil {
		return nil, err
	}
	return parsePolicy(data, path, key)
}

func parsePolicy(data []byte, name string, key release.LogKey) (*witnesses, error) {
	p, err := release.ParseWitnessPolicy(data, name)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(p.Logs, func(k release.LogKey) bool { return k.String() == key.String() }) {
		return nil, fmt.Errorf("%s: does not name the log %q", name, key.Origin())
	}
	if p.Quorum.IsZero() {
		return nil, nil
	}
	for _, w := range p.Quorum.Witnesses() {
		if p.URLs[w.String()] == "" {
			return nil, fmt.Errorf("%s: witness %q: no URL to ask it at", name, w.Name())
		}
	}
	group, err := tessera.NewWitnessGroupFromPolicy(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &witnesses{p.Quorum, group}, nil
}

// unpublished says why no checkpoint came.
func (l *Log) unpublished(ctx context.Context, what string, err error) error {
	l.failed = true
	if ctx.Err() == nil && !l.quorum.IsZero() && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("log %q: %s: nothing is published that %s has not cosigned (%s); %s", l.dir, what, l.quorum, l.trace, l.advice(ctx))
	}
	return fmt.Errorf("log %q: %s: %w", l.dir, what, err)
}

func (l *Log) advice(ctx context.Context) string {
	if size, err := l.reader.IntegratedSize(ctx); err == nil && l.trace.another(size) {
		return "a witness has cosigned a longer tree, or another one, and trying again does not help: is the directory an old copy?"
	}
	if l.refresh {
		return "the checkpoint stays as it was"
	}
	return "publishing again finishes it"
}

// settle waits until the published checkpoint commits to everything in the tree.
func (l *Log) settle(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("log %q: %w", l.dir, err)
	}
	return l.until(ctx, wait, "publish what an earlier run left", func(n int64, _ []byte) bool { return uint64(n) >= size })
}

// until waits for a checkpoint that ok accepts.
func (l *Log) until(ctx, wait context.Context, what string, ok func(size int64, checkpoint []byte) bool) error {
	for {
		tree, text, err := l.tree(ctx)
		if err != nil {
			return err
		}
		if ok(tree.N, text) {
			return nil
		}
		select {
		case <-wait.Done():
			return l.unpublished(ctx, what, wait.Err())
		case <-time.After(poll):
		}
	}
}

// Refresh collects new cosignatures on the log in dir without a new leaf, and returns the time since which the
// quorum has met. A static directory goes stale otherwise: clients want young cosignatures. A cosignature that is
// older than what is there, or that no client would take yet, does not count.
func Refresh(ctx context.Context, dir, keyFile string, now func() time.Time, logger *slog.Logger) (t time.Time, err error) {
	old, err := os.ReadFile(filepath.Join(dir, CheckpointFile))
	if err != nil {
		return t, err
	}
	weigh, err := younger(dir, old, now)
	if err != nil {
		return t, err
	}
	l, err := openKey(ctx, dir, keyFile, logger, settings{batch: 1, republish: checkpoint, weigh: weigh})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	wait, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	err = l.until(ctx, wait, "refresh", func(_ int64, text []byte) bool {
		var unmet error
		t, unmet = l.quorum.Met(text)
		return unmet == nil && string(text) != string(old)
	})
	return t, err
}

// younger weighs a cosignature that is to take the place of those on the checkpoint old.
func younger(dir string, old []byte, now func() time.Time) (func(time.Time) error, error) {
	key, err := ReadKey(dir)
	if err != nil {
		return nil, err
	}
	policy, err := readPolicy(dir, key)
	if err != nil {
		return nil, err
	}
	if policy == nil {
		return nil, fmt.Errorf("log %q: its %s names no witnesses: there is nothing to refresh", dir, PolicyFile)
	}
	before, err := policy.quorum.Met(old)
	if err != nil || before.After(now().Add(release.Skew)) {
		before = time.Time{} // what nobody takes is no better than what is older
	}
	ahead := notAhead(now)
	return func(t time.Time) error {
		if t.Before(before) {
			return fmt.Errorf("its cosignature of %s is older than those that are there, of %s: is its clock slow?", t.UTC().Format(time.RFC3339), before.UTC().Format(time.RFC3339))
		}
		return ahead(t)
	}, nil
}

// notAhead weighs a cosignature by the clock here.
func notAhead(now func() time.Time) func(time.Time) error {
	return func(t time.Time) error {
		if n := now(); t.After(n.Add(release.Skew)) {
			return fmt.Errorf("its cosignature of %s is more than %s ahead of the clock here, %s: is one of them wrong?", t.UTC().Format(time.RFC3339), release.Skew, n.UTC().Format(time.RFC3339))
		}
		return nil
	}
}

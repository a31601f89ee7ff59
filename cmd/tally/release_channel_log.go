package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/publish"
)

// publishChannel makes the channel's next statement, which change edits, signs it, logs it and prints what it says.
func publishChannel(c *cli.Context, e *env, name, channel string, now time.Time, change func(*release.ChannelPredicate) error) error {
	seal, err := newSealer(c, e)
	if err != nil {
		return err
	}
	dir := strings.TrimRight(c.String("log"), "/")
	l, err := tlog.Open(c.Context, dir, firstOf(c.String("log-key"), dir+".key"), time.Now, e.logger())
	if err != nil {
		return err
	}
	a, err := logChannel(c, e, l, seal, name, channel, now, change)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	pushed := ""
	if repository := c.String("registry"); repository != "" {
		if pushed, err = registryAt(repository).Channel(c.Context, a.p.Bundle, a.who.key); err != nil {
			return fmt.Errorf("%w (logged at index %d; no file was written: the next statement of the channel can be pushed)", err, a.p.Index)
		}
	}
	if c.IsSet("output") {
		if err := atomicfile.WriteFile(c.String("output"), a.p.Bundle, 0o644); err != nil {
			return fmt.Errorf("%w (the statement is in force: logged at index %d, and stored as %s)", err, a.p.Index, filepath.Join(dir, publish.ChannelPath(a.statement.Key())))
		}
	}
	return printChannel(e, dir, a, pushed)
}

// A loggedChannel is a statement that was signed and logged.
type loggedChannel struct {
	statement *release.Channel
	bundle    *release.Bundle
	who       signer
	p         *publish.Published
}

// logChannel makes the statement that follows the last one, signs and logs it. All of that under the log's lock: two runs must
// not make two statements of one sequence.
func logChannel(c *cli.Context, e *env, l *tlog.Log, seal sealer, name, channel string, now time.Time, change func(*release.ChannelPredicate) error) (*loggedChannel, error) {
	key := name + "@" + channel
	if err := finishChannel(c, e, l, seal, key); err != nil {
		return nil, err
	}
	if err := finishBegun(c.Context, e, l, nil); err != nil {
		return nil, err
	}
	old, err := publish.LatestChannel(l.Dir(), key)
	if err != nil {
		return nil, err
	}
	p := release.ChannelPredicate{Name: name, Channel: channel}
	if old != nil {
		p = old.Predicate
	}
	p.Sequence++
	p.IssuedAt = now.UTC().Truncate(time.Second)
	p.ValidUntil = p.IssuedAt.Add(c.Duration("valid-for").Truncate(time.Second))
	if err := change(&p); err != nil {
		return nil, err
	}
	a := &loggedChannel{statement: release.NewChannel(p)}
	var data []byte
	if a.bundle, data, a.who, err = seal.bundle(a.statement.Marshal()); err != nil {
		return nil, err
	}
	a.p, err = publish.Channel(c.Context, l, data, a.who.key)
	return a, err
}

// finishChannel publishes what an earlier run began in the channel and did not come to the end of: it may be in the log already,
// where the next statement would be another one of the same sequence. Its own signature counts, as far as it got.
func finishChannel(c *cli.Context, e *env, l *tlog.Log, seal sealer, key string) error {
	begun, err := publish.BegunChannel(l.Dir(), key)
	if err != nil {
		return err
	}
	for _, was := range begun {
		file := filepath.Join(l.Dir(), was.Path)
		_, data, who, err := seal.bundle(was.Payload, nil)
		if err != nil {
			return err
		}
		if who.key.ID() != was.Signer {
			return withHint(fmt.Errorf("%s: a statement of channel %s by key %s that was not published to the end: want that signer, to finish it", file, key, was.Signer),
				"without the file it is given up; monitors then miss its bundle if the log has it")
		}
		p, err := publish.Channel(c.Context, l, data, who.key)
		if errors.Is(err, publish.ErrOvertaken) { // an earlier version began the next one without it
			e.logf("%s is given up: %v", file, err)
			if err := os.Remove(file); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("finishing %s of an earlier run: %w", file, err)
		}
		e.logf("the statement of channel %s that an earlier run began is finished, at index %d", key, p.Index)
	}
	return nil
}

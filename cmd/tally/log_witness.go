package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"tally/internal/cli"
	"tally/release"
	"tally/release/witness"
)

func logWitnessCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "witness", Usage: "cosign the checkpoints of logs, until interrupted", ArgsUsage: "DIR",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "create", Usage: "make a witness called `NAME` in DIR, which must be absent or empty, and end"},
			&cli.StringSliceFlag{Name: "log", Usage: "cosign this log: its verifier key, or a `FILE` that holds it (log.vkey); may stand more than once"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8081", Usage: "`ADDRESS` to listen on"},
		},
		Description: "Speaks C2SP tlog-witness (add-checkpoint) over HTTP. A checkpoint is cosigned only when it contains what was cosigned\n" +
			"before; what was is in DIR, on disk before each answer. Who runs it should be somebody else than the log's owner. Two trees\n" +
			"of one size that a log signed are kept in DIR/evidence. Never put an old copy of DIR back: what was cosigned since would be\n" +
			"forgotten, and a fork of it cosigned.\n" +
			"--json prints tally.witness/v1: name, vkey, url (absent with --create).\n\n" +
			"   tally log witness w --create witness.example.org\n   tally log witness w --log pub/log.vkey --listen 0.0.0.0:8081",
		Action: func(c *cli.Context) error { return logWitness(c, e) },
	}
}

// A witnessAnswer is tally.witness/v1.
type witnessAnswer struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	VKey   string `json:"vkey"`
	URL    string `json:"url,omitempty"`
}

func (a witnessAnswer) print(e *env) error {
	if e.json {
		return e.printJSON(a)
	}
	e.printf("witness %s\nvkey %s\n", a.Name, a.VKey)
	if a.URL != "" {
		e.printf("serving at %s\n", a.URL)
	}
	return nil
}

func logWitness(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DIR"); err != nil {
		return err
	}
	dir, name := c.Args().First(), c.String("create")
	if (name == "") == (len(c.StringSlice("log")) == 0) {
		return usagef("want either --create NAME or --log FILE")
	}
	if name != "" {
		k, err := witness.Create(dir, name, rand.Reader)
		if err != nil {
			return err
		}
		return witnessAnswer{"tally.witness/v1", k.Name(), k.String(), ""}.print(e)
	}
	o := witness.Options{Now: time.Now, Logger: e.logger()}
	for _, l := range c.StringSlice("log") {
		k, err := logKeyArg(l)
		if err != nil {
			return err
		}
		o.Logs = append(o.Logs, k)
	}
	return serveWitness(c, e, dir, o)
}

func serveWitness(c *cli.Context, e *env, dir string, o witness.Options) error {
	w, err := witness.Open(dir, o)
	if err != nil {
		return err
	}
	defer w.Close()
	ln, err := new(net.ListenConfig).Listen(c.Context, "tcp", c.String("listen"))
	if err != nil {
		return err
	}
	a := witnessAnswer{"tally.witness/v1", w.Key().Name(), w.Key().String(), "http://" + ln.Addr().String()}
	if err := a.print(e); err != nil {
		return errors.Join(err, ln.Close())
	}
	if err := e.flush(); err != nil {
		return errors.Join(err, ln.Close())
	}
	return w.Serve(c.Context, ln)
}

// logKeyArg reads a log's verifier key: the argument itself, or a file's one line.
func logKeyArg(s string) (release.LogKey, error) {
	data, err := readSmall(s, 4096)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strings.Count(s, "+") >= 2:
		return release.ParseLogKey(s)
	case err != nil:
		return release.LogKey{}, err
	}
	k, err := release.ParseLogKey(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		err = fmt.Errorf("%s: %w", s, err)
	}
	return k, err
}

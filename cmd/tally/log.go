package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"time"

	"tally/internal/cli"
	"tally/release"
	tlog "tally/release/log"
)

func logCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "log",
		Usage: "make, serve, refresh, witness and monitor a transparency log",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make an empty log in DIR", ArgsUsage: "DIR",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "origin", Usage: "the log's `NAME`: a bare host name, never used for another log"},
					&cli.StringFlag{Name: "key", Usage: "write the private key to `FILE` (default: DIR.key, beside the directory)"},
					&cli.StringFlag{Name: "witness-policy", Usage: "publish nothing that the quorum in `FILE` (C2SP tlog-policy, without log lines) has not cosigned"},
				},
				Description: "DIR gets a C2SP tlog-tiles log (checkpoint, tile/), log.vkey, policy.txt (C2SP tlog-policy) and\n" +
					"trusted_root.json (Sigstore), and can be served by any static web server. The private key stays outside.\n\n" +
					"With --witness-policy each witness in FILE needs the URL at which it is asked, and must be told of the log's\n" +
					"verifier key (tally log witness W --log DIR/log.vkey) before anything can be published.\n\n" +
					"Never put an old copy of DIR back: witnesses and clients remember what came after it, and refuse a log that lost it.\n\n" +
					"--json prints tally.log/v1: origin, vkey, key_file.\n\n   tally log create pub --origin log.example.org",
				Action: func(c *cli.Context) error { return logCreate(c, e) },
			},
			{
				Name: "serve", Usage: "serve a log directory over HTTP until interrupted", ArgsUsage: "DIR",
				Flags: []cli.Flag{&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8080", Usage: "`ADDRESS` to listen on"}},
				Description: "Read-only, without hidden files. Prints the address once it listens; any other static web server does as well.\n" +
					"--json prints tally.log/v1: origin, vkey, url.",
				Action: func(c *cli.Context) error { return logServe(c, e) },
			},
			logRefreshCommand(e),
			logWitnessCommand(e),
			logMonitorCommand(e),
		},
	}
}

// A logAnswer is tally.log/v1.
type logAnswer struct {
	Schema  string `json:"schema"`
	Origin  string `json:"origin"`
	VKey    string `json:"vkey"`
	KeyFile string `json:"key_file,omitempty"`
	URL     string `json:"url,omitempty"`

	CosignedAt string `json:"cosigned_at,omitempty"`
}

func logCreate(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DIR"); err != nil {
		return err
	}
	if err := requireFlags(c, "origin"); err != nil {
		return err
	}
	dir := strings.TrimRight(c.Args().First(), "/")
	keyFile := c.String("key")
	if keyFile == "" {
		keyFile = dir + ".key"
	}
	var witnesses []byte
	if file := c.String("witness-policy"); file != "" {
		var err error
		if witnesses, err = readSmall(file, release.MaxWitnessPolicy); err != nil {
			return err
		}
		if len(witnesses) == 0 {
			return fmt.Errorf("%s: empty: want witness, group and quorum lines", file)
		}
	}
	key, err := tlog.Create(c.Context, dir, tlog.CreateOptions{
		Origin: c.String("origin"), KeyFile: keyFile, Rand: rand.Reader, Now: time.Now(), Logger: e.logger(), Witnesses: witnesses,
	})
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(logAnswer{Schema: "tally.log/v1", Origin: key.Origin(), VKey: key.String(), KeyFile: keyFile})
	}
	e.printf("log %s\nvkey %s\nprivate key %s\n", key.Origin(), key, keyFile)
	return nil
}

func logServe(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DIR"); err != nil {
		return err
	}
	dir := c.Args().First()
	key, err := tlog.ReadKey(dir)
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(c.Context, "tcp", c.String("listen"))
	if err != nil {
		return err
	}
	url := "http://" + ln.Addr().String() + "/"
	if e.json {
		err = e.printJSON(logAnswer{Schema: "tally.log/v1", Origin: key.Origin(), VKey: key.String(), URL: url})
	} else {
		e.printf("serving %s at %s\n", key.Origin(), url)
	}
	if err != nil {
		return err
	}
	if err := e.flush(); err != nil {
		return err
	}
	return tlog.Serve(c.Context, ln, dir)
}

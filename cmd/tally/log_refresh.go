package main

import (
	"strings"
	"time"

	"tally/internal/cli"
	tlog "tally/release/log"
)

func logRefreshCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "refresh", Usage: "collect new cosignatures on a log directory without adding anything", ArgsUsage: "DIR",
		Flags: []cli.Flag{&cli.StringFlag{Name: "key", Usage: "the log's private key `FILE` (default: DIR.key)"}},
		Description: "Clients want the newest cosignatures at hand to be young (cosignature-max-age of their policy), and a log that grows seldom\n" +
			"goes stale. Run it by a timer. The witnesses are those of DIR/policy.txt; nothing changes unless their quorum is met.\n" +
			"A cosignature older than those that are there, or over five minutes ahead of this machine's clock, does not count.\n" +
			"--json prints tally.log/v1: origin, vkey, cosigned_at.\n\n   tally log refresh pub",
		Action: func(c *cli.Context) error { return logRefresh(c, e) },
	}
}

func logRefresh(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DIR"); err != nil {
		return err
	}
	dir := strings.TrimRight(c.Args().First(), "/")
	key, err := tlog.ReadKey(dir)
	if err != nil {
		return err
	}
	keyFile := c.String("key")
	if keyFile == "" {
		keyFile = dir + ".key"
	}
	at, err := tlog.Refresh(c.Context, dir, keyFile, time.Now, e.logger())
	if err != nil {
		return err
	}
	when := at.UTC().Format(time.RFC3339)
	if e.json {
		return e.printJSON(logAnswer{Schema: "tally.log/v1", Origin: key.Origin(), VKey: key.String(), CosignedAt: when})
	}
	e.printf("%s cosigned %s\n", key.Origin(), when)
	return nil
}

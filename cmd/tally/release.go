package main

import (
	"fmt"
	"io"
	"os"

	"tally/internal/cli"
	"tally/release"
)

func releaseCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "release",
		Usage: "sign, publish and verify releases",
		Subcommands: []*cli.Command{
			releaseKeygenCommand(e),
			releaseSignCommand(e),
			releasePublishCommand(e),
			releaseChannelCommand(e),
			releaseRevokeCommand(e),
			releaseFetchCommand(e),
			releaseVerifyCommand(e),
		},
	}
}

// readBundle reads a bundle file, "-" for stdin.
func readBundle(e *env, path string) ([]byte, error) {
	r := e.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	// One byte more than allowed is enough for the parser to refuse it.
	data, err := io.ReadAll(io.LimitReader(r, release.MaxFile+1))
	if err != nil {
		return nil, err // names path
	}
	return data, nil
}

// readSmall reads a key, a certificate, a policy or the like: what has more than limit bytes is none.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: longer than %d bytes", name, limit)
	}
	return b, err
}

// requireFlags is a usage error that names the first of the flags that was not given.
func requireFlags(c *cli.Context, names ...string) error {
	for _, name := range names {
		if c.String(name) == "" {
			return usagef("%s wants --%s", c.Command.Name, name)
		}
	}
	return nil
}

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tally/internal/cli"
	"tally/release"
	"tally/release/publish"
)

func releaseRevokeCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "take releases, rebuild statements or keys back, for ever", ArgsUsage: "NAME[@CHANNEL] WHAT...",
		Flags: append(append(passwordFlags(), keylessFlags()...),
			&cli.StringFlag{Name: "log", Usage: "the log's `DIR`, where the releases were published"},
			&cli.StringFlag{Name: "log-key", Usage: "the log's private key `FILE` (default: DIR.key)"},
			&cli.StringFlag{Name: "key", Usage: "signing key, a `FILE` or NAME://ID: one that the policies name under release.revocation-keys"},
			channelRegistryFlag(),
			&cli.StringFlag{Name: "reason", Usage: "why, as `TEXT` for people"},
			&cli.DurationFlag{Name: "valid-for", Value: 10 * 365 * 24 * time.Hour, Usage: "the statement expires after `TIME`; the revocations in it never do"},
			&cli.StringFlag{Name: "at", Usage: "issue as of `TIME` (RFC 3339; default: now)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "also write the statement's bundle to `FILE`"}),
		Description: "WHAT is a BUNDLE of a release or of a rebuild, the SHA-256 of its payload, or a public key's FILE: whatever that key signed is revoked\n" +
			"with it. The statement is a channel statement, of the channel \"" + publish.RevokedChannel + "\" unless NAME@CHANNEL says otherwise, that repeats what was revoked before\n" +
			"and lists nothing as current there; in a channel of the maintainer's, what is current stays so, and its signers sign. Nothing takes a revocation back.\n" +
			"'tally release fetch' looks in the channel \"" + publish.RevokedChannel + "\" and in the one that the client's policy or the user names, in no other: who follows none of\n" +
			"those is not told.\n" + passwordHelp +
			"\n" + keyRefHelp + "\n" + keylessHelp +
			"\n--json prints tally.channel/v1 as 'release channel' does.\n\n" +
			"   tally release revoke minimal old.sigstore.json stolen.pub --log pub --key revoke.key --reason 'the key was stolen'",
		Action: func(c *cli.Context) error { return releaseRevoke(c, e) },
	}
}

func releaseRevoke(c *cli.Context, e *env) error {
	if c.NArg() < 2 {
		return usagef("want NAME[@CHANNEL] and at least one WHAT")
	}
	if err := checkSigner(c, "log"); err != nil {
		return err
	}
	name, channel, ok := strings.Cut(c.Args().First(), "@")
	if !ok {
		channel = publish.RevokedChannel
	}
	if !release.ValidLabel(name) || !release.ValidLabel(channel) {
		return usagef("%.256q: want NAME or NAME@CHANNEL", c.Args().First())
	}
	now, err := timeFlag(c, "at")
	if err != nil {
		return err
	}
	if channel != publish.RevokedChannel {
		e.logf("'release fetch' finds this only where channel %q is fetched: everybody else looks in %s@%s alone", channel, name, publish.RevokedChannel)
	}
	return publishChannel(c, e, name, channel, now, func(p *release.ChannelPredicate) error {
		for _, arg := range c.Args().Tail() {
			what, err := revocation(arg)
			if err != nil {
				return err
			}
			what.Reason, what.Since = c.String("reason"), p.IssuedAt
			revoke(p, what)
		}
		return nil
	})
}

// revoke adds a revocation, unless it is there, and takes what is revoked from the current releases.
func revoke(p *release.ChannelPredicate, what release.Revocation) {
	if !slices.ContainsFunc(p.Revoked, func(r release.Revocation) bool { return r.Statement == what.Statement }) {
		p.Revoked = append(p.Revoked, what)
	}
	p.Current = slices.DeleteFunc(p.Current, func(r release.CurrentRelease) bool { return r.Statement == what.Statement })
}

// revocation reads what is to be revoked: a digest, a public key or a bundle.
func revocation(arg string) (release.Revocation, error) {
	if d, err := release.ParseDigest(arg); err == nil {
		return release.Revocation{Statement: d}, nil
	}
	data, err := readSmall(arg, release.MaxFile)
	if err != nil {
		return release.Revocation{}, err
	}
	if k, err := release.ParsePublicKey(data); err == nil {
		return release.Revocation{Statement: k.ID(), Kind: release.RevokedKey}, nil
	}
	parts, err := release.Split(data)
	if err != nil {
		return release.Revocation{}, fmt.Errorf("%s: neither a public key nor a bundle: %w", arg, err)
	}
	b, err := release.ParseBundle(parts[0])
	if err != nil {
		return release.Revocation{}, fmt.Errorf("%s: %w", arg, err)
	}
	_, rerr := release.ParseStatement(b.Envelope.Payload)
	if _, err := release.ParseRebuild(b.Envelope.Payload); rerr != nil && err != nil {
		return release.Revocation{}, fmt.Errorf("%s: want a release or a rebuild: %w", arg, rerr)
	}
	return release.Revocation{Statement: release.PayloadDigest(b)}, nil
}

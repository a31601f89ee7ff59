package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tally/internal/cli"
	"tally/release"
	"tally/release/publish"
)

func releaseChannelCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "channel", Usage: "say, signed and logged, which releases are current and which are revoked", ArgsUsage: "NAME@CHANNEL",
		Flags: append(append(passwordFlags(), keylessFlags()...),
			&cli.StringFlag{Name: "log", Usage: "the log's `DIR`, where the releases were published"},
			&cli.StringFlag{Name: "log-key", Usage: "the log's private key `FILE` (default: DIR.key)"},
			&cli.StringFlag{Name: "key", Usage: "signing key: a `FILE` or NAME://ID"},
			channelRegistryFlag(),
			&cli.StringSliceFlag{Name: "current", Usage: "`BUNDLE` of a release that is current from now on; those before are not any more (several times)"},
			&cli.StringSliceFlag{Name: "revoke", Usage: "`BUNDLE` of a release, or its payload's SHA-256, that is taken back for ever (several times)"},
			&cli.StringFlag{Name: "reason", Usage: "why it is revoked, as `TEXT` for people"},
			&cli.StringSliceFlag{Name: "signer", Usage: "public key `FILE[,UNTIL]` that may sign releases from now on beside those the policies name, until a TIME (RFC 3339); those named before are not any more (several times)"},
			&cli.Uint64Flag{Name: "minimum-sequence", Usage: "releases below `NUMBER` are not to be run (default: as before)"},
			&cli.DurationFlag{Name: "valid-for", Value: 30 * 24 * time.Hour, Usage: "the statement expires after `TIME`"},
			&cli.StringFlag{Name: "at", Usage: "issue as of `TIME` (RFC 3339; default: now)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "also write the statement's bundle to `FILE`"}),
		Description: "The statement follows the last one in DIR: its sequence is one higher, and what no flag changes is taken over. Without --current and --revoke it\n" +
			"says the same again with a new date, which a channel needs before it expires. A revocation is never taken back. Keys change by --signer: a client\n" +
			"whose policy names this channel takes a release by a key that the statement names, as long as the statement is the one in force.\n" +
			"A statement that an earlier run began and did not come to the end of is finished first; its own signer must do that.\n" + passwordHelp +
			"\n" + keyRefHelp + "\n" + keylessHelp +
			"\n--json prints tally.channel/v1: name, channel, sequence, minimum_sequence, issued_at, valid_until, current (list of statement, version,\n" +
			"sequence), revoked (list of statement, kind, reason, since), signers (list of key, notBefore, notAfter), payload_sha256, key_id, log_index, path (in DIR), registry (HOST/PATH:TAG).\n\n" +
			"   tally release channel minimal@stable --log pub --key cosign.key --current minimal.sigstore.json",
		Action: func(c *cli.Context) error { return releaseChannel(c, e) },
	}
}

// A channelAnswer is tally.channel/v1.
type channelAnswer struct {
	Schema   string                   `json:"schema"`
	Name     string                   `json:"name"`
	Channel  string                   `json:"channel"`
	Sequence uint64                   `json:"sequence"`
	Minimum  uint64                   `json:"minimum_sequence"`
	Issued   time.Time                `json:"issued_at"`
	Until    time.Time                `json:"valid_until"`
	Current  []release.CurrentRelease `json:"current"`
	Revoked  []release.Revocation     `json:"revoked"`
	Signers  []release.NamedSigner    `json:"signers,omitempty"`
	Payload  release.Digest           `json:"payload_sha256"`
	KeyID    release.Digest           `json:"key_id"`
	Index    int64                    `json:"log_index"`
	Path     string                   `json:"path"`
	Registry string                   `json:"registry,omitempty"`
}

// channelRegistryFlag is --registry of release channel and revoke.
func channelRegistryFlag() cli.Flag {
	return &cli.StringFlag{Name: "registry", Usage: "also push the statement to the container registry's repository `HOST/PATH`, where the releases are"}
}

func releaseChannel(c *cli.Context, e *env) error {
	if err := wantArgs(c, "NAME@CHANNEL"); err != nil {
		return err
	}
	if err := checkSigner(c, "log"); err != nil {
		return err
	}
	name, channel, ok := strings.Cut(c.Args().First(), "@")
	if !ok || !release.ValidLabel(name) || !release.ValidLabel(channel) {
		return usagef("%q: want NAME@CHANNEL, such as minimal@stable", c.Args().First())
	}
	now, err := timeFlag(c, "at")
	if err != nil {
		return err
	}
	return publishChannel(c, e, name, channel, now, func(p *release.ChannelPredicate) error { return nextChannel(c, e, p) })
}

// nextChannel changes what the flags say.
func nextChannel(c *cli.Context, e *env, p *release.ChannelPredicate) error {
	if c.IsSet("minimum-sequence") {
		p.MinimumSequence = c.Uint64("minimum-sequence")
	}
	if err := setCurrent(c, e, strings.TrimRight(c.String("log"), "/"), p); err != nil {
		return err
	}
	if err := setSigners(c, p); err != nil {
		return err
	}
	if err := setRevoked(c, e, p); err != nil {
		return err
	}
	return dropBelow(c, p)
}

// dropBelow leaves out current releases below the minimum: none that --current names, and not the last one, which no later statement could
// make current again.
func dropBelow(c *cli.Context, p *release.ChannelPredicate) error {
	left := slices.DeleteFunc(slices.Clone(p.Current), func(r release.CurrentRelease) bool { return r.Sequence < p.MinimumSequence })
	switch gone := len(p.Current) - len(left); {
	case gone > 0 && c.IsSet("current"):
		return usagef("--current: a release below the channel's minimum sequence %d", p.MinimumSequence)
	case gone > 0 && len(left) == 0:
		return usagef("--minimum-sequence %d: no current release has that sequence; name with --current one that has", p.MinimumSequence)
	}
	p.Current = left
	return nil
}

// setCurrent replaces the current releases by those of --current, which must be published and of this name.
func setCurrent(c *cli.Context, e *env, dir string, p *release.ChannelPredicate) error {
	if !c.IsSet("current") {
		return nil
	}
	p.Current = nil
	for _, path := range c.StringSlice("current") {
		s, payload, err := readStatement(e, path)
		if err != nil {
			return err
		}
		rel := s.Predicate.Release
		if rel.Name != p.Name {
			return usagef("%s is a release of %q, the channel is of %q", path, rel.Name, p.Name)
		}
		if ok, err := publish.Holds(dir, payload); err != nil || !ok {
			return errors.Join(usagef("%s is not published in %s: 'tally release publish' comes first", path, dir), err)
		}
		p.Current = append(p.Current, release.CurrentRelease{Statement: payload, Version: rel.Version, Sequence: rel.Sequence})
	}
	return nil
}

// setSigners replaces the named signers by those of --signer.
func setSigners(c *cli.Context, p *release.ChannelPredicate) error {
	if c.IsSet("signer") {
		p.Signers = nil
	}
	for _, arg := range c.StringSlice("signer") {
		file, until, timed := strings.Cut(arg, ",")
		text, err := readSmall(file, 1<<20)
		if err != nil {
			return err
		}
		var s release.Signer
		if s.Key, err = release.ParsePublicKey(text); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if timed {
			if s.NotAfter, err = time.Parse(time.RFC3339, until); err != nil {
				return usagef("--signer %q: want RFC 3339 after the comma, such as 2027-01-01T00:00:00Z", arg)
			}
		}
		p.Signers = append(p.Signers, release.NameSigner(s))
	}
	return nil
}

// setRevoked adds the releases of --revoke, which are current no more.
func setRevoked(c *cli.Context, e *env, p *release.ChannelPredicate) error {
	for _, arg := range c.StringSlice("revoke") {
		payload, err := payloadArg(e, arg)
		if err != nil {
			return err
		}
		revoke(p, release.Revocation{Statement: payload, Reason: c.String("reason"), Since: p.IssuedAt})
	}
	return nil
}

// readStatement reads the statement of a bundle, unverified, with the digest that names it.
func readStatement(e *env, path string) (*release.Statement, release.Digest, error) {
	data, err := readBundle(e, path)
	if err != nil {
		return nil, release.Digest{}, err
	}
	return parseStatement(data, path)
}

// parseStatement takes the statement of a release out of its file, unverified.
func parseStatement(data []byte, path string) (*release.Statement, release.Digest, error) {
	var none release.Digest
	parts, err := release.Split(data)
	if err != nil {
		return nil, none, fmt.Errorf("%s: %w", path, err)
	}
	b, err := release.ParseBundle(parts[0])
	if err != nil {
		return nil, none, fmt.Errorf("%s: %w", path, err)
	}
	s, err := release.ParseStatement(b.Envelope.Payload)
	if err != nil {
		return nil, none, fmt.Errorf("%s: %w", path, err)
	}
	return s, release.PayloadDigest(b), nil
}

func printChannel(e *env, dir string, done *loggedChannel, pushed string) error {
	q := &done.statement.Predicate
	a := channelAnswer{
		"tally.channel/v1", q.Name, q.Channel, q.Sequence, q.MinimumSequence, q.IssuedAt, q.ValidUntil, q.Current, q.Revoked, q.Signers,
		release.PayloadDigest(done.bundle), done.who.key.ID(), done.p.Index, filepath.Join(dir, publish.ChannelPath(done.statement.Key())), pushed,
	}
	if e.json {
		return e.printJSON(a)
	}
	e.printf("channel %s, statement %d, valid until %s\n", done.statement.Key(), a.Sequence, a.Until.Format(time.RFC3339))
	for _, r := range a.Current {
		e.printf("current  %s %s (sequence %d)\n", r.Statement, r.Version, r.Sequence)
	}
	named, err := q.NamedSigners()
	if err != nil {
		return err
	}
	for _, s := range named {
		e.printf("signer   %s\n", s.Key.ID())
	}
	for _, r := range a.Revoked {
		e.printf("revoked  %s%s %q\n", strings.TrimLeft(r.Kind+" ", " "), r.Statement, r.Reason)
	}
	e.printf("logged at index %d\nstored %s\n", a.Index, a.Path)
	if pushed != "" {
		e.printf("pushed %s\n", pushed)
	}
	return nil
}

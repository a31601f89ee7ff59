package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"tally/internal/cli"
	"tally/policy"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/publish"
)

func releaseFetchCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "fetch", Usage: "get a release from where it is published, verify it, remember it", ArgsUsage: "NAME[@VERSION|@CHANNEL]",
		Flags: append(policyFlags(),
			&cli.StringFlag{Name: "from", Usage: "published `DIR|URL`, or oci://HOST/PATH of a registry (default: release.log.from of the policy)"},
			&cli.StringFlag{Name: "log", Usage: "ask the log at `DIR|URL` (default: release.log.from of the policy, else --from unless that is a registry)"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the release's bundle, and after it the channel statement's, rebuilds and revocations, to `FILE`"},
			tlogProofFlag(),
			&cli.StringFlag{Name: "at", Usage: "verify as of `TIME` (RFC 3339; default: now)"}),
		Description: "NAME alone means the channel that the policy names. Of a channel the current release with the highest sequence is taken; NAME@WORD is a channel\n" +
			"if there is one of that name. What the policy's rebuilders and revocation keys said about the release comes along. What comes is verified as by 'tally release verify'; only then is FILE written.\n" +
			"The log is asked last, where --log or else the policy's release.log.from says, and else at --from: for consistency, and for more rebuilds and revocations, which\n" +
			"a mirror or a registry then cannot hide; the channel statement is the one at --from, however old max-age lets it be. A mirror may be behind the log, not ahead.\n" +
			"When the log cannot be asked nothing is verified; whoever has a mirror alone names it in --log too.\n" +
			"Revocations are looked for in the channel that is fetched and in NAME@" + publish.RevokedChannel + ", in no other.\n" +
			"Printed are the checks and then reference-values.json as it was released.\n" +
			"From a registry come the releases, channels, rebuilds and revocations that were pushed there; it is not the log.\n" +
			tlogProofText +
			"Exit 1: not there, or no connection. Exit 4, " + verifyReasons + " Exit 4, reason name: another release than the one asked for.\n" +
			"--json prints tally.fetched-release/v1: the fields of tally.release-verification/v1, from, file, reference_values.\n\n" +
			"   tally release fetch minimal@stable --from https://releases.example/ --policy policy.yaml --state ~/.local/state/tally -o minimal.sigstore.json",
		Action: func(c *cli.Context) error { return releaseFetch(c, e) },
	}
}

// A fetchAnswer is tally.fetched-release/v1.
type fetchAnswer struct {
	verifyAnswer
	From            string          `json:"from"`
	File            string          `json:"file,omitempty"`
	ReferenceValues json.RawMessage `json:"reference_values"`
}

func releaseFetch(c *cli.Context, e *env) error {
	if err := wantArgs(c, "NAME[@VERSION|@CHANNEL]"); err != nil {
		return err
	}
	now, err := timeFlag(c, "at")
	if err != nil {
		return err
	}
	p, err := loadPolicy(c)
	if err != nil {
		return err
	}
	from := firstOf(c.String("from"), p.LogFrom)
	if from == "" {
		return usagef("release fetch wants --from DIR|URL: the policy names no place")
	}
	if err := p.Release.Check(); err != nil {
		return verdict(exitAppraisal, string(release.PolicyEmpty), "%w", err)
	}
	home, err := openPlace(from)
	if err != nil {
		return err
	}
	want, err := fetchWant(c, p, home)
	if err != nil {
		return err
	}
	at, err := theLog(c, p, home)
	if err != nil {
		return err
	}
	data, err := home.fetch(c.Context, want)
	if err == nil {
		data, err = fetchFurther(c.Context, p, home, at, want.Name, data)
	}
	if err != nil {
		return err
	}
	// The log is asked last: it may grow meanwhile, and of an earlier checkpoint what came later would be no part.
	v, err := newVerificationAt(c.Context, c, p, now, at)
	if err != nil {
		return err
	}
	return verifyFetched(c, e, v, home.String(), want, data)
}

// theLog is where the log is asked: where the flag or the policy says, whatever is fetched from elsewhere, else the published
// directory itself. A registry is no log.
func theLog(c *cli.Context, p *policy.Policy, home place) (tlog.Source, error) {
	if at := firstOf(c.String("log"), p.LogFrom); at != "" {
		return tlog.OpenSource(at, http.DefaultClient)
	}
	if d, ok := home.(directory); ok {
		return d.src, nil
	}
	return nil, nil
}

// fetchWant reads the argument. A word after "@" is the policy's channel, else a channel that is there, else a
// version.
func fetchWant(c *cli.Context, p *policy.Policy, home place) (publish.Want, error) {
	name, word, _ := strings.Cut(c.Args().First(), "@")
	w := publish.Want{Name: name, Channel: p.Release.Channel.Name, By: releaseSigners(p)}
	if !release.ValidLabel(name) || strings.Contains(c.Args().First(), "@") && !release.ValidLabel(word) {
		return w, usagef("%.256q: want NAME, NAME@VERSION or NAME@CHANNEL", c.Args().First())
	}
	switch {
	case word == "" && w.Channel == "":
		return w, usagef("%s: the policy names no channel: say NAME@VERSION or NAME@CHANNEL", name)
	case word == "" || word == w.Channel:
		return w, nil
	}
	there, err := home.hasChannel(c.Context, name, word)
	if err != nil || !there {
		w.Version = word
		return w, err
	}
	if w.Channel != "" {
		return w, verdict(exitAppraisal, string(release.BadChannel), "%s: the policy wants channel %q", c.Args().First(), w.Channel)
	}
	// Asked for by name, the channel is wanted as if the policy said so; its statement's own end is the limit.
	w.Channel, p.Release.Channel = word, release.ChannelPolicy{Name: word, MaxAge: 100 * 365 * 24 * time.Hour}
	return w, nil
}

// fetchFurther appends what the policy's rebuilders said, wherever they log or publish, and what its revocation keys
// did. Who fetches from a registry or a mirror is told of it by the log too: only what stands there cannot be withheld.
func fetchFurther(ctx context.Context, p *policy.Policy, home place, at tlog.Source, name string, data []byte) ([]byte, error) {
	parts, err := release.Split(data)
	if err != nil {
		return nil, err
	}
	b, err := release.ParseBundle(parts[0])
	if err != nil {
		return nil, err
	}
	own := []place{home}
	if at != nil && at.String() != home.String() {
		own = append(own, directory{at})
	}
	all := slices.Clone(own)
	for _, from := range p.RebuildsFrom {
		there, err := openPlace(from)
		if err != nil {
			return nil, err
		}
		all = append(all, there)
	}
	by := rebuilders(p)
	for _, there := range all {
		more, err := there.rebuilds(ctx, b, by)
		if err != nil {
			return nil, err
		}
		data = appendNew(data, more)
	}
	if len(p.Release.Revokers)+len(p.Release.RevokerIdentities.List) == 0 {
		return data, nil // without one at hand the verification says what was not checked
	}
	for _, there := range own {
		more, err := there.revocations(ctx, name)
		if err != nil {
			return nil, err
		}
		data = appendNew(data, more)
	}
	return data, nil
}

// appendNew appends bundles that are not there yet: a registry may have what the log has. What no bundles can be taken
// out of is appended as it is: the verification says what is wrong with it.
func appendNew(data, more []byte) []byte {
	if len(more) == 0 {
		return data
	}
	parts, err := release.Split(more)
	if err != nil {
		parts = [][]byte{more}
	}
	for _, part := range parts {
		if !bytes.Contains(data, part) {
			data = append(bytes.TrimRight(data, "\n"), '\n')
			data = append(append(data, part...), '\n')
		}
	}
	return data
}

func verifyFetched(c *cli.Context, e *env, v *verification, from string, w publish.Want, data []byte) error {
	r, err := v.verify(e, releaseFiles{data: data})
	if err == nil {
		err = r.CheckName(w.Name, w.Version)
	}
	if err != nil {
		return printVerification(e, r, err)
	}
	if err := v.state.Remember(r); err != nil {
		return err
	}
	file := c.String("output")
	proof, err := tlogProof(c, data)
	if err != nil {
		return err
	}
	if err := writeAll(proof, output{file, data}); err != nil {
		return err
	}
	values := r.Statement.Predicate.ReferenceValues
	if e.json {
		a := fetchAnswer{newVerifyAnswer(r, nil), from, file, values}
		a.Schema = "tally.fetched-release/v1"
		return e.printJSON(a)
	}
	if err := printVerification(e, r, nil); err != nil {
		return err
	}
	text, err := release.ReferenceFile(values)
	e.printf("%s", text)
	return err
}

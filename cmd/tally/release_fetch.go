package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"tally/internal/atomicfile"
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
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the release's bundle, and after it the channel statement's, rebuilds and revocations, to `FILE`"},
			tlogProofFlag(),
			&cli.StringFlag{Name: "at", Usage: "verify as of `TIME` (RFC 3339; default: now)"}),
		Description: "NAME alone means the channel that the policy names. Of a channel the current release with the highest sequence is taken; NAME@WORD is a channel\n" +
			"if there is one of that name. What the policy's rebuilders and revocation keys said about the release comes along. What comes is verified as by 'tally release verify', against the log as it stands there; only then is FILE written.\n" +
			"Printed are the checks and then reference-values.json as it was released.\n" +
			"From a registry a release comes by NAME@VERSION, and the log is asked for consistency where the policy says (release.log.from).\n" +
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
	place := firstOf(c.String("from"), p.LogFrom)
	if place == "" {
		return usagef("release fetch wants --from DIR|URL: the policy names no place")
	}
	if err := p.Release.Check(); err != nil {
		return verdict(exitAppraisal, string(release.PolicyEmpty), "%w", err)
	}
	if repository, ok := strings.CutPrefix(place, "oci://"); ok {
		return fetchOCI(c, e, p, repository, now)
	}
	src, err := tlog.OpenSource(place, http.DefaultClient)
	if err != nil {
		return err
	}
	want, err := fetchWant(c, p, src)
	if err != nil {
		return err
	}
	v, err := newVerificationAt(c, p, now, src)
	if err != nil {
		return err
	}
	data, err := publish.Fetch(c.Context, src, want)
	if err == nil {
		data, err = fetchFurther(c.Context, p, src, want.Name, data)
	}
	if err != nil {
		return err
	}
	return verifyFetched(c, e, v, src.String(), want, data)
}

// fetchOCI fetches from a registry, which has neither channels nor the log.
func fetchOCI(c *cli.Context, e *env, p *policy.Policy, repository string, now time.Time) error {
	name, version, _ := strings.Cut(c.Args().First(), "@")
	if !release.ValidLabel(name) || !release.ValidLabel(version) {
		return usagef("%.256q: from a registry want NAME@VERSION", c.Args().First())
	}
	w := publish.Want{Name: name, Version: version}
	for _, s := range p.Release.Signers {
		w.Signers = append(w.Signers, s.Key)
	}
	v, err := newVerification(c, p, now)
	if err != nil {
		return err
	}
	data, err := registryAt(repository).Fetch(c.Context, w)
	if err == nil {
		data, err = fetchFurther(c.Context, p, nil, w.Name, data)
	}
	if err != nil {
		return err
	}
	return verifyFetched(c, e, v, "oci://"+repository, w, data)
}

// fetchWant reads the argument. A word after "@" is the policy's channel, else a channel that is there, else a
// version.
func fetchWant(c *cli.Context, p *policy.Policy, src tlog.Source) (publish.Want, error) {
	name, word, _ := strings.Cut(c.Args().First(), "@")
	w := publish.Want{Name: name, Channel: p.Release.Channel.Name}
	for _, s := range p.Release.Signers {
		w.Signers = append(w.Signers, s.Key)
	}
	for _, id := range p.Release.Identities.List {
		if k, one := id.Signer(); one {
			w.Signers = append(w.Signers, k)
		}
	}
	if !release.ValidLabel(name) || strings.Contains(c.Args().First(), "@") && !release.ValidLabel(word) {
		return w, usagef("%.256q: want NAME, NAME@VERSION or NAME@CHANNEL", c.Args().First())
	}
	switch {
	case word == "" && w.Channel == "":
		return w, usagef("%s: the policy names no channel: say NAME@VERSION or NAME@CHANNEL", name)
	case word == "" || word == w.Channel:
		return w, nil
	}
	there, err := publish.HasChannel(c.Context, src, name, word)
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

// fetchFurther appends what the policy's rebuilders said, wherever they log, and what its revocation keys did.
// Without a source, as for a registry, the place of the policy's log is asked.
func fetchFurther(ctx context.Context, p *policy.Policy, src tlog.Source, name string, data []byte) ([]byte, error) {
	parts, err := release.Split(data)
	if err != nil {
		return nil, err
	}
	b, err := release.ParseBundle(parts[0])
	if err != nil {
		return nil, err
	}
	var keys []release.PublicKey
	for _, s := range p.Release.Rebuilders.Keys {
		keys = append(keys, s.Key)
	}
	for _, id := range p.Release.Rebuilders.Identities.List {
		k, _ := id.Signer() // one, by the policy's check
		keys = append(keys, k)
	}
	if src == nil && p.LogFrom != "" {
		if src, err = tlog.OpenSource(p.LogFrom, http.DefaultClient); err != nil {
			return nil, err
		}
	}
	var places []tlog.Source
	if src != nil {
		places = append(places, src)
	}
	for _, from := range p.RebuildsFrom {
		place, err := tlog.OpenSource(from, http.DefaultClient)
		if err != nil {
			return nil, err
		}
		places = append(places, place)
	}
	for _, place := range places {
		more, err := publish.Rebuilds(ctx, place, release.PayloadDigest(b), keys)
		if err != nil {
			return nil, err
		}
		data = appendLine(data, more)
	}
	if len(p.Release.Revokers)+len(p.Release.RevokerIdentities.List) == 0 || src == nil {
		return data, nil // without the log the verification says what was not checked
	}
	more, err := publish.Revocations(ctx, src, name)
	return appendLine(data, more), err
}

func appendLine(data, more []byte) []byte {
	if len(more) == 0 {
		return data
	}
	return append(append(bytes.TrimRight(data, "\n"), '\n'), append(more, '\n')...)
}

func verifyFetched(c *cli.Context, e *env, v *verification, from string, w publish.Want, data []byte) error {
	r, err := v.verify(e, data)
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
	if file != "" {
		if err := atomicfile.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	if err := writeTLogProof(c, data); err != nil {
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

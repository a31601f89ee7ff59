package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"tally/internal/cli"
	"tally/policy"
	"tally/release"
	tlog "tally/release/log"
	"tally/release/state"
)

// verifyFlags are shared by every command that verifies a release.
func verifyFlags() []cli.Flag {
	return append(policyFlags(),
		&cli.StringFlag{Name: "channel", Usage: "channel statement's bundle `FILE`, unless it stands in BUNDLE after the release's"},
		&cli.StringSliceFlag{Name: "with", Usage: "`FILE` with further bundles, of rebuilds or revocations, unless they stand in BUNDLE (several times)"},
		&cli.StringFlag{Name: "log", Usage: "want a consistency proof from the log's `DIR|URL` (default: release.log.from of the policy)"})
}

const verifyReasons = "reason bundle, identity, signature, not-logged, log, inclusion, log-fork, log-stale, no-proof, statement or artifact. Exit 5, reason\n" +
	"revoked, rollback, channel, rebuilders, mismatch, image, policy, expired or not-yet."

// A verification is a release with what it is verified against.
type verification struct {
	policy *policy.Policy
	state  *state.State
	now    time.Time
}

// newVerification reads the state and asks the log, where flags or policy say so.
func newVerification(ctx context.Context, c *cli.Context, p *policy.Policy, now time.Time) (*verification, error) {
	place := firstOf(c.String("log"), p.LogFrom)
	if place == "" {
		return newVerificationAt(ctx, c, p, now, nil)
	}
	src, err := tlog.OpenSource(place, http.DefaultClient)
	if err != nil {
		return nil, err
	}
	return newVerificationAt(ctx, c, p, now, src)
}

// newVerificationAt asks the log at src, unless that is nil.
func newVerificationAt(ctx context.Context, c *cli.Context, p *policy.Policy, now time.Time, src tlog.Source) (*verification, error) {
	key := p.Release.Log.Key
	s, err := state.Open(c.String("state"), key)
	if err != nil {
		return nil, err
	}
	s.Fill(&p.Release)
	if src != nil && !key.IsZero() {
		p.Release.Log.View, err = tlog.ReadView(ctx, src, key)
	}
	return &verification{p, s, now}, err
}

// verify checks the bundles, keeps the evidence of a fork and remembers what a refusal proves. What was proved of a
// good release is remembered only by the caller, when its own checks have passed.
func (v *verification) verify(e *env, files releaseFiles) (*release.Result, error) {
	r, err := files.verify(&v.policy.Release, v.now)
	var refusal *release.Error
	if !errors.As(err, &refusal) {
		return r, err
	}
	path, kerr := v.state.KeepEvidence(refusal.Evidence)
	if len(r.Revoking) > 0 || r.InForce != nil {
		kerr = errors.Join(kerr, v.state.Remember(r))
	}
	if path != "" {
		e.logf("both checkpoints are kept in %s", path)
	}
	if kerr != nil { // which changes nothing in the answer
		e.complain("%v", kerr)
	}
	return r, err
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// timeFlag reads a time, or now.
func timeFlag(c *cli.Context, name string) (time.Time, error) {
	if !c.IsSet(name) {
		return time.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, c.String(name))
	if err != nil {
		return t, usagef("--%s %q: want RFC 3339, such as 2027-01-01T00:00:00Z", name, c.String(name))
	}
	return t, nil
}

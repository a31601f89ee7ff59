package main

import (
	"errors"
	"io/fs"

	"tally/internal/cli"
	"tally/internal/keylesswire"
	"tally/policy"
	"tally/release"
)

// policyFlags are shared by every command that decides whom to trust.
func policyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "policy", Usage: "`FILE` (tally.policy/v1) that says whom to trust; without it nothing is trusted"},
		&cli.StringFlag{Name: "state", Usage: "`DIR` that remembers what was seen, against forks and rollback; it is kept by log, so policies that trust different people want different directories"},
	}
}

// policyHelp is what the man page of release verify says of the file.
const policyHelp = "The policy is strict YAML (schema: tally.policy/v1). Under release: signers (a list of file or pem, not-before, not-after); identities (a\n" +
	"list of issuer and subject, or repository, workflow, tag, commit; not-before, not-after) with trusted-root; log (file or vkey;\n" +
	"witness-policy or witnesses: none; cosignature-max-age; from); channel (name, max-age, signers); rebuilders (need: k; keys: as signers, and identities,\n" +
	"none of them a signer; logs: a list as log, where rebuilders log beside the releases' log); revocation-keys, revocation-identities; oci-manifest:\n" +
	"require; other-wires: refuse. Files are taken relative to it.\n"

// loadPolicy reads the file of --policy. Having none is an answer (exit 5), not a mistake: nobody is
// trusted by default.
func loadPolicy(c *cli.Context) (*policy.Policy, error) {
	path := c.String("policy")
	if path == "" {
		return nil, withHint(verdict(exitAppraisal, "policy", "no policy: nobody is trusted by default"),
			"write one (see 'tally release verify --help', tally.policy/v1) and give it as --policy FILE")
	}
	p, err := policy.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("--policy: %w", err)
	}
	if err != nil {
		return nil, err
	}
	for _, ids := range []*release.IdentityPolicy{&p.Release.Identities, &p.Release.RevokerIdentities, &p.Release.Rebuilders.Identities} {
		ids.Verifier = keylesswire.Verifier{}
	}
	return p, nil
}

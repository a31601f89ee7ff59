package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"text/tabwriter"

	"tally/internal/cli"
	"tally/release"
	"tally/release/sign"
)

func releaseVerifyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check a bundle against a policy, offline", ArgsUsage: "BUNDLE",
		Flags: append(verifyFlags(),
			&cli.StringSliceFlag{Name: "artifact", Usage: "also check that `FILE`, or every file of the directory, is what was released (several times)"},
			&cli.StringFlag{Name: "image", Usage: "also check that `IMAGE` in a registry is what was released: HOST/PATH:TAG, which is asked for, or HOST/PATH@sha256:…"},
			&cli.StringFlag{Name: "at", Usage: "verify as of `TIME` (RFC 3339; default: now)"}),
		Description: "Checks signature, log entry, inclusion, statement and times in that order and prints each; what was not checked is said.\n" +
			"A policy with rebuilders wants so many statements of theirs; one mismatch refuses. Revocations by the policy's revocation keys count too.\n" +
			policyHelp +
			"BUNDLE may hold a channel statement after the release ('tally release fetch' writes it so); a policy that names a channel wants one. With --state\n" +
			"it is remembered what was accepted; what is older is refused from then on. With --log everything seen must be a prefix of the log as it stands;\n" +
			"of a fork both checkpoints are kept in DIR/evidence.\n" +
			"A FILE is compared with the subject of its own base name; in a directory every subject must be there.\n" +
			"Exit 0: verified. Exit 4, " + verifyReasons + "\n" +
			"--json prints tally.release-verification/v1: verified, reason, checks (list of name, status ok|failed|not-checked, want, got, from) and, only\n" +
			"when verified, payload_sha256, oci_manifest (sha256:… under which registries have the files), key_id, identity (of a certificate: issuer, subject, repository, ref,\n" +
			"commit, build_config, signed, certificate_logged), leaf_hash, log_index, tree_size, rebuilders (key ids), the statement and the channel statement.\n\n" +
			"   tally release verify minimal.sigstore.json --policy policy.yaml --artifact OUT",
		Action: func(c *cli.Context) error { return releaseVerify(c, e) },
	}
}

// A verifyAnswer is tally.release-verification/v1.
type verifyAnswer struct {
	Schema     string             `json:"schema"`
	Verified   bool               `json:"verified"`
	Reason     release.Reason     `json:"reason,omitempty"`
	Checks     []release.Check    `json:"checks"`
	Payload    *release.Digest    `json:"payload_sha256,omitempty"`
	Image      string             `json:"oci_manifest,omitempty"` // sha256:…
	KeyID      *release.Digest    `json:"key_id,omitempty"`
	Identity   *release.Certified `json:"identity,omitempty"`
	Leaf       *release.Digest    `json:"leaf_hash,omitempty"`
	Index      *int64             `json:"log_index,omitempty"`
	TreeSize   *int64             `json:"tree_size,omitempty"`
	Rebuilders []release.Digest   `json:"rebuilders,omitempty"`
	Statement  *release.Statement `json:"statement,omitempty"`
	Channel    *release.Channel   `json:"channel,omitempty"`
}

func releaseVerify(c *cli.Context, e *env) error {
	if err := wantArgs(c, "BUNDLE"); err != nil {
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
	data, err := readRelease(c, e, c.Args().First())
	if err != nil {
		return err
	}
	v, err := newVerification(c.Context, c, p, now)
	if err != nil {
		return err
	}
	r, err := v.verify(e, data)
	for _, path := range c.StringSlice("artifact") {
		if err == nil {
			err = checkArtifacts(c.Context, r, path)
		}
	}
	if image := c.String("image"); err == nil && image != "" {
		err = checkImage(c.Context, r, image)
	}
	if err == nil {
		err = v.state.Remember(r)
	}
	return printVerification(e, r, err)
}

// checkArtifacts compares one file, or a directory with every subject in it.
func checkArtifacts(ctx context.Context, r *release.Result, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	files := map[string]string{filepath.Base(path): path}
	if st.IsDir() {
		files = map[string]string{}
		for _, s := range r.Statement.Subject {
			files[s.Name] = filepath.Join(path, filepath.FromSlash(s.Name))
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		got, _, err := sign.HashFile(ctx, files[name])
		if err != nil {
			return err
		}
		if err := r.CheckArtifact(name, got); err != nil {
			return err
		}
	}
	return nil
}

// checkImage compares an image in a registry with the release's.
func checkImage(ctx context.Context, r *release.Result, image string) error {
	d, err := registryAt("").Resolve(ctx, image)
	if err != nil {
		return err
	}
	return r.CheckImage(image, d)
}

// printVerification prints the table of checks and turns a refusal into its exit code.
func printVerification(e *env, r *release.Result, err error) error {
	var refusal *release.Error
	if err != nil && !errors.As(err, &refusal) {
		return err // could not look, which is no verdict
	}
	if e.json {
		if jerr := e.printJSON(newVerifyAnswer(r, refusal)); jerr != nil {
			return jerr
		}
	} else {
		w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
		for _, c := range r.Checks {
			mark := map[release.Status]string{release.OK: "ok", release.Failed: "FAILED", release.NotChecked: "not checked"}[c.Status]
			text := c.Got
			if c.Status == release.Failed && c.Want != "" {
				text += ", want " + c.Want
			}
			w.Write([]byte(mark + "\t" + c.Name + "\t" + text + "\n"))
		}
		w.Flush()
	}
	if refusal != nil {
		code := exitUnverified
		if refusal.Reason.Policy() {
			code = exitAppraisal
		}
		if !e.json {
			e.printf("NOT VERIFIED  reason: %s\n", refusal.Reason)
		}
		return verdict(code, string(refusal.Reason), "%w", refusal)
	}
	if !e.json {
		rel := r.Statement.Predicate.Release
		e.printf("VERIFIED  %s %s (sequence %d)\n", rel.Name, rel.Version, rel.Sequence)
	}
	return nil
}

func newVerifyAnswer(r *release.Result, refusal *release.Error) verifyAnswer {
	a := verifyAnswer{Schema: "tally.release-verification/v1", Checks: r.Checks}
	if refusal != nil {
		a.Reason = refusal.Reason
		return a
	}
	id := r.Signer.ID()
	a.Verified, a.Statement, a.Channel = true, r.Statement, r.Channel
	a.Rebuilders, a.Identity = r.Rebuilders, r.Identity
	if d, ok := r.Statement.Image(); ok {
		a.Image = "sha256:" + d.String()
	}
	a.Payload, a.KeyID, a.Leaf, a.Index, a.TreeSize = &r.Payload, &id, &r.Leaf, &r.Index, &r.Tree.N
	return a
}

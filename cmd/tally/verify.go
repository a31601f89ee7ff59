package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/appraise/gpu"
	"tally/enclave/appraise/intel"
	"tally/enclave/evidence"
	"tally/internal/cli"
	"tally/policy"
	"tally/release"
)

func verifyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check an enclave's evidence against a release and a policy, step by step, offline", ArgsUsage: "EVIDENCE",
		Flags: append(verifyFlags(),
			&cli.StringFlag{Name: "bundle", Usage: "`FILE` with the release that the enclave should be (- for stdin)"},
			&cli.StringFlag{Name: "authority", Value: "default", Usage: "`NAME` of the service that the enclave must be"},
			&cli.StringFlag{Name: "collateral", Usage: "`FILE` of the vendor, in place of what came with the evidence (see 'tally quote verify')"},
			&cli.StringFlag{Name: "key", Usage: "`HEX` of the key that the channel showed; without it, what the evidence says is not held to a channel"},
			&cli.StringFlag{Name: "gpus", Usage: "`FILE` with evidence of the enclave's GPUs, as 'tally connect --gpus FILE' saves it"},
			gpuCollateralFlag(),
			&cli.StringFlag{Name: "session", Usage: "`FILE` with session evidence; wants --handshake, --nonce and --key"},
			&cli.StringFlag{Name: "handshake", Usage: "`HEX` of the session's handshake hash"},
			&cli.StringFlag{Name: "nonce", Usage: "`HEX` of the nonce that the client sent"},
			&cli.StringFlag{Name: "at", Usage: "verify as of `TIME` (RFC 3339; default: now)"}),
		Description: "EVIDENCE is an enclave's key evidence, as 'tally connect --evidence FILE' saves it. The bundle is verified (as by 'tally release verify'), then\n" +
			"everything that a client checks before it talks is checked in the same order, and each step is printed with what was wanted, what was found and where the\n" +
			"expectation came from. Evidence of an SVSM's TPM is not accepted from files: that TPM proves its key to a client in a session.\n" +
			"Exit 0: accepted. Exit 1: a file is not readable. Exit 4: the bundle is not verified. Exit 5: not accepted, reason\n" + appraisalReasons + ";\n" +
			"or the release is not valid now.\n" +
			"--json prints tally.verification/v1: accepted, reason, platform, insecure, note (insecure only), release (name, version, sequence, payload_sha256),\n" +
			"release_checks (list of name, status, want, got, from) and checks (list of name, status ok|failed|not-checked, want, got, from, note).\n\n" +
			"   tally verify evidence.bin --bundle minimal.sigstore.json --policy policy.yaml",
		Action: func(c *cli.Context) error { return verifyEvidence(c, e) },
	}
}

// A verifyEvidenceAnswer is tally.verification/v1.
type verifyEvidenceAnswer struct {
	Schema string `json:"schema"`
	*appraise.Result
	Note          string          `json:"note,omitempty"`
	Release       connectRelease  `json:"release"`
	ReleaseChecks []release.Check `json:"release_checks"`
}

func verifyEvidence(c *cli.Context, e *env) error {
	if err := wantArgs(c, "EVIDENCE"); err != nil {
		return err
	}
	if !c.IsSet("bundle") {
		return usagef("verify wants --bundle FILE: the release that the enclave should be")
	}
	now, err := timeFlag(c, "at")
	if err != nil {
		return err
	}
	p, err := loadPolicy(c)
	if err != nil {
		return err
	}
	in, err := evidenceInput(c, now)
	if err != nil {
		return err
	}
	r, err := verifyBundleAt(c, e, p, now)
	if err != nil {
		if r != nil {
			return printVerification(e, r, err)
		}
		return err
	}
	if in.Reference, err = referenceValues(r.Statement); err != nil {
		return verdict(exitUnverified, string(release.BadStatement), "%w", err)
	}
	result, err := appraise.Appraise(*in, p.Appraisal(r.Statement.Predicate.GPURIMs))
	a := &verifyEvidenceAnswer{Schema: "tally.verification/v1", Result: result, Release: newConnectAnswer(r).Release, ReleaseChecks: r.Checks}
	if !c.IsSet("key") {
		open := appraise.Check{Name: "channel", Status: appraise.NotChecked, Got: "no --key: the key of the evidence is not held to a channel's"}
		if a.Insecure {
			open.Note = appraise.Note(a.Platform)
		}
		a.Checks = append([]appraise.Check{open}, a.Checks...)
	}
	if perr := printVerifiedEvidence(e, a); perr != nil {
		return perr
	}
	var refused *appraise.Error
	if errors.As(err, &refused) {
		return verdict(exitAppraisal, string(result.Reason), "%w", refused)
	}
	return err
}

// verifyBundleAt is verifyForConnect at a given time; nothing is remembered of a time that is not now.
func verifyBundleAt(c *cli.Context, e *env, p *policy.Policy, now time.Time) (*release.Result, error) {
	if !c.IsSet("at") {
		return verifyForConnect(c.Context, c, e, p)
	}
	data, err := readRelease(c, e, c.String("bundle"))
	if err != nil {
		return nil, err
	}
	v, err := newVerification(c.Context, c, p, now)
	if err != nil {
		return nil, err
	}
	return v.verify(e, data)
}

// evidenceInput reads what the flags name. A document that cannot be read is for the appraisal to refuse.
func evidenceInput(c *cli.Context, now time.Time) (*appraise.Input, error) {
	in := &appraise.Input{Authority: c.String("authority"), Now: now}
	var err error
	if in.Document, err = readAtMost(c.Args().First(), evidence.MaxDocument); err != nil {
		return nil, err
	}
	if c.IsSet("collateral") {
		if in.Collateral, err = readAtMost(c.String("collateral"), intel.MaxCollateral); err != nil {
			return nil, err
		}
	}
	if c.IsSet("key") {
		if in.Static, err = hex32(c, "key"); err != nil {
			return nil, err
		}
	} else if d, err := evidence.Parse(in.Document); err == nil {
		in.Static = d.Claims.Static
	}
	if err := addGPUs(c, in); err != nil {
		return nil, err
	}
	if any, all := c.IsSet("session") || c.IsSet("handshake") || c.IsSet("nonce"), c.IsSet("session") && c.IsSet("handshake") && c.IsSet("nonce") && c.IsSet("key"); any && !all {
		return nil, usagef("want --session, --handshake, --nonce and --key together")
	} else if !any {
		return in, nil
	}
	s := new(appraise.Session)
	if s.Document, err = readAtMost(c.String("session"), evidence.MaxDocument); err != nil {
		return nil, err
	}
	if s.HandshakeHash, err = hex32(c, "handshake"); err != nil {
		return nil, err
	}
	s.Nonce, err = hex32(c, "nonce")
	in.Session = s
	return in, err
}

// addGPUs reads what the flags name of GPUs.
func addGPUs(c *cli.Context, in *appraise.Input) error {
	col, err := readGPUCollateral(c.String("gpu-collateral"))
	if err != nil {
		return err
	}
	in.GPURIMs, in.GPUOCSP = col.files, col.ocsp
	if !c.IsSet("gpus") {
		return nil
	}
	in.GPU = new(appraise.GPU)
	in.GPU.Document, err = readAtMost(c.String("gpus"), gpu.MaxShipment)
	return err
}

func hex32(c *cli.Context, flag string) (out [32]byte, err error) {
	b, err := hex.DecodeString(c.String(flag))
	if err != nil || len(b) != len(out) {
		return out, usagef("--%s %.80q: want 64 hex digits", flag, c.String(flag))
	}
	return [32]byte(b), nil
}

func printVerifiedEvidence(e *env, a *verifyEvidenceAnswer) error {
	if a.Insecure {
		a.Note = appraise.Note(a.Platform)
	}
	if e.json {
		return e.printJSON(a)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	row := func(mark, name, text string) {
		if a.Insecure {
			text += "  [" + a.Note + "]"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, name, text)
	}
	row("ok", "release", fmt.Sprintf("%s %s, sequence %d, payload %s", a.Release.Name, a.Release.Version, a.Release.Sequence, a.Release.Payload))
	step := func(name, status, want, got, from string) {
		mark := map[string]string{"ok": "ok", "failed": "FAILED", "not-checked": "not checked"}[status]
		text := "got " + got
		if want != "" {
			text += "; want " + want + " (" + from + ")"
		}
		row(mark, name, text)
	}
	for _, c := range a.ReleaseChecks {
		step("release "+c.Name, string(c.Status), c.Want, c.Got, c.From)
	}
	for _, c := range a.Checks {
		step(c.Name, string(c.Status), c.Want, c.Got, c.From)
	}
	if a.Accepted {
		row("ACCEPTED", "", a.Platform+" evidence")
	} else {
		row("NOT ACCEPTED", "", "reason: "+string(a.Reason))
	}
	return w.Flush()
}

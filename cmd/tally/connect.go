package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/client"
	"tally/internal/cli"
	"tally/measure"
	"tally/policy"
	"tally/release"
)

func connectCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "connect", Usage: "verify a release, appraise a running enclave, and exchange one message with it", ArgsUsage: "TARGET",
		Flags: append(verifyFlags(),
			&cli.StringFlag{Name: "bundle", Usage: "`FILE` with the release that the enclave should be (- for stdin)"},
			&cli.StringFlag{Name: "message", Usage: "`TEXT` to send once the enclave is accepted; without it nothing is sent"},
			&cli.StringFlag{Name: "evidence", Usage: "save the enclave's evidence in `FILE`, for 'tally verify' and 'tally quote'"},
			&cli.StringFlag{Name: "gpus", Usage: "save the evidence of the enclave's GPUs in `FILE`, where the policy has a section gpu, for 'tally verify'"},
			gpuCollateralFlag(),
			&cli.StringFlag{Name: "session", Usage: "save the evidence about this session in `FILE`, where the policy wants it (freshness: session), for 'tally verify'"},
			&cli.StringFlag{Name: "authority", Value: "default", Usage: "`NAME` of the service that the enclave must be"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "give up after `TIME`"}),
		Description: targetHelp +
			"First the bundle is verified under the policy (as by 'tally release verify'), then the enclave's evidence is appraised against the\n" +
			"reference values in it. Where the policy says freshness: session the enclave is asked for evidence about this very session. Only then is the message\n" +
			"sent. Each check is printed, then the answer. Evidence that no hardware signed is accepted only\n" +
			"when the policy's evidence.platforms names \"insecure\", and then every line says \"" + appraise.InsecureNote + "\".\n" +
			"Exit 0: accepted, and the answer came back whole. Exit 1: no connection, or it broke. Exit 4: the bundle is not verified. Exit 5: the enclave is\n" +
			"not accepted, reason " + appraisalReasons + "; or the release is not valid now.\n" +
			"--json prints tally.connection/v1: accepted, reason, platform, insecure, note (insecure only), release (name, version, sequence, payload_sha256),\n" +
			"warnings (what the release check left open), checks (list of name, status ok|failed|not-checked, want, got, from, note), key, handshake,\n" +
			"session (handshake, nonce: with freshness session, as 'tally verify' takes them), reply.\n\n" +
			"   tally connect enclave.example:8443 --policy policy.yaml --bundle minimal.sigstore.json --message hello",
		Action: func(c *cli.Context) error { return connect(c, e) },
	}
}

// A connectAnswer is tally.connection/v1.
type connectAnswer struct {
	Schema string `json:"schema"`
	*appraise.Result
	Note      string          `json:"note,omitempty"`
	Release   connectRelease  `json:"release"`
	Warnings  []release.Check `json:"warnings"`
	Key       string          `json:"key,omitempty"`
	Handshake string          `json:"handshake,omitempty"`
	Session   *connectSession `json:"session,omitempty"`
	Reply     *string         `json:"reply,omitempty"`
	Listening string          `json:"listening,omitempty"` // proxy
	Sent      []string        `json:"-"`                   // secret send
}

// A connectSession is what session evidence is about, in hex.
type connectSession struct {
	Handshake string `json:"handshake"`
	Nonce     string `json:"nonce"`
}

type connectRelease struct {
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	Sequence uint64         `json:"sequence"`
	Payload  release.Digest `json:"payload_sha256"`
}

func connect(c *cli.Context, e *env) error {
	if _, _, err := enclaveTarget(c); err != nil {
		return err
	}
	p, err := loadPolicy(c)
	if err != nil {
		return err
	}
	if !c.IsSet("bundle") {
		return usagef("connect wants --bundle FILE: the release that the enclave should be")
	}
	if c.IsSet("gpus") && p.GPU == nil {
		return usagef("--gpus: the policy has no section gpu, so the enclave is not asked for evidence of GPUs")
	}
	if c.IsSet("session") && p.Evidence.Freshness != appraise.FreshSession {
		return usagef("--session: the policy does not want evidence about the session (evidence.freshness: session)")
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	r, err := verifyForConnect(ctx, c, e, p)
	if err != nil {
		if r != nil {
			return printVerification(e, r, err)
		}
		return err
	}
	cfg, err := clientConfig(c, p, r.Statement)
	if err != nil {
		return err
	}
	return converse(ctx, c, e, newConnectAnswer(r), cfg)
}

// clientConfig is what the command line, the policy and a verified release say of an enclave.
func clientConfig(c *cli.Context, p *policy.Policy, s *release.Statement) (cfg client.Config, err error) {
	rv, err := referenceValues(s)
	if err != nil {
		return cfg, verdict(exitUnverified, string(release.BadStatement), "%w", err)
	}
	col, err := readGPUCollateral(c.String("gpu-collateral"))
	if err != nil {
		return cfg, err
	}
	return client.Config{Authority: c.String("authority"), Policy: p.Appraisal(s.Predicate.GPURIMs), Reference: rv, Rand: rand.Reader, Now: time.Now,
		Timeout: c.Duration("timeout"), GPURIMs: col.files, GPUOCSP: col.ocsp}, nil
}

// verifyForConnect verifies the bundle and remembers the log's tree. A refusal comes with its Result.
func verifyForConnect(ctx context.Context, c *cli.Context, e *env, p *policy.Policy) (*release.Result, error) {
	data, err := readRelease(c, e, c.String("bundle"))
	if err != nil {
		return nil, err
	}
	v, err := newVerification(ctx, c, p, time.Now())
	if err != nil {
		return nil, err
	}
	r, err := v.verify(e, data)
	if err != nil {
		return r, err
	}
	return r, v.state.Remember(r)
}

// referenceValues takes them from the verified statement.
func referenceValues(s *release.Statement) (*measure.ReferenceValues, error) {
	file, err := release.ReferenceFile(s.Predicate.ReferenceValues)
	if err != nil {
		return nil, err
	}
	return measure.Parse(file)
}

func newConnectAnswer(r *release.Result) *connectAnswer {
	rel := r.Statement.Predicate.Release
	a := &connectAnswer{Schema: "tally.connection/v1", Warnings: []release.Check{}, Release: connectRelease{rel.Name, rel.Version, rel.Sequence, r.Payload}}
	for _, c := range r.Checks {
		if c.Status == release.NotChecked {
			a.Warnings = append(a.Warnings, c)
		}
	}
	return a
}

// describe takes over what opening s has shown.
func (a *connectAnswer) describe(s *client.Session) {
	peer := s.Peer()
	a.Result, a.Key, a.Handshake = s.Result(), fmt.Sprintf("%x", peer.Static), peer.Kind.String()
	if about := s.Evidence().Session; about != nil {
		a.Session = &connectSession{fmt.Sprintf("%x", about.HandshakeHash), fmt.Sprintf("%x", about.Nonce)}
	}
	if a.Insecure {
		a.Note = appraise.Note(a.Platform)
	}
}

// converse opens the session, sends the message and prints what was found and answered.
func converse(ctx context.Context, c *cli.Context, e *env, a *connectAnswer, cfg client.Config) error {
	dialer, address, err := enclaveTarget(c)
	if err != nil {
		return err
	}
	s, err := client.Dial(ctx, dialer, address, cfg)
	if err != nil {
		return notAccepted(e, a, err)
	}
	a.describe(s)
	files, err := writeEvidence(c, s.Evidence()) // before the message: what cannot be written is said before it is sent
	if err != nil {
		_ = s.Close(ctx) // err says why there is no answer
		return err
	}
	defer files.abort()
	if c.IsSet("message") {
		reply, err := s.Do(ctx, []byte(c.String("message")))
		if err != nil {
			_ = s.Close(ctx) // err says why there is no answer
			return notAccepted(e, a, err)
		}
		text := string(reply)
		a.Reply = &text
	}
	if err := s.Close(ctx); err != nil { // the answer came whole, with its own authenticated end
		e.logf("the enclave may not have seen the session end: %v", err)
	}
	if err := files.commit(); err != nil {
		return err
	}
	return printConnection(e, a)
}

// notAccepted gives err, for which there is no answer, its exit code. When it is that the enclave is not accepted, or not
// again, a is printed with what was found.
func notAccepted(e *env, a *connectAnswer, err error) error {
	var refused *appraise.Error
	if errors.As(err, &refused) {
		a.Result = refused.Result
		if perr := printConnection(e, a); perr != nil {
			return perr
		}
	}
	return verdictOf(err)
}

// printConnection prints the answer. On insecure evidence every line carries the note, the reply's too.
func printConnection(e *env, a *connectAnswer) error {
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
	for _, c := range a.Warnings {
		row("not checked", c.Name, c.Got)
	}
	for _, c := range a.Checks {
		mark := map[appraise.Status]string{appraise.OK: "ok", appraise.Failed: "FAILED", appraise.NotChecked: "not checked"}[c.Status]
		text := c.Got
		if c.Status == appraise.Failed && c.Want != "" {
			text += ", want " + c.Want + " (" + c.From + ")"
		}
		row(mark, c.Name, text)
	}
	if !a.Accepted {
		row("NOT ACCEPTED", "", "reason: "+string(a.Reason))
		return w.Flush()
	}
	row("ACCEPTED", "", fmt.Sprintf("%s evidence, %s handshake", a.Platform, a.Handshake))
	if a.Session != nil {
		row("session", "", "handshake "+a.Session.Handshake+", nonce "+a.Session.Nonce)
	}
	if a.Listening != "" {
		row("listening", a.Listening, "")
	}
	for _, name := range a.Sent {
		row("sent", name, "taken by the enclave")
	}
	if a.Reply != nil {
		row("reply", "", fmt.Sprintf("%q", *a.Reply))
	}
	return w.Flush()
}

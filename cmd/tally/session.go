package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/client"
	"tally/internal/cli"
	"tally/release"
)

// recheck is how old the last verification of the release may be when something is sent. Tests change it.
var recheck = time.Minute

// sessionFlags are shared by the commands that talk with an enclave for longer.
func sessionFlags(more ...cli.Flag) []cli.Flag {
	return append(append(verifyFlags(),
		&cli.StringFlag{Name: "bundle", Usage: "`FILE` with the release that the enclave should be (- for stdin)"},
		&cli.StringFlag{Name: "authority", Value: "default", Usage: "`NAME` of the service that the enclave must be"},
		gpuCollateralFlag(),
		&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "give up opening a session after `TIME`"}), more...)
}

const sessionReasons = targetHelp + "Exit 1: no connection, or it broke. Exit 4: the bundle is not verified. Exit 5: the enclave is not accepted, or the release is not valid\n" +
	"now; the reasons are those of 'tally connect'. Evidence that no hardware signed is accepted only when the policy's evidence.platforms names\n" +
	"\"insecure\", and then every line says \"" + appraise.InsecureNote + "\".\n"

// An attested opens sessions with the enclave of a command line. Each one is appraised against the
// release, which is verified again when the last time is a while ago: it may have been revoked.
type attested struct {
	c    *cli.Context
	e    *env
	data releaseFiles

	dialer  client.Dialer
	address string

	turn     chan struct{} // of one place: a lock of what follows, that a request waits for no longer than it has
	verified time.Time
	result   *release.Result
	cfg      client.Config
	rules    rules
	changes  int         // how often rules became others
	pins     client.Pins // of the enclaves accepted so far
	memo     appraise.Memo
}

// rules are what may change between two verifications of one release and does not end trust: sessions that were accepted
// by others are not used any more.
type rules struct {
	policy [sha256.Size]byte
	gpus   [2][][]byte // manifests and OCSP responses of --gpu-collateral
}

// newAttested verifies the release. A refusal of it is printed.
func newAttested(c *cli.Context, e *env) (*attested, error) {
	if err := wantArgs(c, "TARGET"); err != nil {
		return nil, err
	}
	return newAttestedAt(c, e, c.Args().First())
}

// newAttestedAt is newAttested for a command with more arguments than target.
func newAttestedAt(c *cli.Context, e *env, target string) (*attested, error) {
	dialer, address, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	if _, err := loadPolicy(c); err != nil {
		return nil, err
	}
	if !c.IsSet("bundle") {
		return nil, usagef("%s wants --bundle FILE: the release that the enclave should be", c.Command.Name)
	}
	a := &attested{c: c, e: e, dialer: dialer, address: address, turn: make(chan struct{}, 1)}
	if a.data, err = readRelease(c, e, c.String("bundle")); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	if r, err := a.verify(ctx, time.Now()); err != nil {
		if r != nil {
			return nil, printVerification(e, r, err)
		}
		return nil, err
	}
	return a, nil
}

// verify checks the release at now and sets what an enclave is appraised against.
func (a *attested) verify(ctx context.Context, now time.Time) (*release.Result, error) {
	p, err := loadPolicy(a.c)
	if err != nil {
		return nil, err
	}
	v, err := newVerification(ctx, a.c, p, now)
	if err != nil {
		return nil, err
	}
	r, err := v.verify(a.e, a.data)
	if err != nil {
		return r, err
	}
	if err := v.state.Remember(r); err != nil {
		return nil, err
	}
	cfg, err := clientConfig(a.c, p, r.Statement)
	if err != nil {
		return nil, err
	}
	if is := (rules{p.Digest, [2][][]byte{cfg.GPURIMs, cfg.GPUOCSP}}); !reflect.DeepEqual(is, a.rules) {
		a.rules, a.changes = is, a.changes+1
	}
	a.verified, a.result = now, r
	a.cfg, a.cfg.Pins, a.cfg.Memo = cfg, &a.pins, &a.memo
	return r, nil
}

// open is client.Transport's.
func (a *attested) open(ctx context.Context) (*client.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, a.c.Duration("timeout"))
	defer cancel()
	cfg, _, err := a.config(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	s, err := client.Dial(ctx, a.dialer, a.address, cfg)
	return s, verdictOf(err)
}

// verdictOf gives a refusal of release or enclave its exit code.
func verdictOf(err error) error {
	var enclave *appraise.Error
	var rel *release.Error
	switch {
	case errors.As(err, &enclave):
		return verdict(exitAppraisal, string(enclave.Result.Reason), "%w", err)
	case errors.As(err, &rel) && rel.Reason.Policy():
		return verdict(exitAppraisal, string(rel.Reason), "%w", err)
	case errors.As(err, &rel):
		return verdict(exitUnverified, string(rel.Reason), "%w", err)
	}
	return err
}

// config also returns how often the rules have changed. It takes no longer than ctx and --timeout let it.
func (a *attested) config(ctx context.Context, now time.Time) (client.Config, int, error) {
	ctx, cancel := context.WithTimeout(ctx, a.c.Duration("timeout"))
	defer cancel()
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return client.Config{}, 0, fmt.Errorf("waiting for the release to be verified again: %w", context.Cause(ctx))
	}
	if age := client.Age(a.verified, now); age < 0 || age > recheck {
		if _, err := a.verify(ctx, now); err != nil {
			return client.Config{}, 0, verdictOf(err)
		}
	}
	return a.cfg, a.changes, nil
}

// first opens a session and says what was checked. An enclave that is not accepted is printed.
func (a *attested) first(ctx context.Context) (*client.Session, *connectAnswer, error) {
	answer := newConnectAnswer(a.result)
	s, err := a.open(ctx)
	if err != nil {
		return nil, nil, notAccepted(a.e, answer, err)
	}
	answer.describe(s)
	return s, answer, nil
}

// A checked transport verifies the release again before a request, also on a session that is open. Where the rules have
// changed, the session is a new one.
type checked struct {
	*client.Transport
	check func(ctx context.Context, now time.Time) (client.Config, int, error)

	mu      sync.Mutex
	changes int // of the rules, by which the sessions were accepted that are open
}

func (t *checked) RoundTrip(r *http.Request) (*http.Response, error) {
	_, changes, err := t.check(r.Context(), time.Now())
	if err != nil {
		if r.Context().Err() == nil { // else the request has gone, and the release may be as good as before
			t.CloseIdleConnections()
		}
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	t.follow(changes)
	return t.Transport.RoundTrip(r)
}

// follow returns when no session is left for the next request that was accepted by older rules.
func (t *checked) follow(changes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if changes > t.changes {
		t.Retire()
		t.changes = changes
	}
}

// transport begins with s, which a.first has opened, and opens more sessions as they are needed.
func (a *attested) transport(s *client.Session) *checked {
	t := &client.Transport{Now: time.Now, Open: a.open}
	t.Add(s)
	return &checked{check: a.config, changes: a.changes, Transport: t}
}

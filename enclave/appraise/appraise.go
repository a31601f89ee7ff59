// Package appraise decides whether evidence speaks for the enclave that a client wants to talk to: evidence
// × reference values × policy → a [Result] that lists every check, what was expected, what was found and
// where the expectation came from.
//
// It fails closed: a zero [Policy] rejects everything, a platform that the policy does not name or says
// nothing about is refused, and so is one that this version cannot verify. Platforms "snp" and "tdx" are
// hardware. "vtpm-azure" is a TPM whose key an SNP report names: it rests on the hardware and on Azure's paravisor, which
// every Result says, and "vtpm-svsm" one that an SVSM keeps, which rests on the hardware and on that. "vtpm-unendorsed" shows how a machine booted if its host is honest, and "insecure" only that the
// channel's key is the one in the evidence; every line of a Result about these two carries a [Note].
//
// Nothing here reads a clock, a file or the network: collateral comes with the evidence or in the Input.
package appraise

import (
	"crypto/mlkem"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/evidence"
	"tally/measure"
)

// InsecureNote stands on every line of a Result about evidence that no hardware signed.
const InsecureNote = "insecure: the host can forge this"

// Note is what stands on every line about evidence of a platform: InsecureNote for insecure, the same behind
// the platform's name for others that the host can forge, and nothing for hardware.
func Note(platform string) string {
	switch platform {
	case insecure:
		return InsecureNote
	case vtpmPlatform:
		return platform + ", " + InsecureNote
	}
	return ""
}

// An Input is everything that an appraisal looks at.
type Input struct {
	Document  []byte   // key evidence as received (evidence.Parse)
	Static    [32]byte // the key that the peer proved to hold in this session's handshake
	Authority string   // the service that the client selected
	Reference *measure.ReferenceValues
	Now       time.Time

	Collateral []byte      // of the vendor, in place of the evidence's own endorsements; nil: those
	Session    *Session    // session evidence, or nil
	GPU        *GPU        // evidence of the GPUs that the key evidence names, or nil
	Credential *Credential // what an SVSM's TPM made of our challenge, or nil

	Memo *Memo // what was verified before; nil: nothing

	GPURIMs [][]byte // manifests that the caller has, beside those that came with it (gpu.ParseRIM)
	GPUOCSP [][]byte // OCSP responses likewise, in DER
}

// A Memo spares a client the same signatures in each session with an enclave.
type Memo = amd.Memo

// A Session is session evidence with what it must be about.
type Session struct {
	Document      []byte   // as received (evidence.ParseSession)
	HandshakeHash [32]byte // of this session, by our own handshake
	Nonce         [32]byte // that we sent
	Missing       string   // why there is no document, where it was asked for
}

// A GPU is the evidence set of the enclave's GPUs.
type GPU struct {
	Document []byte // as received (gpu.ParseShipment)
	Missing  string // why there is none, where it was asked for
}

// Wants are the documents that an appraisal needs beside key evidence. A client asks for them in the session.
type Wants struct{ Session, GPU, Credential bool }

// Appraise judges in under p. The Result is never nil; err is nil exactly when Result.Accepted is true,
// and an *Error otherwise.
func Appraise(in Input, p Policy) (*Result, error) {
	a := newAppraisal(in, p)
	if err := a.run(append(a.claims(), a.proof()...)); err != nil {
		return a.result, err
	}
	return a.finish()
}

// A Pending is an appraisal of what a handshake shows, which has passed so far.
type Pending struct {
	Wants Wants // what has to be asked for in the session; zero: nothing

	a     *appraisal
	prove func() error // once
}

// Open reads key evidence and takes the checks that need no signature: that the policy is whole and names the platform,
// and that the claims are about this key and this service. The costly rest is [Pending.Prove]'s. Nobody is accepted
// before [Pending.Finish] says so. A refusal is an *Error.
func Open(in Input, p Policy) (*Pending, error) {
	a := newAppraisal(in, p)
	if err := a.run(a.claims()); err != nil {
		return nil, err
	}
	return &Pending{
		Wants: Wants{Session: p.Freshness == FreshSession, GPU: len(a.doc.Claims.GPU) != 0, Credential: a.doc.Platform == svsmPlatform},
		a:     a, prove: sync.OnceValue(func() error { return a.run(a.proof()) }),
	}, nil
}

// Begin is Open and Prove: all that key evidence alone decides, before there is a session in which more could be
// asked for.
func Begin(in Input, p Policy) (*Pending, error) {
	pending, err := Open(in, p)
	if err != nil {
		return nil, err
	}
	if err := pending.Prove(); err != nil {
		return nil, err
	}
	return pending, nil
}

// Prove verifies who signed the key evidence and holds what it says to policy and reference values. A client may do so
// while it waits for the documents that it asked for. It looks once, however often and from wherever it is called, and
// its refusal, an *Error, is Finish's as well.
func (p *Pending) Prove() error { return p.prove() }

// Finish is Appraise for what has begun, with the documents that were wanted. It proves the key evidence unless Prove
// has, looks at nothing twice, and may be called once.
func (p *Pending) Finish(s *Session, g *GPU, c *Credential) (*Result, error) {
	if err := p.Prove(); err != nil {
		return p.a.result, err
	}
	p.a.in.Session, p.a.in.GPU, p.a.in.Credential = s, g, c
	return p.a.finish()
}

// finish takes the steps that may need more than key evidence.
func (a *appraisal) finish() (*Result, error) {
	if err := a.run([]func() *refusal{a.credential, a.freshness, a.gpus}); err != nil {
		return a.result, err
	}
	a.result.Accepted = true
	return a.result, nil
}

func newAppraisal(in Input, p Policy) *appraisal {
	return &appraisal{in: in, policy: p, result: &Result{Checks: []Check{}}}
}

// claims are the steps that need no signature, and proof is the one that does: together they are what key evidence
// alone decides.
func (a *appraisal) claims() []func() *refusal {
	return []func() *refusal{a.acceptsAny, a.parse, a.platform, a.complete, a.key, a.authority, a.extras, a.referenceAtHand}
}

func (a *appraisal) proof() []func() *refusal { return []func() *refusal{a.report} }

// run takes steps until one refuses.
func (a *appraisal) run(steps []func() *refusal) error {
	for _, step := range steps {
		if r := step(); r != nil {
			a.add(Check{Name: string(r.reason), Status: Failed, Want: r.want, Got: r.got, From: r.from})
			a.result.Reason = r.reason
			return &Error{a.result, r}
		}
	}
	return nil
}

type appraisal struct {
	in     Input
	policy Policy
	doc    *evidence.Document
	result *Result
	prefix string  // of the names of checks: "session " while session evidence is looked at
	first  *proven // what the key evidence proved
}

// add appends a check, marked when nothing signed the evidence.
func (a *appraisal) add(c Check) {
	if a.result.Insecure {
		c.Note = Note(a.result.Platform)
	}
	a.result.Checks = append(a.result.Checks, c)
}

func (a *appraisal) ok(name, want, got, from string) {
	a.add(Check{Name: a.prefix + name, Status: OK, Want: want, Got: got, From: from})
}

func (a *appraisal) unchecked(name, why string) {
	a.add(Check{Name: a.prefix + name, Status: NotChecked, Got: why})
}

// expect adds a check that passed, or returns the refusal.
func (a *appraisal) expect(reason Reason, good bool, want, got, from string) *refusal {
	if !good {
		return &refusal{reason, want, got, from}
	}
	a.add(Check{Name: a.prefix + string(reason), Status: OK, Want: want, Got: got, From: from})
	return nil
}

func (a *appraisal) acceptsAny() *refusal {
	if len(a.policy.Platforms) == 0 {
		return &refusal{reason: PolicyEmpty, got: "the policy accepts no platform's evidence"}
	}
	return nil
}

func (a *appraisal) parse() *refusal {
	d, err := evidence.Parse(a.in.Document)
	if err != nil {
		return &refusal{reason: BadEvidence, got: err.Error()}
	}
	a.doc, a.result.Platform, a.result.Insecure = d, d.Platform, Note(d.Platform) != ""
	return nil
}

func (a *appraisal) platform() *refusal {
	named := strings.Join(a.policy.Platforms, " or ")
	if !slices.Contains(a.policy.Platforms, a.doc.Platform) {
		return &refusal{BadPlatform, named, a.doc.Platform, "policy"}
	}
	a.ok("platform", named, a.doc.Platform, "policy")
	return nil
}

// complete wants the policy to say all that this platform's evidence is held to.
func (a *appraisal) complete() *refusal {
	if err := a.policy.Check(a.doc.Platform); err != nil {
		return &refusal{reason: PolicyEmpty, got: err.Error()}
	}
	return nil
}

// key holds the evidence to the channel: without it the evidence of any other enclave would do.
func (a *appraisal) key() *refusal {
	want, got := fmt.Sprintf("%x", a.in.Static), fmt.Sprintf("%x", a.doc.Claims.Static)
	if a.in.Static == [32]byte{} || want != got {
		return &refusal{BadKey, want, "evidence for key " + got, "handshake"}
	}
	a.ok("key", want, got, "handshake")
	return nil
}

func (a *appraisal) authority() *refusal {
	if a.in.Authority == "" || a.doc.Claims.Authority != a.in.Authority {
		return &refusal{BadAuthority, fmt.Sprintf("%q", a.in.Authority), fmt.Sprintf("%q", a.doc.Claims.Authority), "client"}
	}
	a.ok("authority", a.in.Authority, a.doc.Claims.Authority, "client")
	return nil
}

// extras refuses claims that nobody has said how to judge, or that this version would have to believe.
func (a *appraisal) extras() *refusal {
	c := &a.doc.Claims
	switch {
	case len(c.GPU) != 0 && a.policy.GPU == nil:
		return &refusal{BadGPU, "no GPUs: its section gpu is missing", "evidence of an enclave with GPUs", "policy"}
	case len(c.GPU) == 0 && a.policy.GPU != nil:
		return &refusal{BadGPU, fmt.Sprintf("at least %d GPUs", a.policy.GPU.MinGPUs), "evidence of an enclave without", "policy"}
	}
	// REPORTDATA binds the ML-KEM key as it does the static key; what is left is that it is one.
	if len(c.EncapKey) != 0 {
		if _, err := mlkem.NewEncapsulationKey768(c.EncapKey); err != nil {
			return &refusal{reason: BadEvidence, got: "ML-KEM key: " + err.Error()}
		}
	}
	return nil
}

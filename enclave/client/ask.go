package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tally/enclave/appraise"
	"tally/enclave/channel"
)

// judge begins to appraise what the handshake has shown.
func judge(p channel.Peer, cfg *Config) (appraise.Input, *appraise.Pending, error) {
	in := appraise.Input{Static: p.Static, Authority: cfg.Authority, Reference: cfg.Reference, Now: cfg.Now(), Memo: cfg.Memo, GPURIMs: cfg.GPURIMs, GPUOCSP: cfg.GPUOCSP}
	// A payload of another form has no document: the appraisal refuses it as such.
	if len(p.Payload) > 0 && p.Payload[0] == channel.InlineEvidence {
		in.Document = p.Payload[1:]
	}
	pending, err := appraise.Open(in, cfg.Policy)
	return in, pending, err
}

// finish has the enclave judged with the documents that are wanted, and ends the session unless it is accepted.
// When a session opens, nothing but the question for them has been sent in it by then; what the enclave has shown before
// is proved while the answer is under way: meanwhile, or nil.
func (s *Session) finish(ctx context.Context, meanwhile func() error, judge func(appraise.Input) (*appraise.Result, error)) error {
	at := s.cfg.Now() // of the question: a slow answer is not newer for it
	in, err := s.documents(ctx, meanwhile)
	var r *appraise.Result
	if err == nil {
		r, err = judge(in)
	}
	if err != nil {
		s.end(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judged, s.result, s.at = in, r, at
	return nil
}

// documents asks the enclave for what is wanted beside key evidence.
func (s *Session) documents(ctx context.Context, meanwhile func() error) (appraise.Input, error) {
	in, ask := s.input, channel.Ask{}
	if s.wants.Session {
		ask.Documents |= channel.SessionEvidence
	}
	if s.wants.GPU {
		ask.Documents |= channel.GPUEvidence
	}
	if s.wants.Credential {
		in.Credential = new(appraise.Credential)
		c, err := appraise.NewChallenge(s.cfg.Rand, in.Document)
		if err != nil { // the appraisal refuses such evidence
			in.Credential.Missing = err.Error()
		} else {
			in.Credential.Challenge, ask.Documents, ask.Challenge = c, ask.Documents|channel.Credential, c.Blob
		}
	}
	if ask.Documents == 0 {
		return in, nil
	}
	if _, err := io.ReadFull(s.cfg.Rand, ask.Nonce[:]); err != nil {
		return in, fmt.Errorf("client: randomness: %w", err)
	}
	a, err := s.mux.AskMeanwhile(ctx, ask, s.cfg.EvidenceTimeout, meanwhile)
	missing := whyMissing(ctx, err)
	if err != nil && missing == "" {
		return in, err
	}
	if err != nil {
		a = new(channel.Answer) // of one that is not whole nothing is used
	}
	if s.wants.Session {
		in.Session = &appraise.Session{Document: a.Session, HandshakeHash: s.Peer().Binding, Nonce: ask.Nonce, Missing: missing}
	}
	if s.wants.GPU {
		in.GPU = &appraise.GPU{Document: a.GPU, Missing: missing}
	}
	if len(ask.Challenge) != 0 {
		in.Credential.Answer, in.Credential.Missing = a.Credential, missing
	}
	return in, nil
}

// whyMissing tells an enclave that does not give what it is asked for, which is a verdict about it, from a
// connection that broke or a user who left: "".
func whyMissing(ctx context.Context, err error) string {
	var no *channel.AnswerError
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.As(err, &no), errors.Is(err, channel.ErrStalled), errors.Is(err, channel.ErrBadAnswer):
		return err.Error()
	}
	return ""
}

package enclave

import (
	"bytes"
	"context"

	"tally/enclave/channel"
)

// shown is what a session needs of its key once the handshake is over. The private half is not in it: a long
// session must not keep a key alive that is retired.
type shown struct {
	static       [32]byte
	endorsements []byte  // of the key evidence
	gpus         *GPUSet // that the key evidence names, or nil
}

// answerer makes the documents that a client asks for in its session. binding is the handshake hash.
func (s *server) answerer(k shown, binding [32]byte) func(context.Context, channel.Documents, channel.Ask) ([]byte, error) {
	return func(ctx context.Context, one channel.Documents, ask channel.Ask) ([]byte, error) {
		switch {
		case one == channel.SessionEvidence:
			doc, err := s.sessionEvidence(ctx, k, binding, ask.Nonce)
			if err != nil && ctx.Err() == nil {
				s.opt.Logger.Warn("no session evidence", "reason", "the platform made no report")
				s.opt.observe(EvidenceFailed, "")
			}
			return doc, err
		case one == channel.GPUEvidence && k.gpus != nil:
			return k.gpus.Ship()
		case one == channel.Credential:
			if a, ok := s.keys.attester.(Activator); ok {
				return a.Activate(ctx, ask.Challenge)
			}
		}
		return nil, channel.ErrNoDocument
	}
}

// sessionEvidence leaves out the vendor's certificates where the client has them with the key evidence.
func (s *server) sessionEvidence(ctx context.Context, k shown, binding, nonce [32]byte) ([]byte, error) {
	d, err := s.attester.attest(ctx, binding, nonce, k.static)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(d.Endorsements, k.endorsements) {
		d.Endorsements = nil
	}
	return d.Marshal()
}

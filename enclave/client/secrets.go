package client

import (
	"bytes"
	"context"

	"tally/enclave/secrets"
)

// SendSecrets gives the enclave an operator's secrets. sign is secrets.Message's, with the key that the enclave's
// measured configuration names. A refusal is a *secrets.RefusedError; an enclave that asks for no secrets is
// secrets.ErrNotAsked. The values stay the caller's, to be erased.
func (s *Session) SendSecrets(ctx context.Context, list []secrets.Secret, sign func(message []byte) ([]byte, error)) error {
	peer := s.Peer()
	message, err := secrets.Message(secrets.Session{Handshake: peer.Binding, Static: peer.Static}, list, s.cfg.Rand, sign)
	if err != nil {
		return err
	}
	defer clear(message)
	var answer short
	if err := s.Exchange(ctx, bytes.NewReader(message), &answer); err != nil {
		return err
	}
	return secrets.ReadAnswer(answer)
}

// short takes no more than an answer to secrets: one that is longer comes from an engine that got them.
type short []byte

func (b *short) Write(p []byte) (int, error) {
	if len(*b)+len(p) > len(secrets.Taken.Answer()) {
		return 0, secrets.ErrNotAsked
	}
	*b = append(*b, p...)
	return len(p), nil
}

package enclave

import (
	"bytes"
	"context"
	"errors"
	"io"

	"tally/enclave/secrets"
)

// withSecrets looks at how each request begins: an operator's secrets are for the enclave, all else for the engine.
type withSecrets struct {
	Engine
	opt     *Options
	session secrets.Session
	turn    chan struct{} // one message at a time: each takes the room of the longest that may come
}

var errTurn = errors.New("enclave: another message with secrets is not at its end")

// Exchange answers secrets itself. An error means that the message did not end, or that nobody wants the answer.
func (e withSecrets) Exchange(ctx context.Context, request io.Reader, response io.Writer) error {
	start := make([]byte, len(secrets.Start))
	n, err := io.ReadFull(request, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	again := io.MultiReader(bytes.NewReader(start[:n]), request) // whose own end comes again
	if !bytes.Equal(start[:n], secrets.Start[:]) {
		return e.Engine.Exchange(ctx, again, response)
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	default:
		return errTurn // to wait for it would hold what comes here as well
	}
	code, err := e.opt.Secrets.Take(e.session, again)
	if err != nil {
		return err
	}
	if code == secrets.Taken {
		e.opt.Logger.Info("secrets taken")
		e.opt.observe(SecretsTaken, code.String())
	} else {
		e.opt.Logger.Warn("secrets refused", "reason", code.String())
		e.opt.observe(SecretsRefused, code.String())
	}
	_, err = response.Write(code.Answer())
	return err
}

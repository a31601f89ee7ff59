//go:build linux

package main

import (
	"context"
	"log/slog"

	"tally/enclave/operate"
	"tally/enclave/secrets"
	"tally/internal/guest"
)

// waitForSecrets has the engine wait until the operator has sent what the configuration names.
func (e *engine) waitForSecrets(c *guest.Config, m *operate.Metrics, log *slog.Logger) (err error) {
	if err := guest.MountSecrets(c.Engine); err != nil {
		return err
	}
	keep := func(list []secrets.Secret) error {
		values := map[string][]byte{}
		for _, s := range list {
			values[s.Name] = s.Value
		}
		return guest.KeepSecrets(c.Engine, values)
	}
	if e.secrets, err = newTaker(c.Secrets, keep); err != nil {
		return err
	}
	m.WaitsForSecrets()
	log.Info("engine waits for secrets")
	e.hooks.Before = e.secretsTaken
	return nil
}

// secretsTaken returns when the secrets are there or ctx has ended.
func (e *engine) secretsTaken(ctx context.Context) error {
	select {
	case <-e.secrets.Taken():
	case <-ctx.Done():
	}
	return nil
}

// waits says, while the engine does not run, whether it is for want of secrets; nil: it never is.
func (e *engine) waits() func() bool {
	if e.secrets == nil {
		return nil
	}
	return e.secrets.Waits
}

// inTurn is a hook of two; the first may be nil.
func inTurn(first, then func(context.Context) error) func(context.Context) error {
	if first == nil {
		return then
	}
	return func(ctx context.Context) error {
		if err := first(ctx); err != nil {
			return err
		}
		return then(ctx)
	}
}

// newTaker takes what the configuration names.
func newTaker(c *guest.Secrets, keep func([]secrets.Secret) error) (*secrets.Taker, error) {
	limits := map[string]int{}
	for _, f := range c.Files {
		limits[f.Name] = f.Max
	}
	return secrets.NewTaker(secrets.Options{Operator: c.Operator, Limits: limits, Keep: keep})
}

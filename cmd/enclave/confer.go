//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"time"

	"tally/enclave"
	"tally/enclave/confer"
	"tally/enclave/confer/listen"
	"tally/enclave/operate"
	"tally/internal/guest"
)

// conferPart is the listener of Confer's wire, with a key of its own that a attests, before engine.
func conferPart(c *guest.Confer, a enclave.Attester, engine enclave.PerSession, m *operate.Metrics, log *slog.Logger) (func(context.Context) error, error) {
	ln, err := net.Listen("tcp", c.Listen.String())
	if err != nil {
		return nil, err
	}
	log.Warn("the engine is reached by Confer's wire, too, which proves less than tally/1")
	opt := listen.Options{Attester: a, Engine: engine, Rand: rand.Reader, Now: time.Now, Logger: log, Observe: m.ConferSession,
		ContextTokens: c.ContextTokens, InsecureAttester: c.Insecure, Manifest: manifestFrom(c)}
	return func(ctx context.Context) error { return listen.Serve(ctx, ln, opt) }, nil
}

// manifestFrom fetches what the host says that the enclave should be. nil where the configuration names no place.
func manifestFrom(c *guest.Confer) func(context.Context) (manifest, bundle []byte, err error) {
	if c.Manifest == "" {
		return nil
	}
	return func(ctx context.Context) (manifest, bundle []byte, err error) {
		if manifest, err = fetch(ctx, c.Manifest, confer.MaxPayload); err == nil {
			bundle, err = fetch(ctx, c.ManifestBundle, confer.MaxPayload)
		}
		if err != nil {
			err = fmt.Errorf("confer manifest: %w", err)
		}
		return manifest, bundle, err
	}
}

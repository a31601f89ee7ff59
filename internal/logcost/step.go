package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tally/release/log"
	"tally/release/monitor"
)

// A leaf has as many bytes as a release's.
const leafBytes = 497

// runStep is what this program runs of itself.
func runStep(ctx context.Context, step, dir string) error {
	pub, key := filepath.Join(dir, "pub"), filepath.Join(dir, "pub.key")
	if step == "audit" {
		return audit(ctx, pub)
	}
	text, ok := strings.CutPrefix(step, "fill=")
	n, err := strconv.Atoi(text)
	if !ok || err != nil {
		return fmt.Errorf("-step %q: want fill=N or audit", step)
	}
	return fill(ctx, pub, key, n)
}

// fill makes a log of n leaves that are nobody's.
func fill(ctx context.Context, pub, key string, n int) error {
	quiet := slog.New(slog.DiscardHandler)
	if _, err := log.Create(ctx, pub, log.CreateOptions{Origin: "log.cost.example", KeyFile: key, Rand: rand.Reader, Now: time.Now(), Logger: quiet}); err != nil {
		return err
	}
	l, err := log.OpenBulk(ctx, pub, key, time.Now, quiet)
	if err != nil {
		return err
	}
	const chunk = 1 << 16 // a hundredth of the largest log in memory
	for first := 0; first < n && err == nil; first += chunk {
		bodies := make([][]byte, min(chunk, n-first))
		for i := range bodies {
			bodies[i] = fmt.Appendf(nil, "%*d", leafBytes, first+i)
		}
		err = l.AppendAll(ctx, bodies)
	}
	return errors.Join(err, l.Close())
}

func audit(ctx context.Context, pub string) error {
	key, err := log.ReadKey(pub)
	if err != nil {
		return err
	}
	src, err := log.OpenSource(pub, nil)
	if err != nil {
		return err
	}
	_, err = monitor.Audit(ctx, src, key)
	return err
}

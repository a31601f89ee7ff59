package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"

	"tally/release"
)

// witnesses are those whom a log asks to cosign.
type witnesses struct {
	quorum release.Quorum
	group  tessera.WitnessGroup // the same, for Tessera
}

// readPolicy reads the log's own policy.txt; nil means that it wants no cosignatures.
func readPolicy(dir string, key release.LogKey) (*witnesses, error) {
	path := filepath.Join(dir, PolicyFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("log: %w: without it nobody can tell who must cosign", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, release.MaxWitnessPolicy+1))
	if err != nil {
		return nil, err
	}
	return parsePolicy(data, path, key)
}

func parsePolicy(data []byte, name string, key release.LogKey) (*witnesses, error) {
	p, err := release.ParseWitnessPolicy(data, name)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(p.Logs, func(k release.LogKey) bool { return k.String() == key.String() }) {
		return nil, fmt.Errorf("%s: does not name the log %q", name, key.Origin())
	}
	if p.Quorum.IsZero() {
		return nil, nil
	}
	for _, w := range p.Quorum.Witnesses() {
		if p.URLs[w.String()] == "" {
			return nil, fmt.Errorf("%s: witness %q: no URL to ask it at", name, w.Name())
		}
	}
	group, err := tessera.NewWitnessGroupFromPolicy(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &witnesses{p.Quorum, group}, nil
}

// answers is an HTTP transport that keeps what each witness last said, for the error message.
type answers struct {
	mu   sync.Mutex
	last map[string]string // by host
}

// maxAnswer is the most that a witness may say, unpacked: a few signature lines. Tessera reads whatever comes.
const maxAnswer = 64 << 10

// RoundTrip does as http.DefaultTransport does, but for answers that are too long.
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := roundTrip(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = map[string]string{}
	}
	if err != nil {
		a.last[r.URL.Host] = err.Error()
	} else {
		a.last[r.URL.Host] = fmt.Sprintf("HTTP status %d", resp.StatusCode)
	}
	return resp, err
}

// roundTrip returns a response whose body is read already.
func roundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxAnswer))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
		}
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (a *answers) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for host, text := range a.last {
		all = append(all, host+": "+text)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// unpublished says why no checkpoint came.
func (l *Log) unpublished(ctx context.Context, what string, err error) error {
	l.failed = true
	if ctx.Err() == nil && !l.quorum.IsZero() && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("log %q: %s: nothing is published that %s has not cosigned (%s); publishing again finishes it", l.dir, what, l.quorum, l.trace)
	}
	return fmt.Errorf("log %q: %s: %w", l.dir, what, err)
}

// settle waits until the published checkpoint commits to everything in the tree.
func (l *Log) settle(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("log %q: %w", l.dir, err)
	}
	return l.until(ctx, wait, "publish what an earlier run left", func(n int64, _ []byte) bool { return uint64(n) >= size })
}

// until waits for a checkpoint that ok accepts.
func (l *Log) until(ctx, wait context.Context, what string, ok func(size int64, checkpoint []byte) bool) error {
	for {
		tree, text, err := l.tree(ctx)
		if err != nil {
			return err
		}
		if ok(tree.N, text) {
			return nil
		}
		select {
		case <-wait.Done():
			return l.unpublished(ctx, what, wait.Err())
		case <-time.After(poll):
		}
	}
}

// Refresh collects new cosignatures on the log in dir without a new leaf, and returns the time since which the
// quorum has met. A static directory goes stale otherwise: clients want young cosignatures.
func Refresh(ctx context.Context, dir, keyFile string, logger *slog.Logger) (t time.Time, err error) {
	old, err := os.ReadFile(filepath.Join(dir, CheckpointFile))
	if err != nil {
		return t, err
	}
	l, err := openKey(ctx, dir, keyFile, logger, settings{batch: 1, republish: checkpoint})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if l.quorum.IsZero() {
		return t, fmt.Errorf("log %q: its %s names no witnesses: there is nothing to refresh", dir, PolicyFile)
	}
	before, _ := l.quorum.Met(old) // zero when it never was met
	wait, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	err = l.until(ctx, wait, "refresh", func(_ int64, text []byte) bool {
		t, err = l.quorum.Met(text)
		return err == nil && (t.After(before) || string(text) != string(old))
	})
	return t, err
}

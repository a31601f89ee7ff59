package log_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tally/release/log"
)

// Opened is what read is, and what is not read is not opened.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB
	if err := os.WriteFile(filepath.Join(dir, "large"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, src := range sources(t, dir) {
		f, err := src.Open(t.Context(), "large")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", src, len(got), err)
		}
		for _, name := range []string{"", "..", "../large", "/large", "a\\b"} {
			if _, err := src.Open(t.Context(), name); err == nil || !strings.Contains(err.Error(), "not a local path") {
				t.Errorf("%s: %q: %v", src, name, err)
			}
		}
		if _, err := src.Open(t.Context(), "absent"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "absent") {
			t.Errorf("%s: absent: %v", src, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := src.Open(ctx, "large"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: %v", src, err)
		}
	}
}

// A drip answers with a body of size bytes, step of them after each pause; 0: no answer at all.
type drip struct {
	size, step int
	pause      time.Duration
}

func (d drip) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.step == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: &dripping{d, r.Context()}, Request: r}, nil
}

type dripping struct {
	drip
	ctx context.Context
}

func (d *dripping) Read(b []byte) (int, error) {
	if d.size == 0 {
		return 0, io.EOF
	}
	select {
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	case <-time.After(d.pause):
	}
	n := copy(b, make([]byte, min(d.step, d.size)))
	d.size -= n
	return n, nil
}

func (d *dripping) Close() error { return nil }

// A long file may take long so long as it comes; one that does not come is not waited for.
func TestOpenWaits(t *testing.T) {
	for name, c := range map[string]struct {
		drip
		cancel time.Duration
		want   string
		after  time.Duration
	}{
		"steady":    {drip{40 << 20, 4096, 100 * time.Millisecond}, 0, "", 1024 * time.Second}, // 40 KiB a second
		"slow":      {drip{40 << 20, 4096, 200 * time.Millisecond}, 0, "https://log.example/large: less than 1048576 bytes within 30s", 30 * time.Second},
		"no answer": {drip{}, 0, "https://log.example/large: less than 1048576 bytes within 30s", 30 * time.Second},
		"cancelled": {drip{40 << 20, 4096, time.Second}, 10 * time.Second, "https://log.example/large: context canceled", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				src, err := log.OpenSource("https://log.example/", &http.Client{Transport: c.drip})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				f, err := src.Open(ctx, "large")
				n := int64(0)
				if err == nil {
					n, err = io.Copy(io.Discard, f)
					defer f.Close()
				}
				if got := time.Since(start); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want || err == nil && n != int64(c.size) || got.Round(time.Second) != c.after {
					t.Errorf("%d bytes after %v: %v", n, got, err)
				}
			})
		})
	}
}

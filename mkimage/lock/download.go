package lock

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	attempts = 5                // how often one address is tried
	silences = 2                // how often, when it gives no answer at all
	answer   = 30 * time.Second // how long it may take to begin one: snapshot archives are slow
	maxPause = 60 * time.Second // the longest pause between two attempts, also when the server asks for more
)

// A permanentError is an answer that trying again does not change.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// A localError is of the store, such as a full disk: no server is at fault and none can help.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

func isLocal(err error) bool {
	var local localError
	return errors.As(err, &local)
}

// A StatusError is an answer of a server that is no success and that trying again does not change.
type StatusError struct {
	Code   int    // of HTTP
	Status string // code and text
}

func (e *StatusError) Error() string { return e.Status }

// A busyError is an answer that names its own pause.
type busyError struct {
	error
	pause time.Duration
}

// A silentError says that a server did not begin to answer in time.
type silentError struct{ after time.Duration }

func (e silentError) Error() string { return fmt.Sprintf("no answer within %s", e.after) }

// last says whether attempt i, which ended with err, was the last.
func last(i int, err error) bool {
	var permanent permanentError
	var silent silentError
	return errors.As(err, &permanent) || isLocal(err) || i >= attempts-1 || errors.As(err, &silent) && i >= silences-1
}

// get downloads one file into the store, from wherever an earlier attempt stopped.
func (f *Fetcher) get(ctx context.Context, url string, want Object, bar io.Writer) error {
	p, err := f.Store.openPart(want.SHA256)
	if err != nil {
		return localError{err}
	}
	defer p.Close()
	for i := 0; ; i++ {
		if err = f.try(ctx, url, p, want, bar); err == nil || ctx.Err() != nil {
			break
		}
		if last(i, err) {
			return err
		}
		pause := time.Second << i
		var busy busyError
		if errors.As(err, &busy) {
			pause = max(pause, busy.pause)
		}
		pause = min(pause, maxPause)
		f.Log.Info("download interrupted, trying again", "url", url, "error", err, "pause", pause)
		if err := f.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	if err := p.commit(f.Store.Path(want.SHA256)); err != nil {
		return localError{err}
	}
	return nil
}

// try makes one request and appends what it brings to the part.
func (f *Fetcher) try(ctx context.Context, url string, p *part, want Object, bar io.Writer) error {
	h := sha256.New()
	have, err := p.start(h, url, want.Size)
	if err != nil {
		return localError{err}
	}
	ctx, alive, stop := f.watch(ctx)
	defer stop()
	resp, err := f.request(ctx, url, have, p.validator)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		if have, err = 0, p.reset(); err != nil {
			return localError{err}
		}
		h.Reset()
	}
	if err := p.note(url, resp.Header); err != nil {
		return localError{err}
	}
	body := io.LimitReader(ctxReader{ctx, alive(resp.Body)}, want.Size-have+1)
	n, err := io.Copy(io.MultiWriter(p, h, bar), body)
	switch got := have + n; {
	case got > want.Size:
		return permanentError{errors.Join(fmt.Errorf("longer than %d bytes", want.Size), p.reset())}
	case err != nil:
		return fmt.Errorf("after %d of %d bytes: %w", got, want.Size, err)
	case got < want.Size:
		return fmt.Errorf("ends after %d of %d bytes", got, want.Size)
	}
	if got := Hash(h.Sum(nil)); got != want.SHA256 {
		err := errors.Join(fmt.Errorf("SHA-256 %s, want %s", got, want.SHA256), p.reset())
		if have > 0 {
			return err // the bytes of two answers did not fit: once more, from the start
		}
		return permanentError{err}
	}
	return nil
}

// request asks for the file from byte have on. The validator makes sure that it is still the same file.
func (f *Fetcher) request(ctx context.Context, url string, have int64, validator string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, permanentError{err}
	}
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", validator)
	}
	notice := time.AfterFunc(f.answer()/4, func() { f.Log.Info("waiting for an answer", "url", url) })
	resp, err := f.Client.Do(req)
	notice.Stop()
	if err != nil {
		var silent silentError
		if errors.As(context.Cause(ctx), &silent) {
			return nil, silent // without the address, which callers say
		}
		return nil, err
	}
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return resp, nil
	case code == http.StatusPartialContent && have > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
		return resp, nil
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		err = busyError{errors.New(resp.Status), retryAfter(resp.Header)}
	case code == http.StatusRequestedRangeNotSatisfiable && have > 0: // asked to go on where it ended before
		err = permanentError{fmt.Errorf("ends after %d bytes", have)}
	default:
		err = permanentError{&StatusError{resp.StatusCode, resp.Status}}
	}
	resp.Body.Close()
	return nil, err
}

// retryAfter reads the pause a server asks for; a date is treated as the longest one.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n >= 0 && n < 1<<20 {
		return time.Duration(n) * time.Second
	}
	if v != "" {
		return maxPause
	}
	return 0
}

// stallBytes must come in each span of f.Stall: a server that sends single bytes holds a build as one that sends none.
const stallBytes = 16 << 10

func (f *Fetcher) stall() time.Duration {
	if f.Stall == 0 {
		return time.Minute
	}
	return f.Stall
}

// answer is how long a server may take until it begins to answer.
func (f *Fetcher) answer() time.Duration { return min(answer, f.stall()) }

// watch returns a context that ends when no answer began in time or when fewer than stallBytes came for f.Stall, and a reader
// of the answer's body that tells it of bytes.
func (f *Fetcher) watch(ctx context.Context) (context.Context, func(io.Reader) io.Reader, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(f.answer(), func() { cancel(silentError{f.answer()}) })
	t := time.AfterFunc(f.stall(), func() { cancel(fmt.Errorf("nothing, or next to nothing, came for %s", f.stall())) })
	t.Stop() // until an answer begins
	alive := func(r io.Reader) io.Reader {
		silence.Stop()
		t.Reset(f.stall())
		return &resetReader{Reader: r, t: t, stall: f.stall()}
	}
	return ctx, alive, func() { silence.Stop(); t.Stop(); cancel(nil) }
}

type resetReader struct {
	io.Reader
	t     *time.Timer
	stall time.Duration
	n     int // bytes since the last reset
}

func (r *resetReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if r.n += n; r.n >= stallBytes {
		r.n = 0
		r.t.Reset(r.stall)
	}
	return n, err
}

package log

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type urlSource struct {
	base   *url.URL
	client *http.Client
}

// String leaves out a password, as what follows does: errors go into the logs of others.
func (u *urlSource) String() string { return u.base.Redacted() }

func (u *urlSource) request(ctx context.Context, name string) (*http.Request, error) {
	if err := checkLocal(name); err != nil {
		return nil, err
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, u.base.JoinPath(strings.Split(name, "/")...).String(), nil)
}

func (u *urlSource) Read(ctx context.Context, name string, limit int64) ([]byte, error) {
	outer := ctx
	ctx, cancel := context.WithTimeout(outer, fetchTimeout)
	defer cancel()
	req, err := u.request(ctx, name)
	if err != nil {
		return nil, err
	}
	data, err := get(u.client, req, limit)
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, context.DeadlineExceeded) && outer.Err() == nil:
		err = fmt.Errorf("no whole answer within %v", fetchTimeout)
	}
	return nil, fmt.Errorf("%s: %w", req.URL.Redacted(), err)
}

var errSlow = fmt.Errorf("less than %d bytes within %v", fetchStep, fetchTimeout)

func (u *urlSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := u.request(ctx, name)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	s := &stream{at: req.URL.Redacted(), ctx: ctx, cancel: cancel, slow: time.AfterFunc(fetchTimeout, func() { cancel(errSlow) })}
	if s.body, err = body(u.client, req); err != nil {
		s.slow.Stop()
		err = s.named(err)
		cancel(nil)
		return nil, err
	}
	return s, nil
}

// A stream is the body of an answer that may be long, so long as it does not stand still.
type stream struct {
	body   io.ReadCloser
	at     string // URL, for errors
	ctx    context.Context
	cancel context.CancelCauseFunc
	slow   *time.Timer
	step   int // bytes since slow was set
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.body.Read(b)
	if s.step += n; s.step >= fetchStep {
		s.step = 0
		s.slow.Reset(fetchTimeout)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.named(err)
	}
	return n, err
}

func (s *stream) named(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s: %w", s.at, err)
}

func (s *stream) Close() error {
	s.slow.Stop()
	s.cancel(nil)
	return s.body.Close()
}

// get returns the body of the answer to req. Errors do not name its URL.
func get(client *http.Client, req *http.Request, limit int64) ([]byte, error) {
	b, err := body(client, req)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return readLimited(b, limit)
}

func body(client *http.Client, req *http.Request) (io.ReadCloser, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err, req.URL)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusNotFound, http.StatusGone:
		err = fs.ErrNotExist
	default:
		err = fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// withoutURL takes method and URL out of an error of net/http, unless the URL is not the one that was asked for.
func withoutURL(err error, asked *url.URL) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	last, perr := url.Parse(ue.URL)
	if perr == nil && last.Host == asked.Host && last.Path == asked.Path {
		return ue.Err
	}
	return fmt.Errorf("redirected to %.256q: %w", ue.URL, ue.Err)
}

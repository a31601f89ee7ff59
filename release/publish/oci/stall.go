package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	defaultStall = time.Minute
	stallBytes   = 16 << 10 // must come in each span: who sends single bytes holds us as one who sends none
	workFactor   = 5        // before it answers an upload a registry hashes what may be gigabytes, and moves it
)

// impatient gives requests up that a registry leaves without an answer, or whose bodies stand still, for so long.
type impatient struct {
	http.RoundTripper
	stall time.Duration
}

func (t impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	stall := t.stall
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		stall *= workFactor
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{ctx: ctx, cancel: cancel, stall: stall}
	w.timer = time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing, or next to nothing, came for %v", stall)) })
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &moving{ReadCloser: r.Body, w: w}
		if again := r.GetBody; again != nil {
			r.GetBody = func() (io.ReadCloser, error) {
				b, err := again()
				return &moving{ReadCloser: b, w: w}, err
			}
		}
	}
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		err = w.why(err)
		w.end()
		return nil, err
	}
	w.timer.Reset(stall)
	resp.Body = &answer{moving{ReadCloser: resp.Body, w: w}}
	return resp, nil
}

// A watch ends a request that stands still.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	timer  *time.Timer
}

func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// why is the reason of an error, if that is ours: net/http says only that the request was cancelled.
func (w *watch) why(err error) error {
	if cause := context.Cause(w.ctx); cause != nil {
		return cause
	}
	return err
}

// moving is a body that tells the watch of bytes.
type moving struct {
	io.ReadCloser
	w *watch
	n int // bytes since it was told
}

func (m *moving) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	if m.n += n; m.n >= stallBytes {
		m.n = 0
		m.w.timer.Reset(m.w.stall)
	}
	return n, err
}

// answer is the body of an answer, with which its request ends.
type answer struct{ moving }

func (a *answer) Read(b []byte) (int, error) {
	n, err := a.moving.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = a.w.why(err)
	}
	return n, err
}

func (a *answer) Close() error {
	a.w.end()
	return a.moving.Close()
}

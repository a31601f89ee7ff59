package log

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"k8s.io/klog/v2"
)

// Tessera talks through klog, which is one per process and may be set up once, before anybody talks. The log
// that was opened last hears of errors; the rest is chatter.
var tesseraTalk struct {
	once sync.Once
	to   atomic.Pointer[slog.Handler]
}

func tesseraTo(h slog.Handler) {
	tesseraTalk.to.Store(&h)
	tesseraTalk.once.Do(func() { klog.SetSlogLogger(slog.New(errorsOnly{})) })
}

// errorsOnly passes errors on to the handler of the moment and drops the rest.
type errorsOnly struct {
	with []func(slog.Handler) slog.Handler
}

func (h errorsOnly) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (h errorsOnly) Handle(ctx context.Context, r slog.Record) error {
	to := *tesseraTalk.to.Load()
	for _, w := range h.with {
		to = w(to)
	}
	return to.Handle(ctx, r)
}

func (h errorsOnly) WithAttrs(a []slog.Attr) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithAttrs(a) })
}

func (h errorsOnly) WithGroup(n string) slog.Handler {
	return h.and(func(to slog.Handler) slog.Handler { return to.WithGroup(n) })
}

func (h errorsOnly) and(w func(slog.Handler) slog.Handler) slog.Handler {
	return errorsOnly{append(h.with[:len(h.with):len(h.with)], w)}
}

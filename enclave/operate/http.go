package operate

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// readyTimeout bounds one look at the engine.
const readyTimeout = 2 * time.Second

// Serve answers the operator on ln until ctx ends:
//
//	GET /metrics   the page of m
//	GET /healthz   200: this process answers
//	GET /readyz    200 when ready returns nil, else 503
//
// What ready says is in the metrics too. There is nothing to be written here, and nothing else to be read.
func Serve(ctx context.Context, ln net.Listener, m *Metrics, ready func(context.Context) error) error {
	srv := &http.Server{Handler: Routes(m, ready), ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Routes is Serve's handler.
func Routes(m *Metrics, ready func(context.Context) error) http.Handler {
	look := func(r *http.Request) bool {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		ok := ready(ctx) == nil
		m.Ready(ok)
		return ok
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		look(r)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = m.WriteTo(w) // the reader's loss
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !look(r) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "not ready\n")
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	return mux
}

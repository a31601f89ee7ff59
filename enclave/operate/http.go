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

// ErrWaitsForSecrets is what Serve's ready returns while an operator has still to send the engine's secrets.
var ErrWaitsForSecrets = errors.New("waits for secrets")

// Serve answers the operator on ln until ctx ends:
//
//	GET /metrics   the page of m
//	GET /healthz   200: this process answers
//	GET /readyz    200 when ready returns nil, else 503: "not ready", or "waits for secrets" for ErrWaitsForSecrets
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
	look := func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
		defer cancel()
		err := ready(ctx)
		m.Ready(err == nil)
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		_ = look(r) // it is in the metrics
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = m.WriteTo(w) // the reader's loss
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := look(r); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			word := "not ready" // an error's own text may say anything
			if errors.Is(err, ErrWaitsForSecrets) {
				word = ErrWaitsForSecrets.Error()
			}
			_, _ = io.WriteString(w, word+"\n")
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	return mux
}

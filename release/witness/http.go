package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Limits of a request.
const (
	maxRequest = 128 << 10 // bytes
	maxProof   = 63        // hashes
)

// A request is the body of add-checkpoint. Nothing in it is verified.
type request struct {
	old        int64
	proof      tlog.TreeProof
	checkpoint []byte // the whole note
	text       []byte // its signed text
	origin     string // the first line of the text
}

// parseRequest reads "old SIZE", proof lines in base64, an empty line and a checkpoint.
func parseRequest(body []byte) (*request, error) {
	head, checkpoint, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return nil, errors.New("no empty line before the checkpoint")
	}
	lines := bytes.Split(head, []byte("\n"))
	size, ok := bytes.CutPrefix(lines[0], []byte("old "))
	old, err := strconv.ParseInt(string(size), 10, 64)
	if !ok || err != nil || old < 0 || strconv.FormatInt(old, 10) != string(size) {
		return nil, errors.New("the first line is not old SIZE")
	}
	q := &request{old: old, checkpoint: checkpoint}
	if len(lines)-1 > maxProof {
		return nil, errors.New("more than 63 proof lines")
	}
	for _, l := range lines[1:] {
		raw, err := base64.StdEncoding.Strict().DecodeString(string(l))
		if err != nil || len(raw) != tlog.HashSize {
			return nil, errors.New("a proof line is not 32 bytes in base64")
		}
		q.proof = append(q.proof, tlog.Hash(raw))
	}
	cut := bytes.LastIndex(checkpoint, []byte("\n\n"))
	if cut < 0 {
		return nil, errors.New("the checkpoint has no signatures")
	}
	q.text = checkpoint[:cut+1]
	origin, _, _ := bytes.Cut(q.text, []byte("\n"))
	q.origin = string(origin)
	return q, nil
}

// Handler answers POST /add-checkpoint, the one call of the protocol that a witness must have. A peer's bytes
// never enter an answer or the log.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", w.addCheckpoint)
	return mux
}

func (w *Witness) addCheckpoint(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		http.Error(rw, "the request is too long or was cut", http.StatusBadRequest)
		return
	}
	q, err := parseRequest(body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	line, err := w.cosign(r.Context(), q)
	var no *refusal
	switch {
	case errors.As(err, &no) && no.size:
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(no.status)
		io.WriteString(rw, no.text)
	case errors.As(err, &no):
		w.opt.Logger.Warn("refused", "status", no.status, "why", no.text)
		http.Error(rw, no.text, no.status)
	case err != nil:
		w.opt.Logger.Error("cannot cosign", "error", err)
		http.Error(rw, "the witness cannot cosign now", http.StatusInternalServerError)
	default:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(rw, line)
	}
}

// Serve answers on ln until ctx ends, and then finishes what was asked before, for five seconds.
func (w *Witness) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: w.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	gone := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(gone)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) || ctx.Err() == nil {
		return err
	}
	<-gone // Serve returns when the shutdown begins
	return nil
}

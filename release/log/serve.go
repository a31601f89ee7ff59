package log

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

// Handler serves a log directory read-only: what any static web server would, without the hidden files
// and without listings.
func Handler(dir string) http.Handler {
	files := http.FileServer(visible{os.DirFS(dir)})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		switch p := r.URL.Path; {
		case strings.HasPrefix(p, "/tile/"):
			h.Set("Content-Type", "application/octet-stream")
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		case strings.HasPrefix(p, "/by-digest/"):
			h.Set("Content-Type", "application/octet-stream")
		case p == "/"+CheckpointFile, p == "/"+VKeyFile, p == "/"+PolicyFile:
			h.Set("Content-Type", "text/plain; charset=utf-8")
			fallthrough
		default: // without a word a cache would keep channels and bundles for a tenth of their age
			h.Set("Cache-Control", "no-cache")
		}
		files.ServeHTTP(w, r)
	})
}

// visible is a file system for http.FileServer without dot files and directories.
type visible struct{ fs fs.FS }

func (v visible) Open(name string) (http.File, error) {
	for _, part := range strings.Split(name, "/") {
		if strings.HasPrefix(part, ".") {
			return nil, fs.ErrNotExist
		}
	}
	f, err := http.FS(v.fs).Open(path.Clean(name))
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fs.ErrNotExist, f.Close())
	}
	return f, nil
}

// Serve answers on ln until ctx ends.
func Serve(ctx context.Context, ln net.Listener, dir string) error {
	srv := server(ctx, dir, writeTime)
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// writeTime is how long a client may take for one piece of an answer, 32 KiB of a file.
const writeTime = 30 * time.Second

// server is what Serve answers with. Its time to read is a whole request's: a body that does not come would hold a connection.
// Its time to write is a piece's: who does not read would hold one, too, and who reads slowly is to get all.
func server(ctx context.Context, dir string, write time.Duration) *http.Server {
	files := Handler(dir)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			files.ServeHTTP(&renewing{w, http.NewResponseController(w), write}, r)
		}),
		ReadTimeout: 10 * time.Second, WriteTimeout: write, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
}

// renewing gives each piece of an answer its own time. It is no io.ReaderFrom, so that a file comes in pieces.
type renewing struct {
	http.ResponseWriter
	control *http.ResponseController
	time    time.Duration
}

func (w *renewing) Write(p []byte) (int, error) {
	if err := w.control.SetWriteDeadline(time.Now().Add(w.time)); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

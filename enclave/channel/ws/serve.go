package ws

import (
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits of requests that are not WebSocket connections yet.
const (
	requestTime  = 10 * time.Second // until a request has come, with its body if it has one
	maxHead      = 16 << 10         // bytes of it
	maxRequests  = 1024             // at a time
	pathNotFound = "404 page not found"
)

// Serve takes WebSocket connections from ln at one path, and hands them out. Every other request is answered
// 404. Closing the returned listener closes ln; connections that were accepted stay.
func Serve(ln net.Listener, path string) net.Listener {
	l := NewListener(ln.Addr().String() + path)
	srv := server(l, path)
	go func() {
		defer l.Close()
		_ = srv.Serve(ln) // Accept says that it is over
	}()
	return served{l, srv}
}

// server is the HTTP server of l. A connection that becomes a WebSocket has no time from it.
func server(l *Listener, path string) *http.Server {
	var waiting atomic.Int64
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				http.Error(w, pathNotFound, http.StatusNotFound)
				return
			}
			l.ServeHTTP(w, r)
		}),
		ReadTimeout: requestTime, MaxHeaderBytes: maxHead,
		ErrorLog: log.New(io.Discard, "", 0), // it would quote clients
		ConnState: func(c net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				if waiting.Add(1) > maxRequests {
					c.Close()
				}
			case http.StateHijacked, http.StateClosed:
				waiting.Add(-1)
			}
		},
	}
	srv.SetKeepAlivesEnabled(false)
	return srv
}

// served is a Listener that owns its server.
type served struct {
	*Listener
	srv *http.Server
}

// Close ends Accept and closes what the server listens on.
func (s served) Close() error {
	s.Listener.Close()
	return s.srv.Close()
}

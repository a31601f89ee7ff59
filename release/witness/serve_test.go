package witness

import (
	"bufio"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/release"
)

// TestServeFinishes: what was asked before the end is answered, and only then is the directory let go.
func TestServeFinishes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	if _, err := Create(dir, "w.example", rand.Reader); err != nil {
		t.Fatal(err)
	}
	l := newFakeLog(t, "log.example")
	w, err := Open(dir, Options{Logs: []release.LogKey{l.key}, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") { // the handler reads the body
		t.Fatalf("%q, %v", line, err)
	}
	r.ReadString('\n')
	cancel()
	select {
	case err := <-done:
		t.Fatalf("ended while it was asked: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	io.WriteString(c, "old")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%v, %v", resp, err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("does not end")
	}
}

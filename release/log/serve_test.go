package log

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRequestWithoutEnd: a request whose body does not come holds its connection for the server's time, and no longer.
func TestRequestWithoutEnd(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := server(t.Context(), t.TempDir(), writeTime)
	srv.ReadTimeout /= 50 // for this test
	defer srv.Close()
	go srv.Serve(ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is held")
	}
}

// TestSlowReaders: who does not read an answer holds a connection for the server's time, and no longer; who reads slowly gets
// all, and what was asked for, in any time.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const size = 32 << 20 // more than sockets hold
	if err := os.WriteFile(filepath.Join(dir, "bundle"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "bundle"), size); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const limit = time.Second
	closed := make(chan struct{}, 9)
	srv := server(t.Context(), dir, limit)
	srv.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	t.Cleanup(func() { srv.Close() })
	go srv.Serve(ln)
	ask := func(t *testing.T, more string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.(*net.TCPConn).SetReadBuffer(64 << 10)
		io.WriteString(c, "GET /bundle HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+more+"\r\n")
		return c
	}
	ask(t, "")
	select {
	case <-closed:
	case <-time.After(10 * limit):
		t.Error("the connection is held")
	}
	for more, want := range map[string]int64{"": size, "Range: bytes=2-\r\n": size - 2, "Range: bytes=0-8,16-\r\n": -1} {
		t.Run(more, func(t *testing.T) {
			t.Parallel()
			resp, err := http.ReadResponse(bufio.NewReader(ask(t, more)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if want < 0 { // of two parts with their heads
				want = resp.ContentLength
			}
			var n, part int64
			for begin := time.Now(); err == nil; n += part {
				if time.Since(begin) < 3*limit {
					time.Sleep(limit / 10)
				}
				part, err = io.CopyN(io.Discard, resp.Body, size/40)
			}
			if err != io.EOF || n != want || n < size-9 {
				t.Errorf("%d bytes of %d, %v", n, want, err)
			}
		})
	}
}

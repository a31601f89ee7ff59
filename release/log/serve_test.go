package log

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestRequestWithoutEnd: a request whose body does not come holds its connection for the server's time, and no longer.
func TestRequestWithoutEnd(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := server(t.Context(), t.TempDir())
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

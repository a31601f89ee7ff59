package main

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestServersBytesStayOffStderr: net/http logs what a server sends after its answer, as it is.
func TestServersBytesStayOffStderr(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	more := make(chan struct{})
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Read(make([]byte, 4096))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		<-more
		io.WriteString(c, "and this")
		c.Read(make([]byte, 1))
	}()
	var said, kept bytes.Buffer // said: all that the log gets
	old := log.Writer()
	defer log.SetOutput(old)
	log.SetOutput(io.MultiWriter(&said, libraryTalk{&kept}))
	transport := new(http.Transport)
	resp, err := (&http.Client{Transport: transport}).Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	time.Sleep(50 * time.Millisecond) // until the connection is idle
	close(more)
	time.Sleep(200 * time.Millisecond)
	transport.CloseIdleConnections()
	log.Print("something else")
	if !bytes.Contains(said.Bytes(), []byte("and this")) {
		t.Errorf("net/http said %q: the test tests nothing", said.Bytes())
	}
	if bytes.Contains(kept.Bytes(), []byte("and this")) || !bytes.Contains(kept.Bytes(), []byte("something else")) {
		t.Errorf("kept %q", kept.Bytes())
	}
}

// TestPanicIsNoUsageError: a defect of ours is exit code 1.
func TestPanicIsNoUsageError(t *testing.T) {
	var stderr bytes.Buffer
	if code := guarded(&stderr, func() int { panic("here") }); code != exitFailed || !strings.HasPrefix(stderr.String(), "tally: error: internal error") ||
		!strings.Contains(stderr.String(), ": here\n") || !strings.Contains(stderr.String(), "main_test.go") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	if code := guarded(&stderr, func() int { return exitDiffers }); code != exitDiffers {
		t.Errorf("exit %d", code)
	}
}

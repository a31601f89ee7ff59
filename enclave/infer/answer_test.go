package infer_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/enclave"
	"tally/enclave/client"
	"tally/enclave/infer"
)

// rawEngine answers each request with what answer writes, and hangs up.
func rawEngine(t *testing.T, answer func(io.Writer)) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				answer(c)
			}()
		}
	}()
	return newWorld(t, func(o *infer.Options, e *enclave.Options) { o.Socket, e.Tick = filepath.Join(dir, "s"), -1 })
}

// TestEnginesAnswers: an answer whose end nobody could tell from its truncation is none, one that breaks off is incomplete, and of its head
// only the status and a known type cross.
func TestEnginesAnswers(t *testing.T) {
	const kind = "Content-Type: application/json\r\n"
	for name, c := range map[string]struct {
		answer, kind string
		status       int // 0: the answer is incomplete
		body         string
	}{
		"length":           {"HTTP/1.1 200 OK\r\n" + kind + "Content-Length: 2\r\n\r\n{}", "application/json", 200, "{}"},
		"chunks":           {"HTTP/1.1 200 OK\r\n" + kind + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "application/json", 200, "{}"},
		"events":           {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}", "text/event-stream", 200, "{}"},
		"another type":     {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nServer: x\r\nContent-Length: 2\r\n\r\n{}", "application/octet-stream", 200, "{}"},
		"no type":          {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "application/octet-stream", 200, "{}"},
		"its refusal":      {"HTTP/1.1 400 Bad Request\r\n" + kind + "Content-Length: 2\r\n\r\n{}", "application/json", 400, "{}"},
		"no end":           {"HTTP/1.1 200 OK\r\n" + kind + "Connection: close\r\n\r\n{}", "application/json", 502, `"code":"engine_failed"`},
		"no end, HTTP/1.0": {"HTTP/1.0 200 OK\r\n" + kind + "\r\n{}", "application/json", 502, `"code":"engine_failed"`},
		"no such status":   {"HTTP/1.1 600 Odd\r\n" + kind + "Content-Length: 2\r\n\r\n{}", "application/json", 502, `"code":"engine_failed"`},
		"no HTTP":          {"hello\r\n\r\n", "application/json", 502, `"code":"engine_failed"`},
		"nothing":          {"", "application/json", 502, `"code":"engine_failed"`},
		"cut by length":    {"HTTP/1.1 200 OK\r\n" + kind + "Content-Length: 3\r\n\r\n{}", "application/json", 0, ""},
		"cut in a chunk":   {"HTTP/1.1 200 OK\r\n" + kind + "Transfer-Encoding: chunked\r\n\r\n3\r\n{}", "application/json", 0, ""},
		"no last chunk":    {"HTTP/1.1 200 OK\r\n" + kind + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "application/json", 0, ""},
	} {
		w := rawEngine(t, func(out io.Writer) { io.WriteString(out, c.answer) })
		resp, err := w.http.Post("http://x"+infer.PathChat, "application/json", strings.NewReader(chat("a")))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != c.kind || len(resp.Header) != 1 {
			t.Errorf("%s: headers %v", name, resp.Header)
		}
		if c.status == 0 {
			if !errors.Is(err, client.ErrIncomplete) {
				t.Errorf("%s: %q, %v; want an incomplete answer", name, b, err)
			}
		} else if err != nil || resp.StatusCode != c.status || !strings.Contains(string(b), c.body) {
			t.Errorf("%s: %d, %q, %v", name, resp.StatusCode, b, err)
		}
	}
}

// TestLongAnswer: an answer over MaxResponse is cut off there, and is incomplete.
func TestLongAnswer(t *testing.T) {
	for _, n := range []int{infer.MaxResponse, infer.MaxResponse + 1} {
		w := rawEngine(t, func(out io.Writer) {
			fmt.Fprintf(out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
			for left, part := n, bytes.Repeat([]byte{'x'}, 1<<20); left > 0; left -= len(part) {
				if _, err := out.Write(part[:min(left, len(part))]); err != nil {
					return
				}
			}
		})
		whole := n == infer.MaxResponse
		resp, err := w.http.Post("http://x"+infer.PathChat, "application/json", strings.NewReader(chat("a")))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if got > infer.MaxResponse || whole != (err == nil) || !whole && !errors.Is(err, client.ErrIncomplete) {
			t.Errorf("%d bytes came, %v; whole: %v", got, err, whole)
		}
	}
}

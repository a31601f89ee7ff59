package enclave_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
)

// A witness is an engine that reads to the end and remembers how that went.
type witness struct{ asked chan error }

func (w *witness) Exchange(_ context.Context, r io.Reader, _ io.Writer) error {
	_, err := io.ReadAll(r)
	w.asked <- err
	return err
}

// rawClient opens a session and accepts anything.
func rawClient(t *testing.T, addr string) *channel.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := channel.Client(t.Context(), conn, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now},
		func(context.Context, channel.Peer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

// TestUnfinishedRequests: the engine never takes part of a request for a whole one, and the server hangs
// up without a CLOSE.
func TestUnfinishedRequests(t *testing.T) {
	half := channel.Record{Type: channel.Data, Stream: 1, Payload: []byte("half a quest")}
	for name, c := range map[string]struct {
		records []channel.Record
		abort   bool
		asked   bool // the engine is asked, and must see an error
	}{
		"another stream first": {[]channel.Record{{Type: channel.Data, Stream: 2, Payload: []byte("x")}}, false, false},
		"a stream left out":    {[]channel.Record{half, {Type: channel.Data, Stream: 3, Payload: []byte("x")}}, false, true},
		"end of another":       {[]channel.Record{half, {Type: channel.End, Stream: 3}}, false, true},
		"CLOSE in the middle":  {[]channel.Record{half, {Type: channel.Close}}, false, true},
		"status failed":        {[]channel.Record{half, {Type: channel.End, Stream: 1, Status: channel.StatusFailed}}, false, true},
		"status unknown":       {[]channel.Record{half, {Type: channel.End, Stream: 1, Status: 99}}, false, true},
		"connection cut":       {[]channel.Record{half}, true, true},
	} {
		w := &witness{make(chan error, 1)}
		var log bytes.Buffer
		opt := options(t)
		opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
		addr, stop := start(t, insecure.Attester{}, w, opt)
		conn := rawClient(t, addr)
		for _, r := range c.records {
			if err := conn.Send(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if c.abort {
			conn.Abort()
		} else if _, err := conn.Receive(t.Context()); err == nil || err == io.EOF {
			t.Errorf("%s: the server answered or closed in good order: %v", name, err)
		}
		var err error
		if c.asked {
			err = <-w.asked
		}
		if serr := stop(); serr != nil { // waits for its sessions
			t.Error(serr)
		}
		if c.asked && (err == nil || errors.Is(err, io.EOF)) || len(w.asked) != 0 {
			t.Errorf("%s: the engine read to the end, %v, or was asked unduly", name, err)
		}
		if strings.Contains(log.String(), "half a quest") {
			t.Errorf("%s: content in the log", name)
		}
	}
}

// TestCloseIsAnswered: a client that says CLOSE gets one back.
func TestCloseIsAnswered(t *testing.T) {
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, options(t))
	c := rawClient(t, addr)
	if err := c.CloseWrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(t.Context()); err != io.EOF {
		t.Errorf("%v, want an authenticated CLOSE", err)
	}
}

package channel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// TestInterop has a client of PROTOCOL.md that shares no code with us talk to our server: handshake, records,
// padding, both directions' key changes, END and CLOSE.
func TestInterop(t *testing.T) {
	const python = "/usr/bin/python3" // where Debian's python3-dissononce is found
	if err := exec.Command(python, "-c", "import dissononce").Run(); err != nil {
		testtool.Missing(t, "Debian package python3-dissononce is not installed")
	}
	for _, mode := range []string{"xx", "ik", "fallback"} {
		t.Run(mode, func(t *testing.T) { interop(t, python, mode) })
	}
}

func interop(t *testing.T, python, mode string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	static, evidence := newStatic(t), []byte("some evidence")
	server := make(chan error, 1)
	go func() { server <- echoServer(t, ln, static, evidence) }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	cmd := exec.CommandContext(t.Context(), python, "testdata/interop.py", port, fmt.Sprintf("%x", evidence), fmt.Sprintf("%x", static.Public()), mode)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		ln.Close()
		t.Errorf("%v\n%s", err, out)
	}
	if err := <-server; err != nil {
		t.Error(err)
	}
}

// echoServer sends each record back until CLOSE, under a key that it changes every 3 records.
func echoServer(t *testing.T, ln net.Listener, static *StaticKey, evidence []byte) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	cfg := config(Classical)
	cfg.RekeyAfter = 3
	c, err := Server(t.Context(), conn, cfg, static, evidence)
	if err != nil {
		return err
	}
	defer c.Abort()
	for {
		r, err := c.Receive(t.Context())
		if errors.Is(err, io.EOF) {
			return c.Close(t.Context())
		}
		if err == nil {
			err = c.Send(t.Context(), r)
		}
		if err != nil {
			return err
		}
	}
}

package channel

import (
	"bufio"
	"bytes"
	"crypto/mlkem"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"testing"

	"tally/internal/testtool"
)

// TestInterop has a client of PROTOCOL.md that shares no code with us talk to our server: each handshake, records,
// padding, both directions' key changes, END and CLOSE. ML-KEM is Go's in either case, which the other client asks.
func TestInterop(t *testing.T) {
	const python = "/usr/bin/python3" // where Debian's python3-dissononce is found
	if err := exec.Command(python, "-c", "import dissononce").Run(); err != nil {
		testtool.Missing(t, "Debian package python3-dissononce is not installed")
	}
	for mode, kind := range map[string]Kind{"xx": Classical, "ik": ClassicalReconnect, "fallback": ClassicalFallback, "xxpsk3": Hybrid, "ikpsk2": HybridReconnect} {
		t.Run(mode, func(t *testing.T) { interop(t, python, mode, kind) })
	}
}

func interop(t *testing.T, python, mode string, kind Kind) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	id := newIdentity(t, "some evidence")
	server := make(chan error, 1)
	go func() { server <- echoServer(t, ln, id, kind) }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	args := []string{"testdata/interop.py", port, hex.EncodeToString(id.Payload), fmt.Sprintf("%x", id.Static.Public()), mode}
	var secret *mlkem.DecapsulationKey768
	switch kind {
	case Hybrid:
		if secret, err = mlkem.GenerateKey768(); err != nil {
			t.Fatal(err)
		}
		args = append(args, hex.EncodeToString(secret.EncapsulationKey().Bytes()))
	case HybridReconnect:
		psk, ct := id.Decap.priv.EncapsulationKey().Encapsulate()
		args = append(args, hex.EncodeToString(ct), hex.EncodeToString(psk))
	}
	if out, complaint, err := askedPython(t, python, args, secret); err != nil || out != "ok" {
		ln.Close()
		t.Errorf("%v, %q\n%s", err, out, complaint)
	}
	if err := <-server; err != nil {
		t.Error(err)
	}
}

// askedPython runs the client, which asks for the secret in a ciphertext where there is a key for it, and returns the last line
// that it printed.
func askedPython(t *testing.T, python string, args []string, secret *mlkem.DecapsulationKey768) (last, complaint string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		last = lines.Text()
		if secret == nil {
			continue
		}
		ct, err := hex.DecodeString(last)
		if err != nil {
			continue // its last word
		}
		psk, err := secret.Decapsulate(ct)
		if err != nil {
			t.Errorf("the server's ciphertext: %v", err)
		}
		fmt.Fprintf(in, "%x\n", psk)
	}
	err = cmd.Wait()
	return last, stderr.String(), err
}

// echoServer sends each record back until CLOSE, under a key that it changes every 3 records.
func echoServer(t *testing.T, ln net.Listener, id *Identity, want Kind) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	cfg := config(Classical, Hybrid)
	cfg.RekeyAfter = 3
	c, err := Accept(t.Context(), conn, cfg, id)
	if err != nil {
		return err
	}
	defer c.Abort()
	if got := c.Peer().Kind; got != want {
		return fmt.Errorf("a session of %v, want %v", got, want)
	}
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

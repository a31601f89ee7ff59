package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel/ws"
)

// TestConnectWebSocket: the same line of checks over a WebSocket, at its path and no other.
func TestConnectWebSocket(t *testing.T) {
	w := newConnectWorld(t, insecure.Attester{}, enclave.Echo{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- enclave.Serve(ctx, ws.Serve(ln, "/a/tally"), insecure.Attester{}, enclave.Echo{}, enclave.Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for target, want := range map[string]string{
		"ws://" + ln.Addr().String() + "/a/tally":  "",
		"ws://" + ln.Addr().String() + "/a":        "404",
		"ws://" + ln.Addr().String():               "404",
		"wss://" + ln.Addr().String() + "/a/tally": "HTTPS",
		ln.Addr().String():                         "", // TCP: HTTP is no frame
	} {
		w.addr = target
		code, out, talk := w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--message", "hello")
		if good := target == "ws://"+ln.Addr().String()+"/a/tally"; good {
			if code != 0 || !strings.Contains(out, "reply") {
				t.Errorf("%s: exit %d\n%s%s", target, code, out, talk)
			}
		} else if code != 1 || out != "" || !strings.Contains(talk, want) {
			t.Errorf("%s: exit %d, want 1 with %q\n%s%s", target, code, want, out, talk)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, bad := range []string{"host", "http://h:1/", "wss://", "wss:///tally", "ws://u@h/tally", "ws://h/tally?token=x", "ws://h/tally#x", "ws://h:port/", "vsock://", "vsock://3", "vsock://host:1", "vsock://3:1/x"} {
		want := "want HOST:PORT, a URL"
		if strings.HasPrefix(bad, "vsock") {
			want = "CID:PORT"
		}
		for _, name := range []string{"connect", "chat", "proxy"} {
			var out, talk bytes.Buffer
			if code := Main(t.Context(), []string{"tally", name, bad}, strings.NewReader(""), &out, &talk); code != 2 || out.Len() != 0 || !strings.Contains(talk.String(), want) {
				t.Errorf("%s %s: exit %d, %s%s", name, bad, code, out.String(), talk.String())
			}
		}
	}
}

func TestVsockTarget(t *testing.T) {
	d, place, err := parseTarget("vsock://3:7443")
	if runtime.GOOS != "linux" {
		if err == nil {
			t.Error("no error")
		}
		return
	}
	if err != nil || place != "3:7443" {
		t.Fatalf("%q, %v", place, err)
	}
	// Nobody has this number: a guest would have to.
	if conn, err := d.DialContext(t.Context(), "tcp", "4000000000:1"); err == nil {
		conn.Close()
		t.Error("somebody is there")
	} else if !strings.Contains(err.Error(), "vsock") {
		t.Errorf("%v, want an error of vsock", err)
	}
}

package infer_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave/channel"
	"tally/enclave/channel/ws"
	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/internal/testtool"
)

// balance runs HAProxy in front of two addresses until the test ends. In mode tcp it sees TCP and nothing of
// what it is, in mode http WebSocket connections and nothing of what is in them.
func balance(t *testing.T, mode string, addrs ...string) (front string) {
	t.Helper()
	program := testtool.Need(t, "haproxy")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front = ln.Addr().String()
	ln.Close()
	conf := "defaults\n mode " + mode + "\n timeout tunnel 5m\n timeout connect 5s\n timeout client 5m\n timeout server 5m\n retries 3\n option redispatch 1\nlisten l\n bind " + front + "\n balance roundrobin\n"
	for i, a := range addrs {
		conf += fmt.Sprintf(" server s%d %s\n", i, a)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", file)
	var talk bytes.Buffer
	cmd.Stderr = &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 500 {
		if c, err := net.Dial("tcp", front); err == nil {
			c.Close()
			return front
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("haproxy does not listen: %s", talk.String())
	return ""
}

// TestLoadBalancer: sessions share nothing, so that any balancer of connections spreads them over enclaves; each
// client appraises the one it got. When one enclave shuts down, its clients go on with the other.
func TestLoadBalancer(t *testing.T) {
	t.Run("tcp", func(t *testing.T) { loadBalancer(t, "tcp") })
	t.Run("http", func(t *testing.T) { loadBalancer(t, "http") })
}

func loadBalancer(t *testing.T, mode string) {
	carry, dialer := func(ln net.Listener) net.Listener { return ln }, client.Dialer(new(net.Dialer))
	if mode == "http" {
		carry, dialer = func(ln net.Listener) net.Listener { return ws.Serve(ln, "/tally") }, ws.Dialer{Scheme: "ws", Path: "/tally"}
	}
	one, two := newWorldOver(t, nil, carry), newWorldOver(t, nil, carry)
	front := balance(t, mode, one.addr, two.addr)
	var mu sync.Mutex
	keys := map[channel.PublicKey]int{}
	tr := &client.Transport{Now: time.Now, Open: func(ctx context.Context) (*client.Session, error) {
		s, err := dialOver(ctx, dialer, front)
		if err == nil {
			mu.Lock()
			keys[s.Peer().Static]++
			mu.Unlock()
		}
		return s, err
	}}
	defer tr.CloseIdleConnections()
	w := &world{http: &http.Client{Transport: tr}}
	ask := func() {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				text := fmt.Sprintf("client %d", i)
				if code, body, err := w.post(t, infer.PathChat, chat(text)); err != nil || code != 200 || !strings.Contains(body, `"content":"`+text+`"`) {
					t.Errorf("%d, %s, %v", code, body, err)
				}
			}()
		}
		wg.Wait()
	}
	ask()
	a, _ := one.fake.Requests()
	b, _ := two.fake.Requests()
	if len(keys) != 2 || len(a) == 0 || len(b) == 0 || len(a)+len(b) != 20 {
		t.Errorf("%d keys, %d and %d requests", len(keys), len(a), len(b))
	}
	one.stop()
	ask()
	if c, _ := two.fake.Requests(); len(c) != len(b)+20 {
		t.Errorf("%d requests after the other enclave has gone, want %d", len(c), len(b)+20)
	}
}

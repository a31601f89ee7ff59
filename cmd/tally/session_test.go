package main

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// deafLog is a log that takes connections and never answers.
func deafLog(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return "http://" + ln.Addr().String() + "/" // the kernel takes them
}

// TestTimeoutOfTheLog: --timeout holds for what is asked of the log, too.
func TestTimeoutOfTheLog(t *testing.T) {
	t.Parallel()
	w, _ := newInferWorld(t)
	began := time.Now()
	code, _, talk := w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--timeout", "300ms", "--log", deafLog(t))
	if took := time.Since(began); code != 1 || !strings.Contains(talk, "deadline") || took > 15*time.Second { // without it 30 s
		t.Errorf("exit %d after %s: %s", code, took, talk)
	}
}

// TestAbandonedCheck: a request whose client has gone does not keep others waiting for a log that does not answer.
func TestAbandonedCheck(t *testing.T) {
	old := recheck
	recheck = 0
	defer func() { recheck = old }()
	w, _ := newInferWorld(t)
	base, _ := startProxy(t, w)
	good, err := os.ReadFile(w.path("policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(w.path("policy.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bad := strings.Replace(string(good), "witnesses: none", "witnesses: none, from: \""+deafLog(t)+"\"", 1)
	if bad == string(good) {
		t.Fatal("nothing replaced")
	}
	write(bad)
	if resp, err := (&http.Client{Timeout: 500 * time.Millisecond}).Get(base + "/models"); err == nil {
		t.Fatalf("a log that does not answer: %s", resp.Status)
	}
	write(string(good))
	began := time.Now()
	resp, err := http.Get(base + "/models")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if took := time.Since(began); resp.StatusCode != http.StatusOK || took > 15*time.Second { // without it 30 s
		t.Errorf("%s after %s", resp.Status, took)
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave/attest/insecure"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
	"tally/internal/testtool"
)

// newInferWorld is a connectWorld whose enclave serves the fake engine.
func newInferWorld(t *testing.T) (connectWorld, *infertest.Engine) {
	t.Helper()
	fake := infertest.Start(t)
	engine, err := infer.New(infer.Options{Socket: fake.Socket}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return newConnectWorld(t, insecure.Attester{}, engine), fake
}

// startProxy runs `tally proxy` until stop, which returns its exit code and what it said.
func startProxy(t *testing.T, w connectWorld, args ...string) (base string, stop func() (int, string, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, out := io.Pipe()
	var talk bytes.Buffer
	all := append([]string{"tally", "proxy", w.addr, "--policy", w.path("policy.yaml"), "--bundle", w.path("b.json"), "--listen", "127.0.0.1:0"}, args...)
	done := make(chan int, 1)
	go func() {
		code := Main(ctx, all, strings.NewReader(""), out, &talk)
		out.Close()
		done <- code
	}()
	var printed strings.Builder
	in := bufio.NewScanner(r)
	for in.Scan() {
		printed.WriteString(in.Text() + "\n")
		if f := strings.Fields(in.Text()); len(f) > 1 && f[0] == "listening" {
			base = f[1]
			break
		}
	}
	var once sync.Once
	var code int
	stop = func() (int, string, string) {
		once.Do(func() {
			cancel()
			rest, _ := io.ReadAll(r)
			printed.Write(rest)
			code = <-done
		})
		return code, printed.String(), talk.String()
	}
	t.Cleanup(func() { stop() })
	if base == "" {
		code, stdout, stderr := stop()
		t.Fatalf("the proxy does not listen: exit %d\n%s%s", code, stdout, stderr)
	}
	return base, stop
}

func TestProxy(t *testing.T) {
	w, fake := newInferWorld(t)
	base, stop := startProxy(t, w)
	resp, err := http.Post(base+"/chat/completions", "application/json", strings.NewReader(`{"messages":[{"role":"user","content":"let there be light"}],"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || strings.Count(string(b), "data: ") != 6 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d, %v, %v\n%s", resp.StatusCode, resp.Header, err, b)
	}
	// An answer that breaks off is no shorter answer.
	resp, err = http.Post(base+"/chat/completions", "application/json", strings.NewReader(`{"messages":[{"role":"user","content":"break"}],"stream":true}`))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a broken answer looks whole")
	}
	resp, err = http.Post(base+"/chat/completions", "application/json", bytes.NewReader(make([]byte, infer.MaxBody+1)))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 413 || !strings.Contains(string(b), "request_too_long") {
		t.Errorf("a body that is too long: %d, %s", resp.StatusCode, b)
	}
	resp.Body.Close()
	// Whoever hangs up ends the work.
	resp, err = http.Post(base+"/chat/completions", "application/json", strings.NewReader(`{"messages":[{"role":"user","content":"endless"}],"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(resp.Body, make([]byte, 10))
	resp.Body.Close()
	select {
	case <-fake.Gone():
	case <-time.After(20 * time.Second):
		t.Error("the engine works on for nobody")
	}
	code, out, talk := stop()
	if code != 0 || talk != "" {
		t.Errorf("exit %d, %s", code, talk)
	}
	for _, l := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		if !strings.Contains(l, "insecure: the host can forge this") {
			t.Errorf("a line without the words: %s", l)
		}
	}
}

func TestProxyIsLocal(t *testing.T) {
	w, fake := newInferWorld(t)
	base, stop := startProxy(t, w)
	ask := func(change func(*http.Request)) int {
		t.Helper()
		req, _ := http.NewRequest("GET", base+"/models", nil)
		change(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for name, change := range map[string]func(*http.Request){
		"origin":    func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1") },
		"fetch":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") },
		"rebinding": func(r *http.Request) { r.Host = "evil.example:8181" },
		"prefix":    func(r *http.Request) { r.Host = "127.0.0.1.evil.example" },
	} {
		if got := ask(change); got != 403 {
			t.Errorf("%s: status %d", name, got)
		}
	}
	if got := ask(func(r *http.Request) { r.Host = "localhost" }); got != 200 {
		t.Errorf("localhost: %d", got)
	}
	if got := ask(func(r *http.Request) { r.URL.Path = "/metrics" }); got != 404 {
		t.Errorf("another path: %d", got)
	}
	fake.Stop()
	if got := ask(func(*http.Request) {}); got != 503 {
		t.Errorf("without an engine: %d", got)
	}
	stop()
}

// TestProxyChecksAgain: trust that ends while the proxy runs ends the proxy's service, also on sessions that
// are open; be it trust in the release or in the evidence.
func TestProxyChecksAgain(t *testing.T) {
	old := recheck
	recheck = 0
	defer func() { recheck = old }()
	w, _ := newInferWorld(t)
	var sessions atomic.Int64
	w.addr = counted(t, w.addr, &sessions)
	base, stop := startProxy(t, w)
	get := func() (int, string) {
		t.Helper()
		resp, err := http.Get(base + "/models")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, text := get(); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	opened := sessions.Load()
	policies := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(w.path(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := policies("policy.yaml")
	for _, c := range []struct {
		name   string
		policy []byte
		code   int
		opened int64
	}{
		{"unchanged", good, 200, 0},
		{"another text", append([]byte("# new\n"), good...), 200, 1},
		{"no evidence is accepted", policies("nothing.yaml"), 502, 1},
		{"good again", good, 200, 1},
		{"nobody is trusted", policies("nobody.yaml"), 502, 0},
	} {
		if err := os.WriteFile(w.path("policy.yaml"), c.policy, 0o644); err != nil {
			t.Fatal(err)
		}
		before := sessions.Load()
		code, text := get()
		if refused := strings.Contains(text, `"code":"enclave_not_accepted"`); code != c.code || refused != (code != 200) {
			t.Errorf("%s: %d %s", c.name, code, text)
		}
		if got := sessions.Load() - before; got != c.opened {
			t.Errorf("%s: %d sessions were opened, want %d", c.name, got, c.opened)
		}
	}
	if opened != 1 {
		t.Errorf("%d sessions for the first request", opened)
	}
	_, _, talk := stop()
	if !strings.Contains(talk, "found no enclave") {
		t.Errorf("nothing was said: %s", talk)
	}
}

// counted forwards connections to addr and counts them in n.
func counted(t *testing.T, addr string, n *atomic.Int64) (front string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return ln.Addr().String()
}

// TestChatAndProxyRefuse: the same refusals as connect's, before anything is sent.
func TestChatAndProxyRefuse(t *testing.T) {
	w := newConnectWorld(t, insecure.Attester{}, silent{t})
	forged := newConnectWorld(t, forger{}, silent{t})
	for _, c := range []struct {
		name string
		w    connectWorld
		args []string
		code int
		want string
	}{
		{"no policy", w, []string{"--bundle", "{}/b.json"}, 5, "no policy: nobody is trusted by default"},
		{"no bundle", w, []string{"--policy", "{}/policy.yaml"}, 2, "wants --bundle"},
		{"no signer", w, []string{"--policy", "{}/nobody.yaml", "--bundle", "{}/b.json"}, 5, "NOT VERIFIED  reason: policy"},
		{"snp only", w, []string{"--policy", "{}/snp.yaml", "--bundle", "{}/b.json"}, 5, "reason: platform"},
		{"odd reference values", w, []string{"--policy", "{}/policy.yaml", "--bundle", "{}/odd.json"}, 4, "reference values"},
		{"forged report", forged, []string{"--policy", "{}/policy.yaml", "--bundle", "{}/b.json"}, 5, "reason: report-data"},
	} {
		for _, cmd := range [][]string{{"chat", "--message", "secret"}, {"chat"}, {"proxy", "--listen", "127.0.0.1:0"}} {
			args := append(append([]string{"tally", cmd[0], c.w.addr}, cmd[1:]...), c.args...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "{}", c.w.dir)
			}
			var out, talk bytes.Buffer
			code := Main(t.Context(), args, strings.NewReader("secret\n"), &out, &talk)
			if text := out.String() + talk.String(); code != c.code || !strings.Contains(text, c.want) || strings.Count(talk.String(), "tally: error:") != 1 || code <= 2 && out.Len() > 0 {
				t.Errorf("%s: %s: exit %d\n%s", cmd[0], c.name, code, text)
			}
		}
	}
}

func TestChatAndProxyUsage(t *testing.T) {
	for _, args := range []string{"proxy", "proxy host", "proxy a:1 --listen 0.0.0.0:1", "proxy a:1 --listen :1", "proxy a:1 --listen 10.0.0.1:80", "chat", "chat host", "chat a:1 b:2", "chat a:1 --json", "chat a:1 --max-tokens -1"} {
		var out, talk bytes.Buffer
		if code := Main(t.Context(), append([]string{"tally"}, strings.Fields(args)...), strings.NewReader(""), &out, &talk); code != 2 || out.Len() != 0 {
			t.Errorf("%s: exit %d, %s%s", args, code, out.String(), talk.String())
		}
	}
}

// TestStockClient runs the openai package of npm, as published, against the proxy.
func TestStockClient(t *testing.T) {
	node, npm := testtool.Need(t, "node"), testtool.Need(t, "npm")
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "chat.mjs"} {
		b, err := os.ReadFile("testdata/openai/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		testtool.Missing(t, "npm ci does not find the package: "+string(out))
	}
	w, fake := newInferWorld(t)
	base, stop := startProxy(t, w)
	cmd := exec.CommandContext(t.Context(), node, "chat.mjs")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "OPENAI_BASE_URL="+base, "OPENAI_API_KEY=CANARY")
	var talk bytes.Buffer
	cmd.Stderr = &talk
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, b, talk.String())
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(got)
	const want = `{"broken":true,"embedding":[0.5,-0.25],"events":["and ","it ","was ","so"],"models":["fake"],"refused":[400,"bad_parameter"],` +
		`"streamUsage":4,"tool":{"arguments":"{\"at\":\"it\"}","name":"look"},"usage":4,"whole":"let there be light"}`
	if string(again) != want {
		t.Errorf("got  %s\nwant %s", again, want)
	}
	select {
	case <-fake.Gone():
	case <-time.After(20 * time.Second):
		t.Error("the engine works on after the client has hung up")
	}
	_, headers := fake.Requests()
	for _, h := range headers {
		if strings.Contains(strings.Join(h["Authorization"], ""), "CANARY") {
			t.Error("the key left the machine")
		}
	}
	stop()
}

func TestProxyPortInUse(t *testing.T) {
	w, _ := newInferWorld(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var out, talk bytes.Buffer
	code := Main(t.Context(), []string{"tally", "proxy", w.addr, "--policy", w.path("policy.yaml"), "--bundle", w.path("b.json"), "--listen", ln.Addr().String()}, strings.NewReader(""), &out, &talk)
	if code != 1 || out.Len() != 0 || !strings.Contains(talk.String(), "in use") {
		t.Errorf("exit %d\n%s%s", code, out.String(), talk.String())
	}
}

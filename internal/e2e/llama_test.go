package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
)

// builtExample builds examples/NAME from its committed lock or, when an input is gone from the world, says so
// and builds from a scratch lock. It returns the lock and the output.
func (l *line) builtExample(t *testing.T, name string) (lock, out string) {
	t.Helper()
	spec := filepath.Join(l.repo, "examples", name, "image.yaml")
	lock, out = filepath.Join(filepath.Dir(spec), "image.lock"), filepath.Join(l.dir, name)
	if msg, err := l.try(l.repo, nil, "build", spec, "--cache", l.cache, "-o", out); err != nil {
		t.Logf("THE COMMITTED LOCK OF examples/%s CANNOT BE BUILT HERE, a scratch lock stands in: %s", name, msg)
		lock = filepath.Join(l.dir, name+".lock")
		if msg, err := l.try(l.repo, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
			testtool.Missing(t, "no Debian mirror can be reached: "+msg)
		}
		l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	}
	return lock, out
}

// TestLlamaChats builds examples/llama twice to the same bytes, releases it, boots it, and has `tally chat` ask
// the model behind the enclave: llama.cpp's server in its sandbox, on a verified model volume.
func TestLlamaChats(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	lock, out := l.builtExample(t, "llama")
	again := filepath.Join(t.TempDir(), "again")
	l.tallyMust(t, "build", filepath.Join(l.repo, "examples/llama/image.yaml"), "--lock", lock, "--cache", l.cache, "--offline", "-o", again)
	if a, b := read(t, filepath.Join(out, "manifest.json")), read(t, filepath.Join(again, "manifest.json")); string(a) != string(b) {
		t.Errorf("manifests differ:\n%s\n%s", a, b)
	}
	l.tallyMust(t, "measure", "image", out)
	l.publish(t)
	l.tallyMust(t, "release", "sign", out, "--key", "k.key", "-o", "llama.json")
	l.tallyMust(t, "release", "publish", "llama.json", out, "--log", "pub", "--signer", "k.pub")
	port, operator := freePort(t), freePort(t)
	// The operator's page says when the model is loaded, and afterwards what was counted.
	script := fmt.Sprintf("until curl -sf -m 5 http://127.0.0.1:%d/readyz; do sleep 1; done\n"+
		"%s chat 127.0.0.1:%d --policy policy.yaml --bundle llama.json --message 'And the LORD said' --max-tokens 24 --timeout 3m --quiet &&\n"+
		"curl -sf http://127.0.0.1:%d/metrics", operator, l.tally, port, operator)
	testtool.Need(t, "curl")
	cmd := exec.Command(l.tally, "run", out, "--boot", "direct", "--accel", "tcg", "--memory", "1024", "--timeout", "3m",
		"--forward", fmt.Sprintf("%d:7443", port), "--forward", fmt.Sprintf("%d:9090", operator), "--", "sh", "-c", script)
	cmd.Dir, cmd.Env = l.dir, os.Environ()
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	reply := ""
	for _, line := range strings.Split(string(said), "\n") {
		if text, ok := strings.CutPrefix(line, "[insecure: the host can forge this] "); ok {
			reply += text
		}
	}
	if len(strings.Fields(reply)) < 4 {
		t.Errorf("the model said %q\n%s", reply, said)
	}
	for _, want := range []string{"model kjv on /srv/models/kjv", `msg="engine starts" uid=990`, "\ntally_engine_ready 1\n",
		`tally_requests_total{path="/v1/chat/completions",status="2xx"} 1`, `tally_boot_seconds{phase="ready"}`} {
		if !strings.Contains(string(said), want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if strings.Contains(string(said), "engine ended") {
		t.Errorf("the engine ended:\n%s", said)
	}
	// What was said and answered is on no console and in no metric.
	for _, line := range strings.Split(string(said), "\n") {
		if (strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "tally_")) && (strings.Contains(line, "LORD") || reply != "" && strings.Contains(line, strings.TrimSpace(reply))) {
			t.Errorf("content on the console: %s", line)
		}
	}
}

// freePort is one that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

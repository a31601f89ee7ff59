package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/internal/qemu"
	"tally/internal/testtool"
)

const keysPolicy = `schema: tally.policy/v1
release:
  signers: [{file: k.pub}]
  log: {file: witnessed/log.vkey, witness-policy: witness.txt}
evidence:
  platforms: [insecure]
  freshness: key
  freshness-max-age: 1h
`

// TestOptionalKeys boots one image whose configuration has websocket, beacon, cover and secrets, before an engine that is
// worth nothing without its secret, and looks at each of them from outside; then at the engine's sandbox from inside, and at
// what is left on the console of what was said to it.
func TestOptionalKeys(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	l.publish(t) // makes k
	logPort := freePort(t)
	l.witnessedLog(t)
	l.builtKeys(t, logPort)
	l.background(t, "serving log.keys.example", "log", "serve", "witnessed", "--listen", fmt.Sprintf("127.0.0.1:%d", logPort))
	l.writeFile(t, "keys.yaml", []byte(keysPolicy))
	l.writeFile(t, "keys-old.yaml", []byte(strings.Replace(keysPolicy, "max-age: 1h", "max-age: 1ms", 1)))
	l.writeFile(t, "token", []byte("the operator's own token"))
	port, operator := freePort(t), freePort(t)
	console := l.bootKeys(t, port, operator)
	bare, url := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("ws://127.0.0.1:%d/tally", port)

	// The beacon is the log's checkpoint with the witness's cosignature, as the guest fetched it for its key.
	l.says(t, 0, "cosigned 20", "connect", url, "--policy", "keys.yaml", "--bundle", "keys.json", "--timeout", "2m")
	l.says(t, 5, "appraisal: freshness: ", "connect", url, "--policy", "keys-old.yaml", "--bundle", "keys.json", "--timeout", "2m")
	// There are WebSocket connections, at this path, and no others.
	l.says(t, 1, "tally: error: ", "connect", bare, "--policy", "keys.yaml", "--bundle", "keys.json", "--timeout", "2m")
	l.says(t, 1, "404", "connect", url+"2", "--policy", "keys.yaml", "--bundle", "keys.json", "--timeout", "2m")

	// Without its secret there is no engine, and with it the engine has it.
	page := func(path string) string { return httpGet(t, fmt.Sprintf("http://127.0.0.1:%d%s", operator, path)) }
	if got := page("/readyz"); got != "503 waits for secrets\n" {
		t.Errorf("before the secret: readyz %q", got)
	}
	wire := new(onlooker)
	talk := wire.client(port)
	// A request waits for an engine that is being started, 30 seconds, which this does not.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if code, answer, err := ask(ctx, talk, "hello"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the secret: %d, %s, %v", code, answer, err)
	}
	if strings.Contains(console.text(), "engine starts") {
		t.Error("the engine was started before it had its secret")
	}
	send := []string{"secret", "send", url, "--policy", "keys.yaml", "--bundle", "keys.json", "--timeout", "2m", "token=token", "--key"}
	l.says(t, 1, "signature", append(send, "k.key")...)
	l.says(t, 0, "taken by the enclave", append(send, "operator.key")...)
	l.says(t, 1, "again", append(send, "operator.key")...)
	for start := time.Now(); page("/readyz") != "200 ready\n"; time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("not ready with its secret\n%s", console.text())
		}
	}
	digest := sha256.Sum256(read(t, filepath.Join(l.dir, "token")))
	if code, answer, err := ask(t.Context(), talk, "hello"); code != http.StatusOK || !strings.Contains(answer, hex.EncodeToString(digest[:])) {
		t.Errorf("with the secret: %d, %s, %v", code, answer, err)
	}
	if metrics := page("/metrics"); !strings.Contains(metrics, `tally_secrets_total{answer="taken"} 1`) {
		t.Errorf("the secret is not counted:\n%s", metrics)
	}
	wire.covered(t, talk)
	lookInside(t, talk)
	canaries(t, talk)
	engineDies(t, talk, page)
	all := console.text() + page("/metrics")
	for _, want := range []string{`tally_boot_seconds{phase="root"} `, `tally_boot_seconds{phase="ready"} `, `tally_quote_requests_total{kind="key",result="ok"} 1`, `tally_handshake_seconds_count{pattern="XXpsk3"} `,
		"tally_static_key_age_seconds ", `tally_memory_bytes{of="enclave"} `, `tally_memory_bytes{of="engine"} `} {
		if !strings.Contains(all, "\n"+want) {
			t.Errorf("no %s among the metrics\n%s", want, all)
		}
	}
	for _, secret := range []string{"operator's own", hex.EncodeToString(digest[:]), "patience", canary} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is on the console or among the metrics\n%s", secret, all)
		}
	}
}

// witnessedLog makes a log of which nothing is published without a witness's cosignature, and the witness.
func (l *line) witnessedLog(t *testing.T) {
	t.Helper()
	l.tallyMust(t, "release", "keygen", "-o", "operator")
	l.tallyMust(t, "log", "witness", "w", "--create", "witness.keys.example")
	port := freePort(t)
	l.writeFile(t, "witness.txt", fmt.Appendf(nil, "witness w %s http://127.0.0.1:%d\nquorum w\n", bytes.TrimSpace(read(t, filepath.Join(l.dir, "w/witness.vkey"))), port))
	l.tallyMust(t, "log", "create", "witnessed", "--origin", "log.keys.example", "--witness-policy", "witness.txt")
	l.background(t, "serving at", "log", "witness", "w", "--log", "witnessed/log.vkey", "--listen", fmt.Sprintf("127.0.0.1:%d", port))
}

// builtKeys builds testdata/keys for a log at a port of this machine, and releases it in that log.
func (l *line) builtKeys(t *testing.T, logPort int) {
	t.Helper()
	var operator string
	for line := range strings.Lines(string(read(t, filepath.Join(l.dir, "operator.pub")))) {
		if !strings.HasPrefix(line, "-----") {
			operator += strings.TrimSpace(line)
		}
	}
	up, err := filepath.Rel(filepath.Join(l.dir, "keys"), l.repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(l.dir, "keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.writeFile(t, "keys/image.yaml", bytes.ReplaceAll(read(t, "testdata/keys/image.yaml"), []byte("../../../.."), []byte(filepath.ToSlash(up))))
	l.writeFile(t, "keys/enclave.json", []byte(strings.NewReplacer("LOGPORT", fmt.Sprint(logPort), "OPERATOR", operator).Replace(string(read(t, "testdata/keys/enclave.json.in")))))
	if msg, err := l.try(l.dir, nil, "lock", "keys/image.yaml", "--cache", l.cache); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	l.tallyMust(t, "build", "keys/image.yaml", "--cache", l.cache, "-o", "keys/out")
	l.tallyMust(t, "measure", "image", "keys/out")
	l.tallyMust(t, "release", "sign", "keys/out", "--key", "k.key", "-o", "keys.json")
	l.tallyMust(t, "release", "publish", "keys.json", "keys/out", "--log", "witnessed", "--signer", "k.pub")
}

// bootKeys boots the image until the test ends. Its QEMU lets the guest reach this machine at 10.0.2.2, which tally run does not.
func (l *line) bootKeys(t *testing.T, port, operator int) *recorder {
	t.Helper()
	cmd := exec.Command(l.tally, "run", "keys/out", "--boot", "direct", "--accel", "tcg", "--timeout", "5m",
		"--forward", fmt.Sprintf("%d:7443", port), "--forward", fmt.Sprintf("%d:9090", operator))
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), scriptedQEMU(t, `for a; do shift; set -- "$@" "$(printf %s "$a" | sed s/,restrict=on//)"; done; exec "$REAL" "$@"`))
	return follow(t, cmd, "tally-enclave: serving")
}

// background runs a tally command until the test ends, and returns when it has said text.
func (l *line) background(t *testing.T, text string, args ...string) {
	t.Helper()
	cmd := exec.Command(l.tally, args...)
	cmd.Dir = l.dir
	follow(t, cmd, text)
}

// A recorder keeps what a running program says.
type recorder struct {
	mu   sync.Mutex
	said strings.Builder
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// follow starts cmd, which is interrupted when the test ends, and returns when it has said text.
func follow(t *testing.T, cmd *exec.Cmd, text string) *recorder {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	rec, there := new(recorder), make(chan bool, 1)
	go func() {
		defer r.Close()
		in, met := bufio.NewScanner(r), false
		for in.Scan() {
			rec.mu.Lock()
			rec.said.WriteString(in.Text() + "\n")
			rec.mu.Unlock()
			if !met && strings.Contains(in.Text(), text) {
				met = true
				there <- true
			}
		}
		if !met {
			there <- false
		}
	}()
	if !<-there {
		t.Fatalf("%q ended without saying %q\n%s", cmd.Args, text, rec.text())
	}
	return rec
}

// says wants a tally command to end with code and to have said text.
func (l *line) says(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	cmd := exec.Command(l.tally, args...)
	cmd.Dir, cmd.Env = l.dir, append(os.Environ(), "COSIGN_PASSWORD=test")
	said, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(said), text) {
		t.Errorf("%q: exit code %d, want %d and %q\n%s", args, got, code, text, said)
	}
}

// httpGet returns status and body.
func httpGet(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/enclave/channel"
	"tally/enclave/secrets"
	"tally/internal/qemu"
	"tally/internal/testtool"
)

// forgetWithin is how long an enclave may take to forget a session, on a slow machine.
const forgetWithin = time.Minute

// TestProcessForgets reads the memory of a process that runs the enclave. Its randomness is the test's, so that
// the enclave's own keys are known too: those of a session are gone soon after it, and the static and the
// ML-KEM key once another has taken their place.
func TestProcessForgets(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "victim")
	build := exec.Command("go", "build", "-o", bin, "tally/internal/e2e/victim")
	build.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	operator, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	addr, pid, fed := startVictim(t, bin, operator)
	look := func(all []secret) []string { return searchProcess(t, pid, all) }
	// The enclave draws its static key, the seed of its ML-KEM key, and then the ephemeral key of each session.
	key := []secret{{"static key", fed[:32]}, {"ML-KEM seed", fed[32:96]}, {"ML-KEM d", fed[32:64]}, {"ML-KEM z", fed[64:96]}}
	r, c := openTaped(t, addr)
	session := append(secretsOf(t, r, c.Peer().Static), secret{"ephemeral key", fed[96:128]})
	if found := look(append(session, key...)); len(found) < 10 {
		t.Fatalf("of an open session only %q were found: the search finds nothing", found)
	}
	exchange(t, c, 2)
	for i, s := range session {
		if s.name == "transport key 1" {
			next := secret{"transport key 1 after REKEY", rekeyed(t, s.bytes)}
			wantForgotten(t, "the key before REKEY", look, session[i:i+1])
			if len(look([]secret{next})) != 1 {
				t.Error("the key after REKEY was not found")
			}
			session = append(session, next)
		}
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantForgotten(t, "the session", look, session)
	if found := look(key); len(found) != len(key) {
		t.Errorf("of the key that serves still, %q were found", found)
	}
	decap, err := mlkem.NewDecapsulationKey768(fed[32:96])
	if err != nil {
		t.Fatal(err)
	}
	before := c.Peer()
	r, c = reopenTaped(t, addr, decap, before)
	session = secretsOfReconnect(t, r, before.Static, decap)
	if found := look(session); !slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, "transport key 2") }) {
		t.Errorf("of an open session by a reconnect only %q were found", found)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantForgotten(t, "the reconnect", look, session)
	for range 2 { // of three a key
		_, c := openTaped(t, addr)
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantForgotten(t, "the retired key", look, key)
	_, c = openTaped(t, addr)
	token := sendSecret(t, c, operator)
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantForgotten(t, "an operator's secret", look, token)
}

// sendSecret sends a secret on stream 2 of a session and returns what must not stay in the enclave's process, which
// has taken it.
func sendSecret(t *testing.T, c *channel.Conn, operator *ecdsa.PrivateKey) []secret {
	t.Helper()
	token := make([]byte, 2048)
	rand.Read(token)
	p := c.Peer()
	m, err := secrets.Message(secrets.Session{Handshake: p.Binding, Static: p.Static}, []secrets.Secret{{Name: "token", Value: token}}, rand.Reader, func(m []byte) ([]byte, error) {
		sum := sha256.Sum256(m)
		return ecdsa.SignASN1(rand.Reader, operator, sum[:])
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := secrets.ReadAnswer(say(t, c, 2, m)); err != nil {
		t.Fatal(err)
	}
	return []secret{{"start of the value", token[:32]}, {"middle of the value", token[1024:1056]}, {"end of the value", token[2016:]}}
}

// startVictim starts the program and feeds it randomness, which it returns.
func startVictim(t *testing.T, bin string, operator *ecdsa.PrivateKey) (addr string, pid int, fed []byte) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&operator.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, base64.StdEncoding.EncodeToString(der))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	fed = make([]byte, 32<<10) // less than a pipe holds
	rand.Read(fed)
	if _, err := in.Write(fed); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), cmd.Process.Pid, fed
}

// TestGuestForgets boots the image with its memory in a file of the host, and reads all of it, the kernel's too,
// while a session is open and after it has ended.
func TestGuestForgets(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	ram := filepath.Join(t.TempDir(), "ram")
	port := freePort(t)
	cmd := exec.CommandContext(t.Context(), l.tally, "run", l.out, "--boot", "direct", "--accel", "tcg", "--memory", "256", "--timeout", "5m", "--forward", fmt.Sprintf("%d:7443", port))
	cmd.Env = append(os.Environ(), wrappedQEMU(t, "-object memory-backend-file,id=ram,size=256M,share=on,mem-path="+ram+" -machine memory-backend=ram"))
	console, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() }()
	awaitLine(t, console, "tally-enclave: serving")
	look := func(all []secret) []string {
		data, err := os.ReadFile(ram)
		if err != nil {
			t.Fatal(err)
		}
		return search(data, all)
	}
	r, c := openTaped(t, fmt.Sprintf("127.0.0.1:%d", port))
	session := secretsOf(t, r, c.Peer().Static)
	if found := look(session); len(found) < 10 {
		t.Fatalf("of an open session only %q were found: the search finds nothing", found)
	}
	exchange(t, c, 2)
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantForgotten(t, "the session", look, session)
}

// awaitLine reads until a line holds text, and goes on reading behind it.
func awaitLine(t *testing.T, r io.Reader, text string) {
	t.Helper()
	in, said := bufio.NewScanner(r), ""
	for in.Scan() {
		said += in.Text() + "\n"
		if strings.Contains(in.Text(), text) {
			go io.Copy(io.Discard, r)
			return
		}
	}
	t.Fatalf("no %q\n%s", text, said)
}

// wantForgotten wants look to find nothing any more.
func wantForgotten(t *testing.T, what string, look func([]secret) []string, all []secret) {
	t.Helper()
	start := time.Now()
	for {
		found := look(all)
		if len(found) == 0 {
			t.Logf("%s: none of %d secrets is left after %.1f s", what, len(all), time.Since(start).Seconds())
			return
		}
		if time.Since(start) > forgetWithin {
			t.Errorf("%s: after %v there are still %q", what, forgetWithin, found)
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// search returns the names of the secrets that are in memory.
func search(memory []byte, all []secret) (found []string) {
	for _, s := range all {
		if n := bytes.Count(memory, s.bytes); n > 0 {
			found = append(found, fmt.Sprintf("%s x%d", s.name, n))
		}
	}
	return found
}

// searchProcess searches everything that a process can write.
func searchProcess(t *testing.T, pid int, all []secret) (found []string) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") {
			continue
		}
		buf := make([]byte, to-from)
		if _, err := mem.ReadAt(buf, from); err != nil && !errors.Is(err, io.EOF) {
			continue // a region that is not there any more
		}
		found = append(found, search(buf, all)...)
	}
	return found
}

// exchange says something on a stream of its own and reads the echo to its end.
func exchange(t *testing.T, c *channel.Conn, stream uint32) {
	t.Helper()
	say(t, c, stream, []byte("a line of a prompt"))
}

// say sends a request of one record and reads the answer to its end.
func say(t *testing.T, c *channel.Conn, stream uint32, request []byte) (answer []byte) {
	t.Helper()
	for _, r := range []channel.Record{{Type: channel.Data, Stream: stream, Payload: request}, {Type: channel.End, Stream: stream}} {
		if err := c.Send(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for {
		r, err := c.Receive(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case r.Type == channel.Data:
			answer = append(answer, r.Payload...)
		case r.Type == channel.End:
			return answer
		}
	}
}

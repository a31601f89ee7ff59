package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
	"tally/enclave/secrets"
)

const secretCanary = "CANARY-5ec7e7"

// A secretWorld is a connectWorld whose enclave waits for token and tls-key; operator.key may send them.
type secretWorld struct {
	connectWorld
	mu   sync.Mutex
	kept map[string]string
	log  bytes.Buffer
}

func (w *secretWorld) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *secretWorld) keep(list []secrets.Secret) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = map[string]string{}
	for _, s := range list {
		w.kept[s.Name] = string(s.Value)
	}
	return nil
}

// newSecretWorld makes the operator's key by `tally release keygen` with keygen.
func newSecretWorld(t *testing.T, keygen ...string) *secretWorld {
	t.Helper()
	keys := t.TempDir()
	for name, args := range map[string][]string{"operator": keygen, "stranger": {"--insecure-no-password"}} {
		if code, _, talk := run(t, append([]string{"release", "keygen", "-o", keys + "/" + name}, args...)...); code != 0 {
			t.Fatal(talk)
		}
	}
	text, err := os.ReadFile(keys + "/operator.pub")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	w := new(secretWorld)
	taker, err := secrets.NewTaker(secrets.Options{Operator: public.(*ecdsa.PublicKey), Limits: map[string]int{"token": 32, "tls-key": 4096}, Keep: w.keep})
	if err != nil {
		t.Fatal(err)
	}
	// The engine listens, and must not be asked.
	engine, err := infer.New(infer.Options{Socket: infertest.Start(t).Socket, Observe: func(e infer.Event) { t.Errorf("asked: %+v", e) }}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.connectWorld = newConnectWorld(t, insecure.Attester{}, engine, func(o *enclave.Options) {
		o.Secrets, o.Logger = taker, slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for name, content := range map[string]string{"token": secretCanary, "line": secretCanary + "\n", "long": strings.Repeat(secretCanary, 4), "empty": "", "huge": strings.Repeat(secretCanary, 6000)} {
		if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"operator", "stranger"} {
		if err := os.Rename(keys+"/"+name+".key", w.path(name+".key")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return w
}

// send is `tally secret send` with the world's address and args, as in connectWorld.run.
func (w *secretWorld) send(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, talk bytes.Buffer
	all := append([]string{"tally", "secret", "send", w.addr, "--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--insecure-no-password"}, args...)
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], "{}", w.dir)
	}
	code = Main(context.Background(), all, strings.NewReader(stdin), &out, &talk)
	return code, out.String(), talk.String()
}

// TestSecretSend: whatever is refused is refused by its own word, and the value is said nowhere.
func TestSecretSend(t *testing.T) {
	w := newSecretWorld(t, "--insecure-no-password")
	both := []string{"token={}/token", "tls-key=-"}
	with := func(args ...string) []string {
		return append(append([]string{"--key", "{}/operator.key"}, both...), args...)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string // on stderr, on stdout for code 0 and 5
	}{
		{"no key", both, 2, "wants --key FILE"},
		{"no secret", []string{"--key", "{}/operator.key"}, 2, "NAME=FILE"},
		{"a value as an argument", []string{"--key", "{}/operator.key", secretCanary}, 2, "argument 2: want NAME=FILE"},
		{"a name that is none", []string{"--key", "{}/operator.key", "../a={}/token"}, 2, `secret "../a"`},
		{"a name twice", with("token={}/token"), 2, "token: given twice"},
		{"stdin twice", with("more=-"), 2, "stdin is read already"},
		{"an absent file", with("more={}/absent"), 1, "secret more: open"},
		{"an empty file", with("more={}/empty"), 1, "is empty or has more than 65536 bytes"},
		{"a huge file", with("more={}/huge"), 1, "is empty or has more than 65536 bytes"},
		{"an absent key", append([]string{"--key", "{}/absent.key"}, both...), 1, "absent.key"},
		{"an enclave that is not accepted", with("--policy", "{}/snp.yaml"), 5, "reason: platform"},
		{"another key", append([]string{"--key", "{}/stranger.key"}, both...), 1, "the enclave refuses the secrets: signature: not signed by the operator's key of its configuration"},
		{"another name", with("more={}/token"), 1, "unknown name"},
		{"one name of two", []string{"--key", "{}/operator.key", "token={}/token"}, 1, "missing name"},
		{"longer than configured", []string{"--key", "{}/operator.key", "token={}/long", "tls-key=-"}, 1, "oversize"},
		{"good", with("--state", "{}/st"), 0, "sent token taken by the enclave [insecure: the host can forge this]"},
		{"again", with(), 1, "again: it has taken its secrets before"},
	} {
		code, out, talk := w.send("key\n"+secretCanary+"\n", c.args...)
		text := talk
		if code == 0 || code == 5 {
			text = out
		}
		if code != c.code || !strings.Contains(strings.Join(strings.Fields(text), " "), c.want) {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", c.name, code, c.code, c.want, out, talk)
		}
		if (code == 1 || code == 2) && out != "" || strings.Contains(out+talk, secretCanary) {
			t.Errorf("%s: stdout %q, stderr %q", c.name, out, talk)
		}
		w.mu.Lock()
		if (w.kept != nil) != (c.name == "good" || c.name == "again") {
			t.Errorf("%s: kept %q", c.name, w.kept)
		}
		w.mu.Unlock()
		for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
			if code == 0 && !strings.Contains(l, "insecure: the host can forge this") {
				t.Errorf("a line without the words: %s", l)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kept["token"] != secretCanary || w.kept["tls-key"] != "key\n"+secretCanary+"\n" || len(w.kept) != 2 {
		t.Errorf("kept %q", w.kept)
	}
	if text := w.log.String(); strings.Contains(text, "CANARY") || strings.Count(text, "secrets refused") != 5 || strings.Count(text, "secrets taken") != 1 {
		t.Errorf("log\n%s", text)
	}
}

// TestSecretSendToNobody: an enclave without a section secrets.
func TestSecretSendToNobody(t *testing.T) {
	w := new(secretWorld)
	w.connectWorld, _ = newInferWorld(t)
	if code, _, talk := run(t, "release", "keygen", "--insecure-no-password", "-o", w.path("operator")); code != 0 {
		t.Fatal(talk)
	}
	code, out, talk := w.send(secretCanary, "--key", "{}/operator.key", "token=-")
	if code != 1 || out != "" || !strings.Contains(talk, "configuration asks for none") || strings.Contains(talk, secretCanary) {
		t.Errorf("exit %d\n%s%s", code, out, talk)
	}
}

// TestSecretSendByPlugIn: the key may stay where it is.
func TestSecretSendByPlugIn(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "sigstore-kms-test")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	t.Setenv("TEST_KMS_PIN", "1234")
	key := "test://" + filepath.Join(bin, "hsm")
	w := newSecretWorld(t, "--key", key)
	code, out, talk := w.send("k", "--key", key, "token={}/line", "tls-key=-", "--json")
	var a struct {
		Schema, Operator string
		Sent             []string
		Connection       struct {
			Accepted bool
			Note     string
		}
	}
	if err := json.Unmarshal([]byte(out), &a); code != 0 || err != nil || a.Schema != "tally.secrets/v1" || len(a.Sent) != 2 || len(a.Operator) != 64 || !a.Connection.Accepted || a.Connection.Note == "" {
		t.Errorf("exit %d, %v, %+v\n%s%s", code, err, a, out, talk)
	}
	if !strings.Contains(talk, "secret token: the newline at its end is sent, too") || strings.Contains(out+talk, secretCanary) {
		t.Errorf("stderr %q", talk)
	}
}

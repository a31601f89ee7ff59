package stock

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tally/internal/testtool"
	"tally/release"
	"tally/release/log"
)

const omniwitnessVersion = "v0.0.0-20260720115447-2e1c6971d19e"

// An omniwitness is the witness network's own program with what it remembers.
type omniwitness struct {
	program, dir, address string
	skey                  string
	key                   release.WitnessKey
}

func newOmniwitness(t *testing.T) *omniwitness {
	t.Helper()
	o := &omniwitness{program: testtool.Build(t, "omniwitness", "github.com/transparency-dev/witness/cmd/omniwitness", omniwitnessVersion), dir: t.TempDir(), address: freeAddress(t)}
	skey, vkey, err := note.GenerateKey(rand.Reader, "omni.example")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
	if err != nil {
		t.Fatal(err)
	}
	if o.key, err = release.NewWitnessKey("omni.example", ed25519.PublicKey(raw[1:])); err != nil {
		t.Fatal(err)
	}
	o.skey = filepath.Join(o.dir, "key")
	if err := os.WriteFile(o.skey, []byte(skey), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// start runs it for a log until stop is called or the test ends.
func (o *omniwitness) start(t *testing.T, key release.LogKey) (stop func()) {
	t.Helper()
	logs := filepath.Join(o.dir, "logs.yaml")
	text := fmt.Sprintf("Logs:\n  - Origin: %s\n    URL: http://127.0.0.1:1/\n    PublicKey: %s\n", key.Origin(), key)
	if err := os.WriteFile(logs, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(o.program, "--listen", o.address, "--metrics_listen", "", "--db_file", filepath.Join(o.dir, "db"), "--additional_logs", logs, "--private_key_path", o.skey)
	var talk strings.Builder
	cmd.Stdout, cmd.Stderr = &talk, &talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	t.Cleanup(stop)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(25 * time.Millisecond) {
		if c, err := net.Dial("tcp", o.address); err == nil {
			c.Close()
			return stop
		}
	}
	stop()
	t.Fatalf("omniwitness does not listen:\n%s", talk.String())
	return nil
}

// Our log publishes what stock omniwitness cosigned, and nothing that it does not cosign: while it is away, or when the
// log has another history than the one that it remembers since before it was killed.
func TestOmniwitness(t *testing.T) {
	t.Parallel() // with waiting for cosignatures that do not come
	o := newOmniwitness(t)
	base := t.TempDir()
	dir, keyFile := filepath.Join(base, "pub"), filepath.Join(base, "key")
	policy := []byte(fmt.Sprintf("witness omni %s http://%s\nquorum omni\n", o.key, o.address))
	key, err := log.Create(t.Context(), dir, log.CreateOptions{Origin: "log.tally.example", KeyFile: keyFile, Rand: rand.Reader, Now: time.Now(), Logger: quiet, Witnesses: policy})
	if err != nil {
		t.Fatal(err)
	}
	p, err := release.ParseWitnessPolicy(policy, "p")
	if err != nil {
		t.Fatal(err)
	}
	add := func(dir, body string) (*release.Entry, error) {
		l, err := log.Open(t.Context(), dir, keyFile, time.Now, quiet)
		if err != nil {
			t.Fatal(err)
		}
		e, err := l.Append(t.Context(), []byte(body))
		return e, errors.Join(err, l.Close())
	}
	good := func(body string, index int64) {
		t.Helper()
		e, err := add(dir, body)
		if err != nil {
			t.Fatal(err)
		}
		at, err := p.Quorum.Met([]byte(e.Checkpoint))
		if err != nil || e.Index != index || time.Since(at) > time.Minute || time.Until(at) > time.Minute {
			t.Errorf("index %d, cosigned %s, %v in\n%s", e.Index, at, err, e.Checkpoint)
		}
	}
	bad := func(dir, body, want string) {
		t.Helper()
		if e, err := add(dir, body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", body, e, err, want)
		}
	}
	stop := o.start(t, key)
	for i := range 3 {
		good(fmt.Sprint("leaf ", i), int64(i))
		if i == 0 {
			if err := os.CopyFS(dir+"2", os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	bad(dir, "leaf 3", "nothing is published")
	o.start(t, key)
	good("leaf 3", 3)
	bad(dir+"2", "another history", "nothing is published")
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ulikunitz/xz"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/measure"
	"tally/release"
	"tally/release/releasetest"
	"tally/release/sign"
)

// A connectWorld is a published release, policies, and an enclave that answers.
type connectWorld struct{ dir, addr string }

func (w connectWorld) path(name string) string { return filepath.Join(w.dir, name) }

// run is `tally connect` with the world's address and args; {} in args is the world's directory.
func (w connectWorld) run(args ...string) (code int, stdout, stderr string) {
	var out, talk bytes.Buffer
	all := append([]string{"tally", "connect", w.addr}, args...)
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], "{}", w.dir)
	}
	code = Main(context.Background(), all, strings.NewReader(""), &out, &talk)
	return code, out.String(), talk.String()
}

func newConnectWorld(t *testing.T, a enclave.Attester, e enclave.Engine, change ...func(*enclave.Options)) connectWorld {
	t.Helper()
	rw := releasetest.New(t)
	w := connectWorld{dir: t.TempDir()}
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(w.path(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The release as releasetest made it has no reference values that measure would write.
	put("odd.json", string(rw.Bundle))
	if err := os.WriteFile(filepath.Join(rw.Out, release.ReferenceValues), realReferenceValues(t), 0o644); err != nil {
		t.Fatal(err)
	}
	put("b.json", string(rw.Publish(t, rw.Sign(t, rw.Key, sign.Options{Sequence: 2})).Bundle))
	put("key.pub", string(rw.Key.Public().PEM()))
	who := "schema: tally.policy/v1\nrelease:\n  signers: [{file: key.pub}]\n  log: {vkey: \"" + rw.Log.String() + "\", witnesses: none}\n"
	put("policy.yaml", who+"evidence: {platforms: [insecure]}\n")
	put("snp.yaml", who+"evidence: {platforms: [snp]}\n")
	put("nothing.yaml", who)
	put("nobody.yaml", "schema: tally.policy/v1\nevidence: {platforms: [insecure]}\n")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	opt := enclave.Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&opt)
	}
	go func() { done <- enclave.Serve(ctx, ln, a, e, opt) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.addr = ln.Addr().String()
	return w
}

// realReferenceValues measures a small image with a real firmware.
func realReferenceValues(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open("../../examples/minimal/firmware/OVMF.amdsev.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, err := xz.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	fw, err := io.ReadAll(x)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	var artifacts []map[string]any
	for _, a := range [][3]string{{"cmdline", "cmdline", "roothash=" + strings.Repeat("ab", 32)}, {"initrd", "initrd", "i"}, {"vmlinuz", "kernel", "k"}, {"firmware/amdsev.fd", "firmware", string(fw)}} {
		fsys[a[0]] = &fstest.MapFile{Data: []byte(a[2])}
		artifacts = append(artifacts, map[string]any{"name": a[0], "role": a[1], "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(a[2]))), "size": len(a[2])})
	}
	m, err := json.Marshal(map[string]any{
		"schema": "tally.manifest/v1", "name": "minimal", "version": "0.1.0", "artifacts": artifacts,
		"firmware":  []any{map[string]any{"name": "amdsev", "file": "firmware/amdsev.fd"}},
		"platforms": []any{map[string]any{"name": "snp-qemu", "tee": "snp", "vmm": "QEMU", "firmware": "amdsev", "kernel-hashes": true, "vcpu-type": "EPYC-v4", "vcpus": []int{1, 2}, "guest-features": 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	fsys["manifest.json"] = &fstest.MapFile{Data: m}
	rv, err := measure.Image(t.Context(), fsys, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := rv.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestConnect(t *testing.T) {
	w := newConnectWorld(t, insecure.Attester{}, enclave.Echo{})
	code, out, talk := w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--state", "{}/st", "--message", "hello\x1b[2J enclave")
	if code != 0 || talk != "" {
		t.Fatalf("exit %d\n%s%s", code, out, talk)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for _, l := range lines {
		if !strings.Contains(l, "insecure: the host can forge this") {
			t.Errorf("a line without the words: %s", l)
		}
	}
	for _, want := range []string{"ok release minimal 0.1.0, sequence 2", "not checked witnesses", "not checked rollback", "ok key ", "ok report-data", "not checked signature nothing signed this", "ACCEPTED insecure evidence, hybrid (XXpsk3"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// The reply is the last line and cannot write on the terminal.
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "reply ") || !strings.Contains(last, `"hello\x1b[2J enclave"`) {
		t.Errorf("last line %q", last)
	}
	if _, err := os.Stat(w.path("st")); err != nil {
		t.Error("--state remembered nothing")
	}
}

func TestConnectWithoutMessage(t *testing.T) {
	w := newConnectWorld(t, insecure.Attester{}, silent{t})
	code, out, talk := w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json")
	if code != 0 || strings.Contains(out, "reply") {
		t.Errorf("exit %d\n%s%s", code, out, talk)
	}
}

// silent is an engine that must not be asked.
type silent struct{ t *testing.T }

func (s silent) Exchange(context.Context, io.Reader, io.Writer) error {
	s.t.Error("the engine was asked")
	return nil
}

func TestConnectJSON(t *testing.T) {
	w := newConnectWorld(t, insecure.Attester{}, enclave.Echo{})
	code, out, talk := w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--message", "hi", "--json")
	var a struct {
		Schema, Platform, Note, Key, Reply, Reason string
		Accepted, Insecure                         bool
		Release                                    connectRelease
		Checks                                     []appraise.Check
		Warnings                                   []release.Check
	}
	if err := json.Unmarshal([]byte(out), &a); code != 0 || err != nil {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, talk)
	}
	if a.Schema != "tally.connection/v1" || !a.Accepted || !a.Insecure || a.Note != appraise.InsecureNote || a.Reply != "hi" || len(a.Key) != 64 || a.Release.Sequence != 2 || len(a.Warnings) == 0 {
		t.Errorf("%+v", a)
	}
	for _, c := range a.Checks {
		if c.Note != appraise.InsecureNote {
			t.Errorf("check %q without the note", c.Name)
		}
	}
	code, out, _ = w.run("--policy", "{}/snp.yaml", "--bundle", "{}/b.json", "--message", "hi", "--json")
	if code != 5 || !strings.Contains(out, `"accepted": false`) || !strings.Contains(out, `"reason": "platform"`) || strings.Contains(out, "reply") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// forger is an attester whose report is about something else.
type forger struct{ insecure.Attester }

func (forger) Attest(context.Context, [64]byte) ([]byte, []byte, error) {
	return make([]byte, 64), nil, nil
}

// claimsSNP is an attester without an SNP report that says it has one.
type claimsSNP struct{ insecure.Attester }

func (claimsSNP) Platform() string { return "snp" }

func TestConnectRefuses(t *testing.T) {
	honest := newConnectWorld(t, insecure.Attester{}, silent{t})
	forged := newConnectWorld(t, forger{}, silent{t})
	snp := newConnectWorld(t, claimsSNP{}, silent{t})
	flipped, err := os.ReadFile(honest.path("b.json"))
	if err != nil {
		t.Fatal(err)
	}
	flipped[300] ^= 1
	if err := os.WriteFile(honest.path("flipped.json"), flipped, 0o644); err != nil {
		t.Fatal(err)
	}
	good := []string{"--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--message", "secret"}
	with := func(change ...string) []string { return append(append([]string{}, good...), change...) }
	for _, c := range []struct {
		name string
		w    connectWorld
		args []string
		code int
		want string // on stdout for 4 and 5, on stderr otherwise and when stdout is empty
	}{
		{"no policy", honest, []string{"--bundle", "{}/b.json", "--message", "secret"}, 5, "no policy: nobody is trusted by default"},
		{"policy trusts no signer", honest, with("--policy", "{}/nobody.yaml"), 5, "NOT VERIFIED  reason: policy"},
		{"policy accepts no evidence", honest, with("--policy", "{}/nothing.yaml"), 5, "reason: policy"},
		{"policy accepts snp only", honest, with("--policy", "{}/snp.yaml"), 5, "reason: platform"},
		{"report about something else", forged, good, 5, "reason: report-data"},
		{"snp without a word on it", snp, with("--policy", "{}/snp.yaml"), 5, "reason: policy"},
		{"flipped bundle", honest, with("--bundle", "{}/flipped.json"), 4, "NOT VERIFIED  reason: "},
		{"odd reference values", honest, with("--bundle", "{}/odd.json"), 4, "reference values"},
		{"no bundle", honest, []string{"--policy", "{}/policy.yaml"}, 2, "wants --bundle"},
		{"absent bundle", honest, with("--bundle", "{}/absent.json"), 1, "absent.json"},
		{"another service", honest, with("--authority", "other.example"), 1, "not the service asked for"},
	} {
		code, out, talk := c.w.run(c.args...)
		text := out
		if out == "" {
			text = talk
		}
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", c.name, code, c.code, c.want, out, talk)
		}
		if code <= 2 && out != "" || strings.Contains(out, "reply") || strings.Contains(out, "\nACCEPTED") {
			t.Errorf("%s: stdout %q", c.name, out)
		}
		if strings.Count(talk, "tally: error:") != 1 {
			t.Errorf("%s: stderr %q", c.name, talk)
		}
	}
}

// half is an engine that gives up.
type half struct{}

func (half) Exchange(_ context.Context, _ io.Reader, w io.Writer) error {
	io.WriteString(w, "half an answer")
	return errors.New("no more")
}

// TestConnectIncomplete: half an answer is no answer, and no result either.
func TestConnectIncomplete(t *testing.T) {
	w := newConnectWorld(t, insecure.Attester{}, half{})
	out := t.TempDir()
	if err := os.WriteFile(out+"/e.bin", []byte("of an earlier run"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, text, talk := w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--message", "x", "--evidence", out+"/e.bin")
	if code != 1 || text != "" || !strings.Contains(talk, "could not finish the answer") {
		t.Errorf("exit %d\n%s%s", code, text, talk)
	}
	b, err := os.ReadFile(out + "/e.bin")
	if err != nil || string(b) != "of an earlier run" {
		t.Errorf("--evidence of a command that failed: %.40q, %v", b, err)
	}
	code, _, talk = w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--message", "x", "--evidence", out+"/new.bin")
	if entries, err := os.ReadDir(out); err != nil || code != 1 || len(entries) != 1 {
		t.Errorf("exit %d leaves %v, %v\n%s", code, entries, err, talk)
	}
	// Where it cannot be written nothing is sent.
	code, _, talk = w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--message", "x", "--evidence", out+"/none/e.bin")
	if code != 1 || !strings.Contains(talk, "none") || strings.Contains(talk, "answer") {
		t.Errorf("exit %d\n%s", code, talk)
	}
}

// TestConnectTimeout: --timeout is how long the handshake may take, be it longer than the channel's own patience.
func TestConnectTimeout(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for more than 10 s")
	}
	w := newConnectWorld(t, insecure.Attester{}, silent{t})
	ln, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w.addr = ln.Addr().String()
	const patience = channel.HandshakeTimeout + time.Second
	began := time.Now()
	code, out, talk := w.run("--policy", "{}/policy.yaml", "--bundle", "{}/b.json", "--timeout", patience.String())
	if took := time.Since(began); code != 1 || out != "" || took < patience {
		t.Errorf("exit %d after %v, want 1 after %v\n%s%s", code, took, patience, out, talk)
	}
}

func TestConnectUsage(t *testing.T) {
	for _, args := range [][]string{{"tally", "connect"}, {"tally", "connect", "host"}, {"tally", "connect", "a:1", "b:2"}} {
		var out, talk bytes.Buffer
		if code := Main(t.Context(), args, strings.NewReader(""), &out, &talk); code != 2 || out.Len() != 0 {
			t.Errorf("%v: exit %d, %s", args, code, out.String())
		}
	}
}

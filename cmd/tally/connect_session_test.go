package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/attesttest"
	"tally/enclave/channel"
	"tally/enclave/evidence"
	"tally/measure"
	"tally/release"
	"tally/release/releasetest"
)

// connectWithSession has connect ask for evidence about its session, and verify check what it saved.
func connectWithSession(t *testing.T, w connectWorld, verify func(...string) (int, string, string)) {
	t.Helper()
	code, out, talk := w.run("--policy", "{}/session.yaml", "--bundle", "{}/b.json", "--message", "hello", "--evidence", "{}/e2.bin", "--session", "{}/s2.bin", "--json")
	var a struct {
		Key, Reply string
		Session    connectSession
		Checks     []appraise.Check
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil || code != 0 || a.Reply != "hello" || len(a.Session.Nonce) != 64 {
		t.Fatalf("connect: exit %d, %v\n%s%s", code, err, out, talk)
	}
	var fresh string
	for _, c := range a.Checks {
		if c.Name == "freshness" && c.Status == appraise.OK {
			fresh = c.Got
		}
	}
	if fresh != "leaf 0 of 1 under one report" {
		t.Errorf("freshness %q in\n%s", fresh, out)
	}
	session := []string{"{}/e2.bin", "--policy", "{}/session.yaml", "--bundle", "{}/b.json", "--session", "{}/s2.bin", "--key", a.Key, "--handshake", a.Session.Handshake, "--nonce", a.Session.Nonce}
	if code, out, talk := verify(session...); code != 0 || !strings.Contains(out, "leaf 0 of 1 under one report") {
		t.Errorf("verify: exit %d\n%s%s", code, out, talk)
	}
	code, out, talk = w.run("--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--session", "{}/s3.bin")
	if code != 2 || out != "" || !strings.Contains(talk, "--session: the policy does not want") {
		t.Errorf("--session without freshness session: exit %d\n%s%s", code, out, talk)
	}
}

// TestConnectSession: a man in the middle who holds the enclave's static key shows its evidence, and says of the
// session what he has: nothing, or what the hardware said of another. He gets no message.
func TestConnectSession(t *testing.T) {
	m, err := attesttest.NewAMD(time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := measure.Parse(realReferenceValues(t))
	if err != nil {
		t.Fatal(err)
	}
	copy(m.Fields.Measurement[:], rv.Values[1].Digest)
	w := newConnectWorld(t, m, silent{t})
	who, err := os.ReadFile(w.path("nothing.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	policy := string(who) + strings.Replace(snpSection(m), "freshness: none", "freshness: session", 1)
	for name, text := range map[string]string{"amd.pem": string(m.RootsPEM()), "session.yaml": policy} {
		if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hardware, err := enclave.NewSessionAttester(m, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for want, answer := range map[string]func(ctx context.Context, nonce, static [32]byte) ([]byte, error){
		"reason: freshness": func(context.Context, [32]byte, [32]byte) ([]byte, error) { return nil, channel.ErrNoDocument },
		"reason: report-data": func(ctx context.Context, nonce, static [32]byte) ([]byte, error) {
			return hardware.Attest(ctx, sha256.Sum256([]byte("his own session with the enclave")), nonce, static)
		},
	} {
		w.addr = thief(t, m, answer)
		code, out, talk := w.run("--policy", "{}/session.yaml", "--bundle", "{}/b.json", "--message", "secret")
		if code != 5 || !strings.Contains(out, "NOT ACCEPTED") || !strings.Contains(out, want) || strings.Contains(out, "reply") {
			t.Errorf("exit %d, want %q\n%s%s", code, want, out, talk)
		}
	}
}

// thief is a server with a key that m has attested, and answers of its own.
func thief(t *testing.T, m *attesttest.AMD, answer func(ctx context.Context, nonce, static [32]byte) ([]byte, error)) (addr string) {
	t.Helper()
	stolen, err := channel.GenerateStatic(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := evidence.Document{Platform: "snp", Claims: evidence.Claims{Authority: "default", Static: stolen.Public(), Epoch: 1, NotBefore: 1, NotAfter: 2}}
	if d.Report, d.Endorsements, err = m.Attest(t.Context(), d.Claims.ReportData()); err != nil {
		t.Fatal(err)
	}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		c, err := channel.Server(t.Context(), conn, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}, stolen, append([]byte{channel.InlineEvidence}, b...))
		if err != nil {
			t.Error(err)
			return
		}
		mux := channel.NewMux(c, channel.MuxOptions{Server: true, Answer: func(ctx context.Context, _ channel.Documents, a channel.Ask) ([]byte, error) {
			return answer(ctx, a.Nonce, stolen.Public())
		}})
		defer mux.Abort()
		if _, err := mux.Accept(t.Context()); err == nil {
			t.Error("the client sent its message")
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// TestConnectFreshKey: with freshness: key the log and the witnesses that vouch for the release also say how old
// the enclave's key may be. The enclave has the checkpoint from its host.
func TestConnectFreshKey(t *testing.T) {
	w, plain, cosigned := newFreshKeyWorld(t)
	for name, c := range map[string]struct {
		beacon string
		code   int
		want   string
	}{
		"fresh":      {cosigned(time.Hour), 0, "the key is no older than that"},
		"old":        {cosigned(37 * time.Hour), 5, "37h0m"},
		"uncosigned": {plain, 5, "cosigned by 0 of the policy's witnesses"},
		"no beacon":  {"", 5, "no beacon in the key evidence"},
	} {
		w.addr = serveBeacon(t, c.beacon, enclave.Echo{})
		code, out, talk := w.run("--policy", "{}/key.yaml", "--bundle", "{}/c.json", "--message", "hello")
		if code != c.code || !strings.Contains(out, c.want) || (code == 0) != strings.Contains(out, "reply") || code != 0 && !strings.Contains(out, "reason: freshness") {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", name, code, c.code, c.want, out, talk)
		}
	}
}

// newFreshKeyWorld has policies with freshness: key. A beacon is plain without a cosignature, or cosigned some time ago.
func newFreshKeyWorld(t *testing.T) (w connectWorld, plain string, cosigned func(ago time.Duration) string) {
	t.Helper()
	w = newConnectWorld(t, insecure.Attester{}, enclave.Echo{})
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	witness, err := release.NewWitnessKey("w.example", pub)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(w.path("b.json"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := release.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	plain = bundle.Entry.Checkpoint
	cosigned = func(ago time.Duration) string {
		line, err := witness.Cosign([]byte(plain[:strings.Index(plain, "\n\n")+1]), private, time.Now().Add(-ago))
		if err != nil {
			t.Fatal(err)
		}
		return plain + line
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bundle.Entry.Checkpoint = cosigned(48 * time.Hour) // the release is older than the key may be
	put("c.json", string(releasetest.Marshal(t, bundle)))
	put("witnesses.txt", "witness w "+witness.String()+"\nquorum w\n")
	who, err := os.ReadFile(w.path("nothing.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	put("key.yaml", strings.Replace(string(who), "witnesses: none", "witness-policy: witnesses.txt", 1)+"evidence: {platforms: [insecure], freshness: key, freshness-max-age: 36h}\n")
	put("again.yaml", strings.Replace(string(who), "witnesses: none", "witness-policy: witnesses.txt", 1)+"evidence: {platforms: [insecure], freshness: key, freshness-max-age: 36h, reappraise: 1s}\n")
	return w, plain, cosigned
}

// serveBeacon runs an enclave whose host hands over a beacon.
func serveBeacon(t *testing.T, beacon string, engine enclave.Engine) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- enclave.Serve(ctx, ln, insecure.Attester{}, engine, enclave.Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
			Beacon: func(context.Context) ([]byte, error) { return []byte(beacon), nil }})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

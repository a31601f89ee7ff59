package publish_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"

	"tally/release"
	"tally/release/log"
	"tally/release/publish"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

const (
	kills    = 50
	childEnv = "TALLY_TEST_PUBLISH" // DIR,SEQUENCE: this process is the child that publishes until it is killed
)

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		dir, text, _ := strings.Cut(arg, ",")
		sequence, err := strconv.ParseUint(text, 10, 64)
		fmt.Fprintln(os.Stderr, errors.Join(err, untilKilled(dir, sequence)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A mortal publishes what lies in a directory. Every attempt signs anew with fresh randomness, as a hardware
// key would: nothing but the publisher's care makes one leaf of it.
type mortal struct {
	dir string
	key *ecdsa.PrivateKey
	pub release.PublicKey
	out *sign.Out
}

func (m *mortal) logDir() string { return filepath.Join(m.dir, "pub") }

func openMortal(ctx context.Context, dir string) (*mortal, error) {
	m := &mortal{dir: dir}
	der, err := os.ReadFile(filepath.Join(dir, "signer.der"))
	if err != nil {
		return nil, err
	}
	if m.key, err = x509.ParseECPrivateKey(der); err != nil {
		return nil, err
	}
	if m.pub, err = release.NewPublicKey(&m.key.PublicKey); err != nil {
		return nil, err
	}
	m.out, err = sign.ReadOut(ctx, filepath.Join(dir, "out"))
	return m, err
}

func (m *mortal) publish(ctx context.Context, sequence uint64) (*publish.Published, error) {
	s, err := m.out.Statement(sign.Options{Sequence: sequence})
	if err != nil {
		return nil, err
	}
	b := &release.Bundle{Hint: m.pub.Hint()}
	if b.Envelope.Payload, err = s.Marshal(); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(b.Envelope.PAE())
	if b.Envelope.Signature, err = ecdsa.SignASN1(rand.Reader, m.key, digest[:]); err != nil {
		return nil, err
	}
	bundle, err := b.Marshal()
	if err != nil {
		return nil, err
	}
	l, err := log.Open(ctx, m.logDir(), filepath.Join(m.dir, "pub.key"), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	p, err := publish.Publish(ctx, l, publish.Request{Bundle: bundle, Signer: m.pub, OutDir: filepath.Join(m.dir, "out"), Files: m.out.Files()})
	return p, errors.Join(err, l.Close())
}

// untilKilled is the child: it says "ready", and then each sequence once it is published.
func untilKilled(dir string, sequence uint64) error {
	ctx := context.Background()
	m, err := openMortal(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for ; ; sequence++ {
		if _, err := m.publish(ctx, sequence); err != nil {
			return err
		}
		fmt.Println(sequence)
	}
}

// A publisher that is killed (SIGKILL) fifty times, at any moment, and started again each time leaves what one
// that was never killed leaves.
func TestPublishKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newMortal(t, dir)
	next := uint64(1)
	for range kills {
		next = m.killed(t, next)
		if t.Failed() {
			return
		}
		m.audit(t, next-1, 1)
	}
	// The last one finishes in peace, and the others are found again although the signature is another.
	for sequence := uint64(1); sequence <= next; sequence++ {
		p, err := m.publish(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		if sequence < next && !p.Already {
			t.Errorf("sequence %d published anew", sequence)
		}
	}
	m.audit(t, next, 0)
	for _, sub := range []string{".pending", "bundles", "by-digest", "names", "releases"} {
		entries, err := os.ReadDir(filepath.Join(m.logDir(), sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if sub == ".pending" || strings.HasPrefix(e.Name(), ".") {
				t.Errorf("left behind: %s/%s", sub, e.Name())
			}
		}
	}
	t.Logf("%d kills, %d releases", kills, next)
	if next < kills/10 {
		t.Errorf("only %d releases: the child hardly lived", next)
	}
}

func newMortal(t *testing.T, dir string) *mortal {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "signer.der"), der, 0o600)
	}
	if err = errors.Join(err, rt.WriteOut(filepath.Join(dir, "out"))); err != nil {
		t.Fatal(err)
	}
	m, err := openMortal(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Create(t.Context(), m.logDir(), log.CreateOptions{
		Origin: "log.tally.example", KeyFile: filepath.Join(dir, "pub.key"), Rand: rand.Reader, Now: rt.Now, Logger: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

// killed runs a child that publishes from sequence next on, kills it at some moment and returns the first
// sequence that it did not say was published.
func (m *mortal) killed(t *testing.T, next uint64) uint64 {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d", childEnv, m.dir, next))
	var talk strings.Builder
	cmd.Stderr = &talk
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Errorf("child: %q", lines.Text())
	}
	life := time.Duration(mrand.Int64N(int64(220 * time.Millisecond)))
	time.AfterFunc(life, func() { cmd.Process.Kill() })
	for lines.Scan() {
		sequence, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil || sequence != next {
			t.Errorf("child says %q, want %d", lines.Text(), next)
		}
		next++
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("child that was to live for %s: %v\n%s", life, err, talk.String())
	}
	return next
}

// audit reads the whole log with torchwood, which shares no code with the writer: the first releases are there,
// each by one leaf that has its bundle, and at most so many more leaves have none yet.
func (m *mortal) audit(t *testing.T, releases uint64, bare int) {
	t.Helper()
	payloads := map[release.Digest]int{}
	for _, leaf := range m.leaves(t) {
		data, err := os.ReadFile(filepath.Join(m.logDir(), "bundles", release.LeafHash(leaf).String()+".sigstore.json"))
		if errors.Is(err, os.ErrNotExist) && bare > 0 {
			bare--
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := release.ParseBundle(data)
		if err != nil {
			t.Fatal(err)
		}
		if string(release.LeafBody(&b.Envelope, m.pub)) != string(leaf) {
			t.Errorf("bundle of another leaf than %s", release.LeafHash(leaf))
		}
		key, err := log.ReadKey(m.logDir())
		if err != nil {
			t.Fatal(err)
		}
		policy := &release.Policy{Signers: []release.Signer{{Key: m.pub}}, Log: release.LogPolicy{Key: key, Unwitnessed: true}}
		if _, err := release.Verify(data, policy, rt.Now); err != nil {
			t.Error(err)
		}
		payloads[release.PayloadDigest(b)]++
	}
	for sequence := uint64(1); sequence <= releases; sequence++ {
		s, err := m.out.Statement(sign.Options{Sequence: sequence})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if n := payloads[sha256.Sum256(payload)]; n != 1 {
			t.Errorf("sequence %d of %d has %d leaves with bundles, want 1", sequence, releases, n)
		}
	}
	for payload, n := range payloads {
		if n != 1 {
			t.Errorf("payload %s has %d leaves", payload, n)
		}
	}
}

func (m *mortal) leaves(t *testing.T) (leaves [][]byte) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(m.logDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	policy, err := torchwood.ParsePolicy(read(log.PolicyFile))
	if err != nil {
		t.Fatal(err)
	}
	cp, _, err := torchwood.VerifyCheckpoint(read(log.CheckpointFile), policy)
	if err != nil {
		t.Fatal(err)
	}
	tiles, err := torchwood.NewTileFS(os.DirFS(m.logDir()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := torchwood.NewClient(tiles)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range client.AllEntries(t.Context(), cp.Tree, 0) {
		leaves = append(leaves, leaf)
	}
	if err := client.Err(); err != nil {
		t.Fatal(err)
	}
	return leaves
}

package oracles

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/torchwood"
	peerclient "github.com/transparency-dev/witness/client/http"
	"github.com/transparency-dev/witness/persistence/inmemory"
	peer "github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"

	"tally/release"
	"tally/release/log"
	"tally/release/witness"
)

var quiet = slog.New(slog.DiscardHandler)

// A setup is a log of ours that two witnesses must cosign: ours and the one that omniwitness runs.
type setup struct {
	dir, keyFile string
	key          release.LogKey
	policy       []byte // of clients
	ours, theirs *httptest.Server
}

// holder is a handler that is known only after its URL is in use.
type holder struct{ atomic.Pointer[http.Handler] }

func (h *holder) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*h.Load()).ServeHTTP(w, r) }

func newSetup(t *testing.T) *setup {
	t.Helper()
	base := t.TempDir()
	s := &setup{dir: filepath.Join(base, "pub"), keyFile: filepath.Join(base, "pub.key")}
	var handlers [2]holder
	s.ours, s.theirs = httptest.NewServer(&handlers[0]), httptest.NewServer(&handlers[1])
	t.Cleanup(s.ours.Close)
	t.Cleanup(s.theirs.Close)
	ourKey, err := witness.Create(filepath.Join(base, "w"), "ours.example", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := torchwood.NewCosignatureSigner("theirs.example", private)
	if err != nil {
		t.Fatal(err)
	}
	lines := fmt.Sprintf("witness ours %s %s\nwitness theirs %s %s\ngroup both all ours theirs\nquorum both\n",
		ourKey, s.ours.URL, signer.Verifier(), s.theirs.URL)
	if s.key, err = log.Create(t.Context(), s.dir, log.CreateOptions{
		Origin: "log.tally.example", KeyFile: s.keyFile, Rand: rand.Reader, Now: time.Now(), Logger: quiet, Witnesses: []byte(lines),
	}); err != nil {
		t.Fatal(err)
	}
	s.policy = []byte("log " + s.key.String() + "\n" + lines)
	w, err := witness.Open(filepath.Join(base, "w"), witness.Options{Logs: []release.LogKey{s.key}, Now: time.Now, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	oursHandler, theirsHandler := w.Handler(), peerHandler(t, signer, s.key)
	handlers[0].Store(&oursHandler)
	handlers[1].Store(&theirsHandler)
	return s
}

// peerHandler is the handler of github.com/transparency-dev/witness.
func peerHandler(t *testing.T, signer note.Signer, key release.LogKey) http.Handler {
	verifier, err := note.NewVerifier(key.String())
	if err != nil {
		t.Fatal(err)
	}
	w, err := peer.New(t.Context(), peer.Opts{
		Persistence: inmemory.New(), Signers: []note.Signer{signer},
		VerifierForLog: func(_ context.Context, origin string) (note.Verifier, bool, error) {
			return verifier, origin == key.Origin(), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", peer.NewHTTPHandler(w).AddCheckpoint)
	return mux
}

func appendOne(t *testing.T, dir, keyFile, body string) (*release.Entry, error) {
	t.Helper()
	l, err := log.Open(t.Context(), dir, keyFile, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	e, err := l.Append(t.Context(), []byte(body))
	return e, errors.Join(err, l.Close())
}

// TestLogAsksPeer: our log gets the cosignatures of both, torchwood accepts them, and a second history of the log
// gets none from either and so is not published.
func TestLogAsksPeer(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	policy, err := torchwood.ParsePolicy(s.policy)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		e, err := appendOne(t, s.dir, s.keyFile, fmt.Sprint("leaf ", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := torchwood.VerifyCheckpoint([]byte(e.Checkpoint), policy); err != nil {
			t.Errorf("%v in\n%s", err, e.Checkpoint)
		}
		if i == 0 {
			if err := os.CopyFS(s.dir+"2", os.DirFS(s.dir)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err = appendOne(t, s.dir+"2", s.keyFile, "another history")
	if err == nil || !strings.Contains(err.Error(), "nothing is published") {
		t.Errorf("a second history: %v", err)
	}
}

// TestPeerAsksWitness: our witness answers the peer's client in the words that it understands.
func TestPeerAsksWitness(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	var notes [][]byte
	for i := range 3 {
		e, err := appendOne(t, s.dir, s.keyFile, fmt.Sprint("leaf ", i))
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, []byte(e.Checkpoint))
	}
	u, err := url.Parse(s.ours.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := peerclient.NewWitness(u, s.ours.Client())
	// The same tree again is cosigned again, in the form that a policy counts.
	cosignature, _, err := w.Update(t.Context(), 3, notes[2], nil)
	if err != nil || !strings.HasPrefix(string(cosignature), "\u2014 ours.example ") {
		t.Errorf("same tree: %q, %v", cosignature, err)
	}
	if _, size, err := w.Update(t.Context(), 1, notes[2], nil); !errors.Is(err, peer.ErrCheckpointStale) || size != 3 {
		t.Errorf("old size 1: %d, %v", size, err)
	}
	if _, _, err := w.Update(t.Context(), 4, notes[2], nil); !errors.Is(err, peer.ErrOldSizeInvalid) {
		t.Errorf("old size above the checkpoint's: %v", err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(origin string, private ed25519.PrivateKey) []byte {
		v, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		text := origin + "\n3\n" + strings.Split(string(notes[2]), "\n")[2] + "\n"
		return fmt.Appendf(nil, "%s\n\u2014 %s %s\n", text, origin, signature(t, v, private, text))
	}
	if _, _, err := w.Update(t.Context(), 3, sign("other.example", other), nil); !errors.Is(err, peer.ErrUnknownLog) {
		t.Errorf("unknown log: %v", err)
	}
	if _, _, err := w.Update(t.Context(), 3, sign("log.tally.example", other), nil); !errors.Is(err, peer.ErrNoValidSignature) {
		t.Errorf("another key: %v", err)
	}
}

// signature is the base64 of a signature line: key hash and Ed25519 signature.
func signature(t *testing.T, vkey string, private ed25519.PrivateKey, text string) string {
	t.Helper()
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := note.Sign(&note.Note{Text: text}, signer{v, private})
	if err != nil {
		t.Fatal(err)
	}
	line := strings.TrimSpace(string(msg[len(text)+1:]))
	return line[strings.LastIndex(line, " ")+1:]
}

type signer struct {
	note.Verifier
	private ed25519.PrivateKey
}

func (s signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.private, msg), nil }

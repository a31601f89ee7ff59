package release_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"tally/release"
	rt "tally/release/releasetest"
)

// A cosigner is a witness with its private key.
type cosigner struct {
	key     release.WitnessKey
	private ed25519.PrivateKey
}

func newCosigner(t testing.TB, name string) cosigner {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := release.NewWitnessKey(name, pub)
	if err != nil {
		t.Fatal(err)
	}
	return cosigner{k, private}
}

// cosign adds a line to a checkpoint.
func (c cosigner) cosign(t testing.TB, checkpoint string, at time.Time) string {
	t.Helper()
	text := checkpoint[:strings.Index(checkpoint, "\n\n")+1]
	line, err := c.key.Cosign([]byte(text), c.private, at)
	if err != nil {
		t.Fatal(err)
	}
	return checkpoint + line
}

func quorum(t testing.TB, format string, args ...any) release.Quorum {
	t.Helper()
	p, err := release.ParseWitnessPolicy(fmt.Appendf(nil, format, args...), "p.txt")
	if err != nil {
		t.Fatal(err)
	}
	return p.Quorum
}

// TestWitnesses verifies bundles whose checkpoints are cosigned, under every sort of rule.
func TestWitnesses(t *testing.T) {
	w := rt.New(t)
	a, b, c, stranger := newCosigner(t, "a.example"), newCosigner(t, "b.example/w"), newCosigner(t, "c.example"), newCosigner(t, "d.example")
	names := fmt.Sprintf("witness a %s\nwitness b %s\nwitness c %s\n", a.key, b.key, c.key)
	two := names + "group g 2 a b c\nquorum g\n"
	nested := names + "group ab any a b\ngroup g all ab c\nquorum g\n"
	now := rt.Now
	for _, tt := range []struct {
		name   string
		policy string
		by     map[*cosigner]time.Time
		maxAge time.Duration
		want   release.Reason
		since  time.Time
	}{
		{"two of three", two, map[*cosigner]time.Time{&a: now, &c: now.Add(-time.Hour)}, 0, "", now.Add(-time.Hour)},
		{"three of three: the quorum met when the second signed", two, map[*cosigner]time.Time{&a: now, &b: now.Add(-time.Minute), &c: now.Add(-time.Hour)}, 0, "", now.Add(-time.Minute)},
		{"one of three", two, map[*cosigner]time.Time{&a: now}, 0, release.BadWitness, time.Time{}},
		{"nobody", two, nil, 0, release.BadWitness, time.Time{}},
		{"a stranger does not count", two, map[*cosigner]time.Time{&a: now, &stranger: now}, 0, release.BadWitness, time.Time{}},
		{"nested", nested, map[*cosigner]time.Time{&b: now, &c: now}, 0, "", now},
		{"nested, one branch", nested, map[*cosigner]time.Time{&a: now, &b: now}, 0, release.BadWitness, time.Time{}},
		{"single", names + "quorum b\n", map[*cosigner]time.Time{&b: now}, 0, "", now},
		{"young enough", two, map[*cosigner]time.Time{&a: now.Add(-time.Hour), &b: now}, time.Hour, "", now.Add(-time.Hour)},
		{"too old", two, map[*cosigner]time.Time{&a: now.Add(-2 * time.Hour), &b: now}, time.Hour, release.Expired, time.Time{}},
		{"from the future", two, map[*cosigner]time.Time{&a: now.Add(time.Hour), &b: now.Add(time.Hour)}, 0, release.BadWitness, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bundle, err := release.ParseBundle(w.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			for who, at := range tt.by {
				bundle.Entry.Checkpoint = who.cosign(t, bundle.Entry.Checkpoint, at)
			}
			p := *w.Policy
			p.Log.Unwitnessed, p.Log.Quorum, p.Log.MaxAge = false, quorum(t, "%s", tt.policy), tt.maxAge
			r, err := release.Verify(rt.Marshal(t, bundle), &p, now)
			if got := reason(t, err); got != tt.want {
				t.Fatalf("%v, want reason %q", err, tt.want)
			}
			if err == nil && !r.Cosigned.Equal(tt.since) {
				t.Errorf("the quorum met at %s, want %s", r.Cosigned, tt.since)
			}
			if err == nil {
				theirs(t, fmt.Sprintf("log %s\n%s", w.Log, tt.policy), bundle.Entry.Checkpoint, true)
			} else if tt.want == release.BadWitness && tt.since.IsZero() && tt.name != "from the future" {
				theirs(t, fmt.Sprintf("log %s\n%s", w.Log, tt.policy), bundle.Entry.Checkpoint, false)
			}
		})
	}
	// A line under a witness's name that does not verify spoils the checkpoint, whoever else signed.
	bundle, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	text := bundle.Entry.Checkpoint
	line, err := cosigner{stranger.key, stranger.private}.key.Cosign([]byte(text[:strings.Index(text, "\n\n")+1]), stranger.private, now)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(a.cosign(t, text, now), text, "", 1)
	forged = forged[:len(forged)-10] + "AAAAAAA" + forged[len(forged)-3:]
	bundle.Entry.Checkpoint = b.cosign(t, c.cosign(t, text, now), now) + line + forged
	p := *w.Policy
	p.Log.Unwitnessed, p.Log.Quorum = false, quorum(t, "%s", two)
	if _, err := release.Verify(rt.Marshal(t, bundle), &p, now); reason(t, err) != release.BadWitness || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("forged cosignature beside two good ones: %v", err)
	}
}

// theirs holds our verdict on the cosignatures against torchwood's.
func theirs(t *testing.T, policy, checkpoint string, want bool) {
	t.Helper()
	p, err := torchwood.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := torchwood.VerifyCheckpoint([]byte(checkpoint), p); (err == nil) != want {
		t.Errorf("torchwood says %v, want accepted %v", err, want)
	}
}

// TestWitnessKeys reads keys and cosignatures made by torchwood, and gives it ours.
func TestWitnessKeys(t *testing.T) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := torchwood.NewCosignatureSigner("w.example", private)
	if err != nil {
		t.Fatal(err)
	}
	k, err := release.NewWitnessKey("w.example", pub)
	if err != nil {
		t.Fatal(err)
	}
	vkey := k.String()
	if theirs, err := torchwood.NewCosignatureVerifier(vkey); err != nil || theirs.KeyHash() != signer.KeyHash() {
		t.Errorf("torchwood reads our %s: %v", vkey, err)
	}
	w := rt.New(t)
	bundle, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(bundle.Entry.Checkpoint), note.VerifierList(must(note.NewVerifier(w.Log.String()))))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(n, signer)
	if err != nil {
		t.Fatal(err)
	}
	q := quorum(t, "witness w %s\nquorum w\n", vkey)
	if at, err := q.Met(signed); err != nil || time.Since(at) > time.Minute {
		t.Errorf("torchwood's cosignature: %s, %v", at, err)
	}
	for _, bad := range []string{"", "w", "w+0+AA", vkey + "A", strings.Replace(vkey, "w.", "v.", 1), "w x" + vkey[9:], w.Log.String(), vkey[:len(vkey)-4] + "AAA="} {
		if _, err := release.ParseWitnessKey(bad); err == nil {
			t.Errorf("%q is taken for a witness's key", bad)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestWitnessPolicyRefusals(t *testing.T) {
	k, other := newCosigner(t, "a").key.String(), newCosigner(t, "b").key.String()
	const log = "log.other.example+9b4d7f41+AVjwGyGWT1kITFUkz5I0b5ypyKFyNujIqYJm8YaqslIb"
	good := "# who\n\n log " + log + " https://log.example/\nwitness a " + k + "\twitness.example\n"
	for _, tt := range []struct{ text, want string }{
		{"", "no quorum"},
		{"quorum none\nquorum none\n", ":2: quorum \"none\": a second"},
		{"quorum x\n", "want none or a name"},
		{"witness a " + k + "\nwitness a " + other + "\nquorum a\n", `:2: name "a"`},
		{"witness a " + k + "\nwitness b " + k + "\nquorum a\n", "the same key twice"},
		{"witness none " + k + "\nquorum none\n", `name "none"`},
		{"witness a " + log + "\nquorum a\n", "cosigner's key (type 4)"},
		{good + "quorum a\n", "want http or https"},
		{"log " + log + "\nlog " + log + "\nquorum none\n", "the same key twice"},
		{"group g any a\nquorum g\n", `member "a"`},
		{"witness a " + k + "\ngroup g any a a\nquorum g\n", "each once"},
		{"witness a " + k + "\nwitness b " + other + "\ngroup g any a b\ngroup h any a\nquorum h\n", `:4: group "h": member "a": want names of lines above, each once`},
		{"# a\r\nquorum none\n", ":1: control character '\\r'"},
		{"witness a\x00 " + k + "\nquorum none\n", ":1: control character '\\x00'"},
		{"#\x7f\nquorum none\n", ":1: control character '\\x7f'"},
		{"witness a " + k + "\ngroup g 2 a\nquorum g\n", "from 1 to 1"},
		{"witness a " + k + "\ngroup g 0 a\nquorum g\n", "from 1 to 1"},
		{"witness a " + k + "\ngroup g 01 a\nquorum g\n", "from 1 to 1"},
		{"witness a " + k + "\ngroup g g a\nquorum g\n", "from 1 to 1"},
		{"group g any g\nquorum g\n", `member "g"`},
		{"bastion x\nquorum none\n", "want log VKEY"},
		{"quorum\n", "want log VKEY"},
		{strings.Repeat("#", release.MaxWitnessPolicy+1), "want at most"},
	} {
		if _, err := release.ParseWitnessPolicy([]byte(tt.text), "p.txt"); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "p.txt") {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
	p, err := release.ParseWitnessPolicy([]byte("log "+log+"\nwitness a "+k+" http://127.0.0.1:80/w/\nquorum none\n"), "p.txt")
	if err != nil || !p.Quorum.IsZero() || p.URLs[k] != "http://127.0.0.1:80/w" || len(p.Logs) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := new(release.Quorum).Met([]byte("x\n\n— a AAAA\n")); err == nil {
		t.Error("the zero quorum is met")
	}
}

func FuzzWitnessPolicy(f *testing.F) {
	k := newCosigner(f, "a").key.String()
	f.Add([]byte("log log.other.example+9b4d7f41+AVjwGyGWT1kITFUkz5I0b5ypyKFyNujIqYJm8YaqslIb\nwitness a " + k + " https://a.example\ngroup g any a\nquorum g\n"))
	f.Add([]byte("quorum none\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := release.ParseWitnessPolicy(data, "p")
		if err != nil {
			return
		}
		// What we take, torchwood takes too; it is laxer.
		if _, err := torchwood.ParsePolicy(data); err != nil && !strings.Contains(string(data), "#") {
			t.Errorf("torchwood: %v", err)
		}
		if !p.Quorum.IsZero() && len(p.Quorum.Witnesses()) == 0 {
			t.Error("a quorum of nobody")
		}
	})
}

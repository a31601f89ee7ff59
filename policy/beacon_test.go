package policy_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"tally/enclave/appraise"
	"tally/policy"
	"tally/release"
)

// A logWorld is a log with two witnesses, one of which cosigns with a library that is not ours.
type logWorld struct {
	signer  note.Signer
	vkey    string
	ours    release.WitnessKey
	private ed25519.PrivateKey
	theirs  *torchwood.CosignatureSigner
	files   map[string]string
}

func newLogWorld(t *testing.T) *logWorld {
	t.Helper()
	w := new(logWorld)
	skey, vkey, err := note.GenerateKey(rand.Reader, "log.example")
	if err != nil {
		t.Fatal(err)
	}
	if w.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	w.vkey = vkey
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.private = private
	if w.ours, err = release.NewWitnessKey("a.example", pub); err != nil {
		t.Fatal(err)
	}
	_, second, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if w.theirs, err = torchwood.NewCosignatureSigner("b.example", second); err != nil {
		t.Fatal(err)
	}
	w.files = map[string]string{
		"two.txt": fmt.Sprintf("witness a %s\nwitness b %s\ngroup g all a b\nquorum g\n", w.ours, w.theirs.Verifier()),
	}
	return w
}

// checkpoint is the log's, cosigned by our witness at the time at, and by theirs now.
func (w *logWorld) checkpoint(t *testing.T, at time.Time) string {
	t.Helper()
	text := "log.example\n7\n" + strings.Repeat("A", 43) + "=\n"
	signed, err := note.Sign(&note.Note{Text: text}, w.signer, w.theirs)
	if err != nil {
		t.Fatal(err)
	}
	line, err := w.ours.Cosign([]byte(text), w.private, at)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed) + line
}

// edit puts another character of base64 at a place.
func edit(s string, at int) string {
	c := "A"
	if s[at] == 'A' {
		c = "B"
	}
	return s[:at] + c + s[at+1:]
}

func (w *logWorld) parse(evidence, witnesses string) (*policy.Policy, error) {
	text := "schema: tally.policy/v1\nrelease:\n  log: {vkey: \"" + w.vkey + "\", " + witnesses + "}\nevidence: " + evidence + "\n"
	return policy.Parse([]byte(text), "p", func(name string) ([]byte, error) {
		if f, ok := w.files[name]; ok {
			return []byte(f), nil
		}
		return nil, errors.New("no such file")
	})
}

// TestBeacons: what dates a release dates a key, and by the same words.
func TestBeacons(t *testing.T) {
	w, stranger := newLogWorld(t), newLogWorld(t)
	p, err := w.parse("{platforms: [snp], freshness: key, freshness-max-age: 36h}", "witness-policy: two.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := p.Evidence.Beacons
	if p.Evidence.Freshness != appraise.FreshKey || b.MaxAge != 36*time.Hour || b.Dates.String() != "log.example (2 of (a.example, b.example))" {
		t.Errorf("%+v, %s", b, b.Dates)
	}
	old := time.Now().Add(-30 * time.Hour).Truncate(time.Second)
	good := w.checkpoint(t, old)
	if at, err := b.Dates.Cosigned([]byte(good)); err != nil || !at.Equal(old) {
		t.Errorf("%v, %v; want the older of the two, %v", at, err, old)
	}
	lines := strings.SplitAfter(good, "\n") // text, empty, log, theirs, ours
	for name, c := range map[string]struct{ note, want string }{
		"nothing":          {"", "checkpoint"},
		"another log":      {stranger.checkpoint(t, old), "checkpoint"},
		"no log signature": {strings.Replace(good, lines[4], "", 1), "checkpoint"},
		"one cosignature":  {strings.Replace(good, lines[len(lines)-2], "", 1), "cosigned by 1 of the policy's witnesses"},
		"another tree":     {strings.Replace(good, "\n7\n", "\n8\n", 1), "checkpoint"},
		"a later time":     {edit(good, len(good)-90), "does not verify"},
		"cut":              {good[:len(good)-2], "checkpoint"},
	} {
		if at, err := b.Dates.Cosigned([]byte(c.note)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", name, at, err, c.want)
		}
	}
	for name, c := range map[string]struct{ evidence, witnesses, want string }{
		"no age":         {"{platforms: [snp], freshness: key}", "witness-policy: two.txt", "freshness-max-age"},
		"age of nothing": {"{platforms: [snp], freshness: key, freshness-max-age: 0h}", "witness-policy: two.txt", "freshness-max-age"},
		"age of words":   {"{platforms: [snp], freshness: key, freshness-max-age: long}", "witness-policy: two.txt", "freshness-max-age"},
		"no witnesses":   {"{platforms: [snp], freshness: key, freshness-max-age: 36h}", "witnesses: none", "witness-policy"},
		"age alone":      {"{platforms: [snp], freshness: session, freshness-max-age: 36h}", "witness-policy: two.txt", "without \"freshness: key\""},
	} {
		if _, err := w.parse(c.evidence, c.witnesses); err == nil || !strings.HasPrefix(err.Error(), "p:4:") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestWitnessesOfTheLog: what a policy says about who must have cosigned is taken whole, or not at all.
func TestWitnessesOfTheLog(t *testing.T) {
	w, stranger := newLogWorld(t), newLogWorld(t)
	w.files["none.txt"] = "quorum none\n"
	w.files["broken.txt"] = "quorum g\n"
	w.files["here.txt"] = "log " + w.vkey + "\n" + w.files["two.txt"]
	w.files["both.txt"] = "log " + stranger.vkey + "\n" + w.files["here.txt"]
	w.files["elsewhere.txt"] = "log " + stranger.vkey + "\n" + w.files["two.txt"]
	for _, name := range []string{"two.txt", "here.txt", "both.txt"} {
		p, err := w.parse("{}", "witness-policy: "+name+", cosignature-max-age: 168h")
		if err != nil || p.Release.Log.Quorum.String() != "2 of (a.example, b.example)" || p.Release.Log.MaxAge != 168*time.Hour || p.Release.Log.Unwitnessed {
			t.Errorf("%s: %v, %+v", name, err, p)
		}
	}
	for witnesses, want := range map[string]string{
		"witness-policy: absent.txt":                             "no such file",
		"witness-policy: broken.txt":                             "broken.txt:1: quorum",
		"witness-policy: none.txt":                               "quorum none: say",
		"witness-policy: elsewhere.txt":                          "is about other logs than log.example",
		"witness-policy: two.txt, witnesses: none":               `want either "witness-policy" or`,
		"witnesses: none, cosignature-max-age: 168h":             "beside a witness-policy",
		"cosignature-max-age: 168h":                              "beside a witness-policy",
		"witness-policy: two.txt, cosignature-max-age: 0s":       `age "0s"`,
		"witness-policy: two.txt, cosignature-max-age: -1h":      `age "-1h"`,
		"witness-policy: two.txt, cosignature-max-age: for ever": `age "for ever"`,
	} {
		if _, err := w.parse("{}", witnesses); err == nil || !strings.HasPrefix(err.Error(), "p:3:") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", witnesses, err, want)
		}
	}
}

package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/policy"
	rt "tally/release/releasetest"
)

const vkey = "log.tally.example+ffce267a+AUEGGec4l2754ikI5pUYxRpL7SQEGIr/4dsukNkg9QfC"

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	key := rt.Key(t).Public()
	for name, text := range map[string]string{
		"a.pub": string(key.PEM()), "log.vkey": vkey + "\n",
		"policy.yaml": "schema: tally.policy/v1\nrelease:\n  signers:\n    - file: a.pub\n      not-after: \"2027-01-01T00:00:00Z\"\n" +
			"  log: {file: log.vkey, witnesses: none}\nevidence: {platforms: [insecure, sgx]}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := policy.Load(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Release.Check(); err != nil {
		t.Error(err)
	}
	s := p.Release.Signers
	if len(s) != 1 || s[0].Key.ID() != key.ID() || !s[0].NotBefore.IsZero() || !s[0].NotAfter.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("signers %+v", s)
	}
	if p.Release.Log.Key.String() != vkey || !p.Release.Log.Unwitnessed {
		t.Errorf("log %+v", p.Release.Log)
	}
	if !p.Evidence.Accepts("sgx") || !p.Evidence.Accepts("insecure") || p.Evidence.Accepts("tdx") || p.Evidence.Accepts("") {
		t.Errorf("evidence %+v", p.Evidence)
	}
}

// TestDigest: whatever changes in the file or in one that it names makes another digest, and nothing else does.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	load := func() [32]byte {
		t.Helper()
		p, err := policy.Load(filepath.Join(dir, "policy.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return p.Digest
	}
	const text = "schema: tally.policy/v1\nrelease:\n  log: {file: log.vkey, witnesses: none}\n"
	put("log.vkey", vkey)
	put("policy.yaml", text)
	first := load()
	if load() != first {
		t.Error("two digests of the same files")
	}
	put("policy.yaml", text+"evidence: {platforms: [insecure]}\n")
	second := load()
	put("log.vkey", vkey+"\n")
	if third := load(); first == second || second == third || first == third {
		t.Errorf("%x, %x, %x: want three digests of three policies", first, second, third)
	}
}

func TestInlineKeys(t *testing.T) {
	key := rt.Key(t).Public()
	text := "schema: tally.policy/v1\nrelease:\n  signers:\n    - pem: |\n" + indent(string(key.PEM())) + "  log:\n    vkey: " + vkey + "\n    witnesses: none\n"
	p, err := policy.Parse([]byte(text), "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Release.Check() != nil || p.Release.Signers[0].Key.ID() != key.ID() {
		t.Errorf("%v, %+v", p.Release.Check(), p.Release)
	}
}

func indent(s string) string {
	return "        " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n        ") + "\n"
}

// What a policy does not say is trusted to nobody.
func TestIncompletePoliciesRejectEverything(t *testing.T) {
	key := indent(string(rt.Key(t).Public().PEM()))
	for name, text := range map[string]string{
		"nothing":      "",
		"no log":       "release:\n  signers:\n    - pem: |\n" + key,
		"no signer":    "release:\n  log: {vkey: " + vkey + ", witnesses: none}\n",
		"empty list":   "release:\n  signers: []\n  log: {vkey: " + vkey + ", witnesses: none}\n",
		"no witnesses": "release:\n  signers:\n    - pem: |\n" + key + "  log: {vkey: " + vkey + "}\n",
	} {
		p, err := policy.Parse([]byte("schema: tally.policy/v1\n"+text), "p", nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Release.Check() == nil {
			t.Errorf("%s: accepts something", name)
		}
		if p.Evidence.Accepts("insecure") {
			t.Errorf("%s: accepts evidence", name)
		}
	}
}

func TestErrorsNameTheirPlace(t *testing.T) {
	head := "schema: tally.policy/v1\n"
	read := func(name string) ([]byte, error) { return nil, errors.New("no such key") }
	for name, c := range map[string]struct{ text, want string }{
		"empty":          {"", "p: empty document"},
		"not yaml":       {head + "a: [", "p: line 2"},
		"a list":         {"- a\n", "p:1:1: document: want keys and values"},
		"no schema":      {"release: {}\n", `p:1:1: document: key "schema" is missing`},
		"other schema":   {"schema: tally.policy/v2\n", `p:1:9: schema "tally.policy/v2", want "tally.policy/v1"`},
		"unknown":        {head + "relaese: {}\n", `p:2:1: unknown key "relaese"`},
		"twice":          {head + "evidence: {}\nevidence: {}\n", `p:3:1: key "evidence" twice`},
		"deep unknown":   {head + "release:\n  signers:\n    - fil: a\n", `p:4:7: unknown key "fil"`},
		"both":           {head + "release:\n  signers:\n    - {file: a, pem: b}\n", `p:4:7: want either "pem" or "file"`},
		"neither":        {head + "release:\n  signers:\n    - {}\n", `p:4:7: want either`},
		"unreadable":     {head + "release:\n  signers:\n    - file: a\n", `p:4:13: no such key`},
		"bad pem":        {head + "release:\n  signers:\n    - pem: hello\n", `p:4:7: public key: want one PEM block`},
		"bad time":       {head + "release:\n  signers:\n    - {pem: a, not-after: soon}\n", `p:4:27: time "soon"`},
		"bad vkey":       {head + "release:\n  log: {vkey: a, witnesses: none}\n", `p:3:8: log key "a"`},
		"witnesses":      {head + "release:\n  log: {vkey: a, witnesses: all}\n", `p:3:29: witnesses "all"`},
		"signers":        {head + "release:\n  signers: {}\n", `p:3:12: signers: want a list`},
		"platform twice": {head + "evidence:\n  platforms: [a, a]\n", `p:3:18: platform "a"`},
		"number":         {head + "evidence:\n  platforms: [1]\n", `p:3:15: platforms[0]: want a string`},
		"alias":          {head + "evidence:\n  platforms: &x [a]\nrelease: *x\n", `p:3:14: anchors`},
		"two documents":  {head + "---\n" + head, "p: more than one document"},
		"oversize":       {strings.Repeat("#", policy.MaxSize+1), "p: 1048577 bytes"},
	} {
		_, err := policy.Parse([]byte(c.text), "p", read)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q first", name, err, c.want)
		}
	}
	if _, err := policy.Load(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestLoadLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	text := []byte("schema: tally.policy/v1\n" + strings.Repeat("#", policy.MaxSize))
	for size, want := range map[int]string{policy.MaxSize: "", policy.MaxSize + 1: "larger than 1048576 bytes"} {
		if err := os.WriteFile(path, text[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Load(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %q", size, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("schema: tally.policy/v1\nrelease:\n  signers:\n    - file: a\n      not-after: \"2027-01-01T00:00:00Z\"\n  log: {vkey: " + vkey + ", witnesses: none}\nevidence: {platforms: [insecure]}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? [a]\n: b\n"))
	key := rt.Key(f).Public().PEM()
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := policy.Parse(data, "p", func(string) ([]byte, error) { return key, nil })
		if err != nil && (p != nil || !strings.HasPrefix(err.Error(), "p:")) {
			t.Errorf("policy %v, error without a place: %v", p != nil, err)
		}
	})
}

func TestChannel(t *testing.T) {
	key := rt.Key(t).Public()
	text := func(channel string) []byte {
		return []byte("schema: tally.policy/v1\nrelease:\n  signers:\n    - pem: |\n" + indent(string(key.PEM())) +
			"  log: {vkey: " + vkey + ", witnesses: none, from: \"https://log.example/\"}\n  channel: " + channel + "\n")
	}
	p, err := policy.Parse(text("{name: stable, max-age: 36h, signers: [{file: c.pub, not-after: \"2027-01-01T00:00:00Z\"}]}"), "p",
		func(string) ([]byte, error) { return key.PEM(), nil })
	if err != nil {
		t.Fatal(err)
	}
	c := p.Release.Channel
	if err := p.Release.Check(); err != nil || c.Name != "stable" || c.MaxAge != 36*time.Hour || len(c.Signers) != 1 || c.Signers[0].NotAfter.IsZero() || p.LogFrom != "https://log.example/" {
		t.Errorf("%v, channel %+v, from %q", err, c, p.LogFrom)
	}
	for bad, want := range map[string]string{
		"{name: stable}": "max-age", "{max-age: 1h}": "name", "{name: stable, max-age: 0s}": "want a time", "{name: stable, max-age: week}": "want a time",
		"{name: a/b, max-age: 1h}": "p:10:19: channel", "{name: stable, max-age: 1h, signers: [{}]}": "either", "stable": "channel",
	} {
		if _, err := policy.Parse(text(bad), "p", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", bad, err, want)
		}
	}
}

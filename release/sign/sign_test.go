package sign_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/mkimage"
	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func TestKeyFile(t *testing.T) {
	k := rt.Key(t)
	file, err := k.Marshal([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := sign.ParseKey(file, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Public().ID() != k.Public().ID() {
		t.Error("another key came back")
	}
	for _, wrong := range []string{"", "Secret", "secret "} {
		if _, err := sign.ParseKey(file, []byte(wrong)); !errors.Is(err, sign.ErrPassword) {
			t.Errorf("password %q: %v", wrong, err)
		}
	}
}

// A key made by stock cosign; see testdata/README.md.
func TestCosignKeyFile(t *testing.T) {
	file, err := os.ReadFile("testdata/cosign-2.6.5.key")
	if err != nil {
		t.Fatal(err)
	}
	pub, err := os.ReadFile("testdata/cosign-2.6.5.pub")
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.ParseKey(file, []byte("tally-test"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.Public().PEM(), pub) {
		t.Errorf("public key\n%s, want\n%s", k.Public().PEM(), pub)
	}
}

func TestBadKeyFiles(t *testing.T) {
	good, err := os.ReadFile("testdata/cosign-2.6.5.key")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ file, want string }{
		"empty":     {"", "want one PEM block"},
		"text":      {"hello", "want one PEM block"},
		"truncated": {string(good[:len(good)/2]), "want one PEM block"},
		"two":       {string(good) + string(good), "want one PEM block"},
		"plain":     {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", `"PRIVATE KEY", want`},
		"no JSON":   {"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "no JSON"},
		"oversize":  {strings.Repeat("a", sign.MaxKeyFile+1), "want at most"},
	} {
		if _, err := sign.ParseKey([]byte(c.file), []byte("tally-test")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestPublicKeyFile(t *testing.T) {
	good := string(rt.Key(t).Public().PEM())
	if k, err := release.ParsePublicKey([]byte(good)); err != nil || string(k.PEM()) != good {
		t.Fatal(err)
	}
	// RFC 8410, section 10.1.
	const ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
	for name, text := range map[string]string{
		"empty": "", "two": good + good, "ed25519": ed25519, "private": strings.ReplaceAll(good, "PUBLIC", "PRIVATE"),
		"headers": strings.Replace(good, "KEY-----\n", "KEY-----\nA: b\n\n", 1), "oversize": strings.Repeat(" ", 1<<17) + good,
	} {
		if _, err := release.ParsePublicKey([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The same release signed twice is one release.
func TestSignIsDeterministic(t *testing.T) {
	w := &rt.World{Out: rt.Out(t)}
	k := rt.Key(t)
	a, b := w.Sign(t, k, sign.Options{Sequence: 1}), w.Sign(t, k, sign.Options{Sequence: 1})
	if !bytes.Equal(a, b) {
		t.Error("two signatures of one statement differ")
	}
	if c := w.Sign(t, k, sign.Options{Sequence: 2}); bytes.Equal(a, c) {
		t.Error("another statement has the same bundle")
	}
}

func TestStatement(t *testing.T) {
	w := &rt.World{Out: rt.Out(t)}
	s := w.Statement(t, sign.Options{
		Sequence: 7, SourceRepository: "https://example.org/r", SourceCommit: strings.Repeat("0f", 20),
		NotBefore: time.Date(2026, 5, 1, 2, 0, 0, 5, time.FixedZone("x", 7200)), NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	data, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := release.ParseStatement(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Subject) != 11 || got.Predicate.Release.Sequence != 7 || !got.Predicate.Validity.NotBefore.Equal(time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("statement %+v", got)
	}
	values, err := release.ReferenceFile(got.Predicate.ReferenceValues)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(w.Out, release.ReferenceValues))
	if err != nil || !bytes.Equal(values, want) {
		t.Errorf("%v: the file cannot be had back from the statement", err)
	}
}

func TestBadOptions(t *testing.T) {
	out, err := sign.ReadOut(t.Context(), rt.Out(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]sign.Options{
		"sequence": {}, "commit": {Sequence: 1, SourceCommit: "abc"}, "commit case": {Sequence: 1, SourceCommit: strings.Repeat("0F", 20)},
		"repository": {Sequence: 1, SourceRepository: "a\nb"}, "times": {Sequence: 1, NotAfter: time.Unix(rt.Epoch, 0)},
	} {
		if _, err := out.Statement(opt); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Nothing is signed that is not what the manifest says.
func TestReadOutRefuses(t *testing.T) {
	edit := func(name, old, new string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(data), old, new, 1)
			if changed == string(data) {
				t.Fatalf("%s has no %q", name, old)
			}
			if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string)
		want string
	}{
		"artifact changed":    {edit("disk.raw", "disk", "dusk"), `artifact "disk.raw" has SHA-256`},
		"artifact gone":       {remove("initrd"), "initrd: no such file"},
		"no manifest":         {remove("manifest.json"), "manifest.json: no such file"},
		"no reference values": {remove("reference-values.json"), "run 'tally measure image'"},
		"manifest key":        {edit("manifest.json", `"layout"`, `"layuot"`), `unknown field "layuot"`},
		"manifest trailing":   {edit("manifest.json", "\n}\n", "\n}\n{}"), "data after"},
		"manifest schema":     {edit("manifest.json", "manifest/v1", "manifest/v2"), "want \"tally.manifest/v1\""},
		"path outside":        {edit("manifest.json", `"name": "initrd"`, `"name": "../initrd"`), "want a path below"},
		"values not ours":     {edit("reference-values.json", "  ", "\t"), "not in the form tally writes"},
		"values twice":        {edit("reference-values.json", `"schema"`, `"schema": "a", "schema"`), `key "schema" twice`},
		"values no object":    {edit("reference-values.json", "{", "[{"), "reference-values.json: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := rt.Out(t)
			c.do(t, dir)
			if _, err := sign.ReadOut(t.Context(), dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sign.ReadOut(ctx, rt.Out(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A manifest whose command line is not the artefact, or not of the root hash, cannot become a statement.
func TestStatementChecksTheManifest(t *testing.T) {
	for name, edit := range map[string][2]string{
		"cmdline":   {"console=ttyS0", "console=ttyS1"},
		"root hash": {`"root_hash": "ab`, `"root_hash": "ac`},
		"spec":      {`"spec": {` + "\n    \"sha256\": \"", `"spec": {` + "\n    \"sha256\": \"00"},
	} {
		dir := rt.Out(t)
		path := filepath.Join(dir, release.Manifest)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(data), edit[0], edit[1], 1)
		if changed == string(data) {
			t.Fatalf("%s: nothing changed", name)
		}
		if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := sign.ReadOut(t.Context(), dir)
		if err == nil {
			_, err = out.Statement(sign.Options{Sequence: 1})
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The builder and this package share a format, not code: what the one writes the other reads.
func TestManifestOfTheBuilder(t *testing.T) {
	dir := rt.Out(t)
	path := filepath.Join(dir, release.Manifest)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m mkimage.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	m.Inputs = []mkimage.Input{{Kind: "package", Name: "a", Version: "1", Size: 1, Verified: "index"}}
	m.Firmware = []mkimage.Firmware{{Name: "ovmf", File: "firmware/ovmf.fd", Vars: "as-is"}}
	m.Omitted = []string{"a"}
	m.Models = []mkimage.Model{{Name: "tiny", File: "models/tiny.raw", Mount: "srv/tiny", Verity: m.Verity}}
	volume := []byte("a volume")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "models"), 0o755), os.WriteFile(filepath.Join(dir, "models/tiny.raw"), volume, 0o644)); err != nil {
		t.Fatal(err)
	}
	m.Artifacts = append(m.Artifacts, mkimage.Artifact{Name: "models/tiny.raw", Role: "model", SHA256: sha256.Sum256(volume), Size: int64(len(volume))})
	slices.SortFunc(m.Artifacts, func(a, b mkimage.Artifact) int { return strings.Compare(a.Name, b.Name) })
	m.Config = &mkimage.Config{Path: "etc/tally/enclave.json", SHA256: mkimage.Digest{1}}
	m.Steps = []mkimage.Step{{Name: "a"}}
	for v, i := reflect.ValueOf(m), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("the test leaves %s of the manifest out", v.Type().Field(i).Name)
		}
	}
	if data, err = m.Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, err := mkimage.ParseManifest(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := sign.ReadOut(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := out.Statement(sign.Options{Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Predicate; got.Release.Name != m.Name || got.Verity.RootHash != release.Digest(m.Verity.RootHash) || got.Verity.DataBlocks != m.Verity.DataBlocks || got.Inputs.Lock != release.Digest(m.Lock.SHA256) {
		t.Errorf("predicate %+v", got)
	}
	if got := s.Predicate.Models; len(got) != 1 || got[0].Name != "tiny" || got[0].Verity.RootHash != release.Digest(m.Verity.RootHash) {
		t.Errorf("models %+v", got)
	}
	s.Predicate.Models = append(s.Predicate.Models, s.Predicate.Models[0])
	if _, err := s.Marshal(); err == nil || !strings.Contains(err.Error(), "want sorted names, each once") {
		t.Errorf("a model twice: %v", err)
	}
}

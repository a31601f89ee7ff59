package lock

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample is a lock that uses every field.
func sample() *Lock {
	return &Lock{
		Schema: Schema, Spec: Hash{1}, Arch: "amd64",
		Toolchains: []Toolchain{{"go1.26.8", "linux-amd64", "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM="}},
		Suites: []Suite{{Name: "trixie", Archive: "debian", Date: "2026-09-05T10:00:00Z", Snapshot: "20260905T100000Z", Signers: []string{"ab"},
			InRelease: Object{Hash{2}, 20}, Indexes: []Index{{"main", Object{Hash{3}, 30}}}}},
		Packages: []Package{
			{Name: "ovmf", Version: "1:2", Arch: "all", Suite: "trixie", Path: "pool/main/e/edk2/ovmf.deb", Object: Object{Hash{4}, 40}, For: []string{"firmware.x", "vars"}},
			{Name: "stub", Version: "3", Arch: "amd64", Suite: "trixie", Path: "pool/main/s/stub.deb", Object: Object{Hash{5}, 50}, For: []string{"stub"}},
		},
		Files:   []File{{"a.xz", Object{Hash{6}, 60}}},
		Dirs:    []Dir{{"rootfs", Hash{7}, 2}},
		Go:      []Go{{"../..", "./cmd/init", "go1.26.8", Hash{8}, Hash{9}}},
		Modules: []Module{{"golang.org/x/sys", "v0.1.0", "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM="}},
		OCI: []OCI{{For: "root.1", Image: "registry.example/app", Documents: []Object{{Hash{10}, 70}, {Hash{11}, 80}},
			Layers: []OCILayer{{"application/vnd.oci.image.layer.v1.tar", Object{Hash{12}, 90}, Hash{13}}}}},
		Models: []ModelFile{{"root.2", "m.gguf", "https://models.example/m", Object{Hash{14}, 100}}},
	}
}

func mustMarshal(t testing.TB, l *Lock) []byte {
	t.Helper()
	data, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	l := sample()
	data := mustMarshal(t, l)
	if l.Digest == (Hash{}) {
		t.Error("Marshal set no digest")
	}
	got, err := Parse(data, "image.lock")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l, got); d != "" {
		t.Error(d)
	}
	if again := mustMarshal(t, got); !bytes.Equal(again, data) {
		t.Error("a second Marshal gives other bytes")
	}
	if data[len(data)-1] != '\n' || bytes.Contains(data, []byte("\\u003")) {
		t.Error("form: want a trailing newline and no escaped HTML")
	}
}

func TestPackagesFor(t *testing.T) {
	l := sample()
	if ps := l.PackagesFor("vars"); len(ps) != 1 || ps[0].Name != "ovmf" {
		t.Errorf("vars: %v", ps)
	}
	if ps := l.PackagesFor("kernel"); len(ps) != 0 {
		t.Errorf("kernel: %v", ps)
	}
}

// TestEdited changes every byte of a lock in turn: none may get through.
func TestEdited(t *testing.T) {
	data := mustMarshal(t, sample())
	for i := range data {
		for _, b := range []byte{data[i] ^ 1, ' ', '0'} {
			if b == data[i] {
				continue
			}
			changed := bytes.Clone(data)
			changed[i] = b
			if _, err := Parse(changed, "image.lock"); err == nil {
				t.Fatalf("byte %d changed from %q to %q: no error", i, data[i], b)
			}
		}
	}
	edited := bytes.Replace(data, []byte(`"version": "1:2"`), []byte(`"version": "1:3"`), 1)
	if _, err := Parse(edited, "image.lock"); !errors.Is(err, ErrEdited) || !strings.HasPrefix(err.Error(), "image.lock: was changed by hand") {
		t.Errorf("edited lock: %v", err)
	}
	twice := bytes.Replace(data, []byte("{"), []byte(`{"schema":"x",`), 1)
	if _, err := Parse(twice, "l"); !errors.Is(err, ErrEdited) || !strings.HasSuffix(err.Error(), "(it says what it said, in another form)") {
		t.Errorf("a key twice: %v", err)
	}
	if _, err := Parse([]byte("\n"), "l"); err == nil || err.Error() != "l: the file is empty" {
		t.Errorf("empty file: %v", err)
	}
	if _, err := Parse(append(bytes.Clone(data), ' '), "l"); err == nil {
		t.Error("trailing space: no error")
	}
}

// TestParseRefusals marshals locks with one impossible value: the digest is right, the value is not.
func TestParseRefusals(t *testing.T) {
	for _, c := range []struct {
		change func(*Lock)
		want   string
	}{
		{func(l *Lock) { l.Schema = "tally.lock/v2" }, `schema "tally.lock/v2", want "tally.lock/v1"`},
		{func(l *Lock) { l.Arch = "arm64" }, `arch "arm64": want amd64`},
		{func(l *Lock) { l.Variant = "../x" }, `variant "../x": want lower-case letters`},
		{func(l *Lock) { l.Packages[0].Suite = "sid" }, `suite "sid" is not in the lock`},
		{func(l *Lock) { l.Packages[0].Path = "../etc/passwd" }, `want a clean relative path`},
		{func(l *Lock) { l.Packages[0].Path = "/pool/x" }, `want a clean relative path`},
		{func(l *Lock) { l.Packages[0].Path = "pool/x?y" }, `want a clean relative path`},
		{func(l *Lock) { l.Packages[0].Path = "" }, `want a clean relative path`},
		{func(l *Lock) { l.Packages[0].Size = -1 }, `size -1`},
		{func(l *Lock) { l.Files[0].Size = -1 }, `size -1`},
		{func(l *Lock) { l.Suites[0].Name = "../x" }, `suite "../x": want a name`},
		{func(l *Lock) { l.Suites = append(l.Suites, l.Suites[0]) }, `suite "trixie": want a name, once`},
		{func(l *Lock) { l.Suites[0].Name = "trixie@20260904T100000Z"; l.Suites[0].Dist = "trixie" }, `snapshot "20260905T100000Z": want that of its name`},
		{func(l *Lock) { l.Suites[0].Snapshot = "20261305T100000Z" }, `want a time like 20060102T150405Z`},
		{func(l *Lock) { l.Suites[0].Archive = "evil/../x" }, `archive "evil/../x", want debian`},
		{func(l *Lock) { l.Suites[0].Archive = "vendor" }, `archive vendor: want a keyring exactly when it is not Debian's`},
		{func(l *Lock) { l.Suites[0].Keyring = &Object{Hash{9}, 9} }, `archive debian: want a keyring exactly when`},
		{func(l *Lock) { l.Suites[0].Archive, l.Suites[0].Keyring = "vendor", &Object{Hash{9}, 1 << 40} }, `keyring: 1099511627776 bytes, want at most`},
		{func(l *Lock) { l.Suites[0].Dist = "../x" }, `suite "../x": want a name`},
		{func(l *Lock) { l.Suites[0].Dist = "trixie-security" }, `archive "debian", want debian-security`},
		{func(l *Lock) { l.Suites[0].Priority = 1000 }, `priority 1000: want 1 to 999`},
		{func(l *Lock) { l.Suites[0].Policy = "never" }, `valid_until_policy "never": want enforce or ignore`},
		{func(l *Lock) { l.Suites[0].Snapshot = "2026/../.." }, `want a time like 20060102T150405Z`},
		{func(l *Lock) { l.Suites[0].Indexes[0].Component = "a/b" }, `index "a/b"`},
		{func(l *Lock) { l.Suites[0].Indexes[0].Size = -1 }, `index "main": want a component and a size`},
		{func(l *Lock) { l.Toolchains[0].Version = "local" }, `want a release like go1.26.8`},
		{func(l *Lock) { l.Toolchains[0].Sum = "h1:x" }, `want a release like go1.26.8, a platform like linux-amd64, h1:`},
		{func(l *Lock) { l.Go[0].Toolchain = "go1.26.8; rm" }, `want a release like go1.26.8`},
		{func(l *Lock) { l.Modules[0].Sum = "" }, `want h1:`},
		{func(l *Lock) { l.OCI[0].For = "" }, `image for "": want a source, once`},
		{func(l *Lock) { l.OCI = append(l.OCI, l.OCI[0]) }, `image for "root.1": want a source, once`},
		{func(l *Lock) { l.OCI[0].Layout = "x" }, `want either a repository or a layout`},
		{func(l *Lock) { l.OCI[0].Image = "" }, `want either a repository or a layout`},
		{func(l *Lock) { l.OCI[0].Image = "evil.example/../x" }, `repository "evil.example/../x": want HOST`},
		{func(l *Lock) { l.OCI[0].Image, l.OCI[0].Layout = "", "/etc" }, `layout "/etc": want a clean relative path`},
		{func(l *Lock) { l.OCI[0].Documents = nil }, `0 documents, want 2 or 3`},
		{func(l *Lock) { l.OCI[0].Layers[0].Size = -1 }, `of -1 bytes`},
		{func(l *Lock) { l.OCI[0].Layers[0].Size = 1 << 50 }, `of 1125899906842624 bytes, want 0 to`},
		{func(l *Lock) { l.Models[0].Name = "" }, `model file "" for "root.2": want a source and a name`},
		{func(l *Lock) { l.Models = append(l.Models, l.Models[0]) }, `want a source and a name, once`},
		{func(l *Lock) { l.Models[0].URL = "ftp://x/y" }, `url "ftp://x/y": want http, https or file`},
		{func(l *Lock) { l.Models[0].Size = 0 }, `size 0`},
	} {
		l := sample()
		c.change(l)
		if _, err := Parse(mustMarshal(t, l), "image.lock"); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "image.lock: ") {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"", "the file is empty"}, {"[]", "cannot unmarshal"}, {"{}", "schema"}, {"{}{}", "data after"}, {`{"schema":"tally.lock/v1","extra":1}`, "unknown field"},
		{`{"schema":"tally.lock/v1","digest":"ABCD"}`, "64 lower-case hex digits"},
	} {
		if _, err := Parse([]byte(c.text), "f"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.text, err, c.want)
		}
	}
	l := sample()
	l.Suites[0].Name, l.Suites[0].Dist = "trixie@20260905T100000Z", "trixie"
	l.Packages[0].Suite, l.Packages[1].Suite = l.Suites[0].Name, l.Suites[0].Name
	if _, err := Parse(mustMarshal(t, l), "f"); err != nil {
		t.Errorf("a suite with its date: %v", err)
	}
	for n, good := range map[int]bool{maxEntries: true, maxEntries + 1: false} {
		l := sample()
		l.Files = append(l.Files, make([]File, n-10)...) // ten are there
		if err := l.check(); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "131073 entries, want at most 131072") {
			t.Errorf("%d entries: %v", n, err)
		}
	}
	if _, err := Parse(make([]byte, MaxLock+1), "f"); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("lock over the cap: %v", err)
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add(mustMarshal(f, sample()))
	f.Add([]byte(`{"schema":"tally.lock/v1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b, "f")
		if err != nil {
			return
		}
		if again := mustMarshal(t, l); !bytes.Equal(again, b) {
			t.Errorf("accepted bytes are not the one form:\n%s\n%s", b, again)
		}
	})
}

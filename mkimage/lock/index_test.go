package lock

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"tally/mkimage/deb"
	"tally/mkimage/spec"
)

var indexDate = time.Date(2026, 9, 5, 10, 0, 0, 0, time.UTC)

// An archiveKey signs indexes of a test.
type archiveKey struct {
	entity *openpgp.Entity
	ring   deb.Keyring
}

func newArchiveKey(t *testing.T) *archiveKey {
	t.Helper()
	cfg := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return indexDate.Add(-time.Hour) }}
	e, err := openpgp.NewEntity("test archive", "", "test@example.org", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	ring, err := deb.ReadKeyring(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return &archiveKey{e, ring}
}

func (k *archiveKey) sign(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, k.entity.PrivateKey, &packet.Config{Time: func() time.Time { return indexDate.Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stanza is one package of an index; its .deb is its own name.
func stanza(name, version, extra string) string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: pool/main/%s_%s.deb\nSize: %d\nSHA256: %x\n%s\n",
		name, version, name, version, len(name), sha256.Sum256([]byte(name+version)), extra)
}

// addSuite puts a signed suite with one component into files.
func addSuite(t *testing.T, k *archiveKey, files map[string][]byte, root, suite, extra string, packages ...string) {
	t.Helper()
	addComponent(t, k, files, root, suite, "main", extra, packages...)
}

func addComponent(t *testing.T, k *archiveKey, files map[string][]byte, root, suite, component, extra string, packages ...string) {
	t.Helper()
	plain := []byte(strings.Join(packages, "\n"))
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := component + "/binary-amd64/"
	text := fmt.Sprintf("Suite: stable\nCodename: %s\nDate: %s\n%sSHA256:\n %x %d %sPackages\n %x %d %sPackages.xz\n", suite, indexDate.Format(time.RFC1123), extra,
		sha256.Sum256(plain), len(plain), dir, sha256.Sum256(b.Bytes()), b.Len(), dir)
	base := root + "/dists/" + suite + "/"
	files[base+"InRelease"] = k.sign(t, text)
	files[base+dir+"Packages.xz"] = b.Bytes()
}

// indexSpec wants a root closure, a kernel by its metapackage, and one file of a package.
const indexSpec = `name: x
version: "1"
epoch: 1767225600
root:
  - debian: {suites: [trixie, trixie-security], packages: [app]}
init: {file: {path: i}}
kernel: {debian: {suites: [trixie, trixie-security], package: linux-image-cloud-amd64}}
modules: []
stub: {debian: {suites: [trixie], package: lib, path: a}}
firmware: [{name: f, file: {path: f}, vars: blank}]
`

func indexFiles(t *testing.T, k *archiveKey) map[string][]byte {
	files := map[string][]byte{}
	addSuite(t, k, files, "/debian", "trixie", "",
		stanza("app", "1", "Depends: lib (>= 1)\n"), stanza("lib", "1.2", ""), stanza("ovmf", "1", ""),
		stanza("linux-image-cloud-amd64", "6.1-1", "Depends: linux-image-6.1-cloud-amd64 (= 6.1-1)\n"), stanza("linux-image-6.1-cloud-amd64", "6.1-1", ""))
	addSuite(t, k, files, "/debian-security", "trixie-security", "Valid-Until: Sat, 12 Sep 2026 10:00:00 UTC\n",
		stanza("lib", "1.10", ""), stanza("linux-image-cloud-amd64", "6.1-2", "Depends: linux-image-6.1-cloud-amd64 (= 6.1-2)\n"), stanza("linux-image-6.1-cloud-amd64", "6.1-2", ""))
	return files
}

func newIndexer(t *testing.T, k *archiveKey, mirrors ...string) *Indexer {
	return &Indexer{Fetcher: newRig(t, mirrors...).Fetcher, Keys: k.ring, Now: indexDate.Add(3 * time.Hour), Arch: "amd64"}
}

func parseSpec(t *testing.T, text string) *spec.Spec {
	t.Helper()
	s, err := spec.Parse([]byte(text), "image.yaml", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDebian(t *testing.T) {
	k := newArchiveKey(t)
	m := newMirror(t, indexFiles(t, k))
	x := newIndexer(t, k, m.URL+"/debian")
	l := &Lock{Schema: Schema, Arch: "amd64"}
	if err := x.Debian(context.Background(), parseSpec(t, indexSpec), l); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range l.Packages {
		got = append(got, fmt.Sprint(p.Name, " ", p.Version, " ", p.Suite, " ", p.Path, " ", p.For))
	}
	want := []string{
		"app 1 trixie pool/main/app_1.deb [root.0]",
		"lib 1.10 trixie-security pool/main/lib_1.10.deb [root.0]", // by dpkg's order higher than 1.2
		"lib 1.2 trixie pool/main/lib_1.2.deb [stub]",
		"linux-image-6.1-cloud-amd64 6.1-2 trixie-security pool/main/linux-image-6.1-cloud-amd64_6.1-2.deb [kernel]",
		"ovmf 1 trixie pool/main/ovmf_1.deb [vars]",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(l.Suites) != 2 || l.Suites[0].Name != "trixie" || l.Suites[0].Snapshot != "20260905T100000Z" || l.Suites[1].ValidUntil != "2026-09-12T10:00:00Z" || len(l.Suites[0].Signers) != 1 {
		t.Errorf("suites %+v", l.Suites)
	}
	data := mustMarshal(t, l)
	if _, err := Parse(data, "f"); err != nil {
		t.Error(err)
	}
	again := &Lock{Schema: Schema, Arch: "amd64"}
	if err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, indexSpec), again); err != nil || !bytes.Equal(mustMarshal(t, again), data) {
		t.Errorf("the same index gives another lock (%v)", err)
	}
	if strings.Contains(string(data), m.URL) || strings.Contains(string(data), "127.0.0.1") {
		t.Error("the lock names the mirror")
	}
	checkChain(t, k, l, x.Fetcher.Store)
}

// TestDebianSteps pins the build root of a step with all that it depends on, for its own user.
func TestDebianSteps(t *testing.T) {
	k := newArchiveKey(t)
	m := newMirror(t, indexFiles(t, k))
	l := &Lock{Schema: Schema, Arch: "amd64"}
	const step = "steps:\n  - {name: s, root: {suites: [trixie], packages: [app]}, command: [x], outputs: [{path: o, target: o}]}\n"
	if err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, indexSpec+step), l); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range l.PackagesFor("step.s") {
		got = append(got, fmt.Sprint(p.Name, " ", p.Version, " ", p.For))
	}
	if d := cmp.Diff([]string{"app 1 [root.0 step.s]", "lib 1.2 [step.s stub]"}, got); d != "" {
		t.Error(d)
	}
	if _, err := Parse(mustMarshal(t, l), "f"); err != nil {
		t.Error(err)
	}
	missing := strings.Replace(step, "[app]", "[gcc]", 1)
	if err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, indexSpec+missing), l); err == nil || !strings.HasPrefix(err.Error(), "step.s: package gcc") {
		t.Errorf("a package that is nowhere: %v", err)
	}
}

// checkChain takes a good chain and breaks it link by link.
func checkChain(t *testing.T, k *archiveKey, l *Lock, store *Store) {
	t.Helper()
	ctx := context.Background()
	if unchecked, err := Chain(ctx, l, store, k.ring); err != nil || len(unchecked) != 0 {
		t.Fatalf("chain: %v, unchecked %v", err, unchecked)
	}
	if _, err := Chain(ctx, l, store, newArchiveKey(t).ring); err == nil || !strings.Contains(err.Error(), "suite trixie: ") {
		t.Errorf("chain under another key: %v", err)
	}
	for want, change := range map[string]func(*Lock){
		"package app 1 is not in its package lists": func(c *Lock) { c.Packages[0].SHA256[0] ^= 1 },
		"package app 2 is not in its package lists": func(c *Lock) { c.Packages[0].Version = "2" },
		"package a 1 is not in its package lists": func(c *Lock) { // of another name in front, at the path of one that is listed
			p := c.Packages[0]
			p.Name, p.SHA256 = "a", Hash{1}
			c.Packages = append([]Package{p}, c.Packages...)
		},
		"package app 1 is not in its": func(c *Lock) { // the same twice, with other bytes first
			p := c.Packages[0]
			p.SHA256 = Hash{1}
			c.Packages = append([]Package{p}, c.Packages...)
		},
		"is not what the lock describes":             func(c *Lock) { c.Suites[0].Signers = []string{"00"} },
		"does not name the main package list of the": func(c *Lock) { c.Suites[0].Indexes[0].Object = c.Suites[1].Indexes[0].Object },
	} {
		c := *l
		c.Packages = append([]Package{}, l.Packages...)
		c.Suites = append([]Suite{}, l.Suites...)
		c.Suites[0].Indexes = append([]Index{}, l.Suites[0].Indexes...)
		change(&c)
		if _, err := Chain(ctx, &c, store, k.ring); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("broken chain: %v, want %q", err, want)
		}
	}
	for name, change := range map[string]func(*Suite){
		"date":         func(s *Suite) { s.Date = indexDate.Add(time.Hour).Format(time.RFC3339) },
		"end":          func(s *Suite) { s.ValidUntil = "2026-09-13T10:00:00Z" },
		"no end":       func(s *Suite) { s.ValidUntil = "" },
		"distribution": func(s *Suite) { s.Dist = "sid" },
	} {
		c := *l
		c.Suites = append([]Suite{}, l.Suites...)
		change(&c.Suites[1]) // the one that names an end
		if _, err := Chain(ctx, &c, store, k.ring); err == nil || !strings.Contains(err.Error(), "is not what the lock describes") {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := os.Remove(store.Path(l.Suites[1].InRelease.SHA256)); err != nil {
		t.Fatal(err)
	}
	if unchecked, err := Chain(ctx, l, store, k.ring); err != nil || len(unchecked) != 1 || unchecked[0] != "trixie-security" {
		t.Errorf("chain without an index: %v, unchecked %v", err, unchecked)
	}
	if err := os.Remove(store.Path(l.Suites[0].Indexes[0].SHA256)); err != nil {
		t.Fatal(err)
	}
	if unchecked, err := Chain(ctx, l, store, k.ring); err != nil || len(unchecked) != 2 {
		t.Errorf("chain without a package list: %v, unchecked %v", err, unchecked)
	}
}

// saysSize has the archive sign another size of its unpacked package list.
func saysSize(t *testing.T, k *archiveKey, files map[string][]byte, size int) {
	t.Helper()
	p := "/debian/dists/trixie/InRelease"
	block, _ := clearsign.Decode(files[p])
	text := regexp.MustCompile(` [0-9]+ (main/binary-amd64/Packages)\n`).ReplaceAllString(string(block.Plaintext), fmt.Sprintf(" %d $1\n", size))
	files[p] = k.sign(t, text)
}

func TestIndexRefusals(t *testing.T) {
	k := newArchiveKey(t)
	for _, c := range []struct {
		name   string
		change func(files map[string][]byte, x *Indexer)
		want   string
	}{
		{"unknown key", func(f map[string][]byte, x *Indexer) { x.Keys = newArchiveKey(t).ring }, "no good signature"},
		{"one byte of the signed text", func(f map[string][]byte, x *Indexer) {
			p := "/debian/dists/trixie/InRelease"
			f[p] = bytes.Replace(f[p], []byte("stable"), []byte("stabel"), 1)
		}, "no good signature"},
		{"one byte of the package list", func(f map[string][]byte, x *Indexer) {
			p := "/debian/dists/trixie/main/binary-amd64/Packages.xz"
			f[p] = append([]byte{f[p][0] ^ 1}, f[p][1:]...)
		}, "package list trixie/main (SHA-256 "},
		{"shorter than said", func(f map[string][]byte, x *Indexer) { saysSize(t, k, f, 100000) }, "Packages.xz: unpacks to "},
		{"longer than said", func(f map[string][]byte, x *Indexer) {
			saysSize(t, k, f, len(stanza("app", "1", "Depends: lib (>= 1)\n")))
		}, "InRelease says "},
		{"another suite", func(f map[string][]byte, x *Indexer) {
			addSuite(t, k, f, "/x", "sid", "")
			f["/debian/dists/trixie/InRelease"] = f["/x/dists/sid/InRelease"]
		}, `InRelease: of suite "sid" ("stable"), want trixie`},
		{"from the future", func(f map[string][]byte, x *Indexer) { x.Now = indexDate.Add(-48 * time.Hour) }, "suite trixie"},
		{"expired", func(f map[string][]byte, x *Indexer) { x.Now = indexDate.Add(30 * 24 * time.Hour) }, "suite trixie-security: "},
		{"no InRelease", func(f map[string][]byte, x *Indexer) { delete(f, "/debian/dists/trixie/InRelease") }, "InRelease: 404"},
		{"InRelease too large", func(f map[string][]byte, x *Indexer) {
			f["/debian/dists/trixie/InRelease"] = make([]byte, deb.MaxInRelease+1)
		}, "more than"},
		{"no such package", func(f map[string][]byte, x *Indexer) {
			addSuite(t, k, f, "/debian", "trixie", "", stanza("lib", "1", ""))
		}, "app"},
		{"kernel of the metapackage is gone", func(f map[string][]byte, x *Indexer) {
			addSuite(t, k, f, "/debian-security", "trixie-security", "", stanza("linux-image-cloud-amd64", "7-1", "Depends: linux-image-7 (= 7-1)\n"))
		}, "kernel: package linux-image-cloud-amd64 depends on linux-image-7 (= 7-1), which is in none of its suites"},
		{"offline", func(f map[string][]byte, x *Indexer) { x.Fetcher.Places.Offline = true }, "offline: an index can only be read from a mirror"},
		{"no mirror", func(f map[string][]byte, x *Indexer) { x.Fetcher.Places.Mirrors = nil }, "no mirror is configured for archive debian"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := indexFiles(t, k)
			m := newMirror(t, files)
			x := newIndexer(t, k, m.URL+"/debian")
			c.change(files, x)
			err := x.Debian(context.Background(), parseSpec(t, indexSpec), new(Lock))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestValidUntil: an index that has expired is refused unless the spec says otherwise; the lock says which.
func TestValidUntil(t *testing.T) {
	k := newArchiveKey(t)
	m := newMirror(t, indexFiles(t, k))
	x := newIndexer(t, k, m.URL+"/debian")
	x.Now = indexDate.Add(30 * 24 * time.Hour)
	if err := x.Debian(context.Background(), parseSpec(t, indexSpec), new(Lock)); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "valid-until: ignore for suite trixie-security") {
		t.Errorf("expired: %v", err)
	}
	l := new(Lock)
	if err := x.Debian(context.Background(), parseSpec(t, indexSpec+"suites: [{name: trixie-security, valid-until: ignore}]\n"), l); err != nil {
		t.Fatal(err)
	}
	if s := l.Suites; s[0].Policy != "enforce" || s[0].ValidUntil != "" || s[1].Policy != "ignore" || s[1].ValidUntil != "2026-09-12T10:00:00Z" {
		t.Errorf("policies: %+v", s)
	}
}

// TestByHash: while a mirror is being updated, only the address by hash has the list that InRelease names.
func TestByHash(t *testing.T) {
	k := newArchiveKey(t)
	files := indexFiles(t, k)
	p := "/debian/dists/trixie/main/binary-amd64/Packages.xz"
	files[fmt.Sprintf("/debian/dists/trixie/main/binary-amd64/by-hash/SHA256/%x", sha256.Sum256(files[p]))] = files[p]
	files[p] = []byte("already the next one")
	m := newMirror(t, files)
	if err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, indexSpec), new(Lock)); err != nil {
		t.Error(err)
	}
}

// TestSecondMirror: a mirror that fails gives way to the next.
func TestSecondMirror(t *testing.T) {
	k := newArchiveKey(t)
	bad, good := newMirror(t, nil), newMirror(t, indexFiles(t, k))
	if err := newIndexer(t, k, bad.URL+"/debian", good.URL+"/debian").Debian(context.Background(), parseSpec(t, indexSpec), new(Lock)); err != nil {
		t.Error(err)
	}
}

package lock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/google/go-cmp/cmp"

	"tally/mkimage/spec"
)

// armored is the public half of a key as a keyring file.
func (k *archiveKey) armored(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.entity.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// suitesSpec wants packages of a root from several suites; more is put behind it.
func suitesSpec(source, more string) string {
	return strings.Replace(indexSpec, "{suites: [trixie, trixie-security], packages: [app]}", source, 1) + more
}

// root lists the packages of root.0.
func root(l *Lock) string {
	var all []string
	for _, p := range l.PackagesFor("root.0") {
		all = append(all, p.Name+"="+p.Version+"/"+p.Suite)
	}
	return strings.Join(all, " ")
}

// TestPriorities: backports give only what no other suite has, sid wins by version, and spec and pins
// overrule both.
func TestPriorities(t *testing.T) {
	k := newArchiveKey(t)
	files := indexFiles(t, k)
	addSuite(t, k, files, "/debian", "trixie-backports", "NotAutomatic: yes\nButAutomaticUpgrades: yes\n",
		stanza("app", "9~bpo13+1", "Depends: lib (>= 1)\n"), stanza("lib", "9~bpo13+1", ""), stanza("new", "1~bpo13+1", "Depends: lib\n"))
	addSuite(t, k, files, "/debian", "sid", "", stanza("app", "10", "Depends: lib (>= 10)\n"), stanza("lib", "10", ""))
	addSuite(t, k, files, "/debian", "experimental", "NotAutomatic: yes\n", stanza("new", "2", "Depends: lib\n"), stanza("lib", "11", ""))
	m := newMirror(t, files)
	for name, c := range map[string]struct{ source, suites, want string }{
		"release":            {"{suites: [trixie], packages: [app]}", "", "app=1/trixie lib=1.2/trixie"},
		"security":           {"{suites: [trixie, trixie-security], packages: [app]}", "", "app=1/trixie lib=1.10/trixie-security"},
		"backports wait":     {"{suites: [trixie, trixie-backports], packages: [app]}", "", "app=1/trixie lib=1.2/trixie"},
		"backports alone":    {"{suites: [trixie, trixie-backports], packages: [new]}", "", "lib=1.2/trixie new=1~bpo13+1/trixie-backports"},
		"before experiments": {"{suites: [experimental, trixie, trixie-backports], packages: [new]}", "", "lib=1.2/trixie new=1~bpo13+1/trixie-backports"},
		"raised":             {"{suites: [trixie, trixie-backports], packages: [app]}", "{name: trixie-backports, priority: 500}", "app=9~bpo13+1/trixie-backports lib=9~bpo13+1/trixie-backports"},
		"pinned":             {"{suites: [trixie, trixie-backports], packages: [app], pins: [{suite: trixie-backports, packages: [app]}]}", "", "app=9~bpo13+1/trixie-backports lib=1.2/trixie"},
		"sid":                {"{suites: [trixie, sid], packages: [app]}", "", "app=10/sid lib=10/sid"},
		"sid lowered":        {"{suites: [trixie, sid], packages: [app]}", "{name: sid, priority: 90}", "app=1/trixie lib=1.2/trixie"},
		"held back by a pin": {"{suites: [trixie, sid], packages: [lib], pins: [{suite: trixie, packages: [lib]}]}", "", "lib=1.2/trixie"},
	} {
		l := &Lock{Schema: Schema, Arch: "amd64"}
		err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, suitesSpec(c.source, "suites: ["+c.suites+"]\n")), l)
		if err != nil || root(l) != c.want {
			t.Errorf("%s: %s, %v; want %s", name, root(l), err, c.want)
		}
		if _, err := Parse(mustMarshal(t, l), "l"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for source, want := range map[string]string{
		"{suites: [trixie, sid], packages: [app], pins: [{suite: trixie, packages: [lib]}]}": "package lib (>= 10), wanted by package app: the candidate is 1.2 of suite trixie, of priority 1000",
		"{suites: [trixie, sid], packages: [app], pins: [{suite: sid, packages: [new]}]}":    "package new is pinned to suite sid, which has none for amd64",
	} {
		err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, suitesSpec(source, "")), new(Lock))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestComponents(t *testing.T) {
	k := newArchiveKey(t)
	files := indexFiles(t, k)
	addComponent(t, k, files, "/debian", "bookworm", "non-free-firmware", "", stanza("blob", "1", ""))
	m := newMirror(t, files)
	l := &Lock{Schema: Schema, Arch: "amd64"}
	text := suitesSpec("{suites: [bookworm], components: [non-free-firmware], packages: [blob]}", "")
	if err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, text), l); err != nil || root(l) != "blob=1/bookworm" || l.Suites[0].Indexes[0].Component != "non-free-firmware" {
		t.Errorf("%s, %v", root(l), err)
	}
	text = suitesSpec("{suites: [bookworm], components: [main, non-free-firmware], packages: [blob]}", "")
	if err := newIndexer(t, k, m.URL+"/debian").Debian(context.Background(), parseSpec(t, text), l); err == nil || !strings.Contains(err.Error(), "lists no main/binary-amd64/Packages.xz") {
		t.Errorf("missing component: %v", err)
	}
}

// TestForeignArchive locks a package of an archive with its own key and its own place, fetches it and
// checks the chain; Debian's mirrors and snapshots are not asked for it.
func TestForeignArchive(t *testing.T) {
	ctx := context.Background()
	k, vendor := newArchiveKey(t), newArchiveKey(t)
	files := indexFiles(t, k)
	addSuite(t, vendor, files, "/repo", "stable", "", stanza("tool", "3", "Depends: lib\n"))
	files["/repo/pool/main/tool_3.deb"] = []byte("tool3")
	m := newMirror(t, files)
	s := parseSpec(t, suitesSpec("{suites: [trixie, vendor], packages: [tool]}", "suites: [{name: vendor, archive: acme, suite: stable, keyring: acme.asc}]\n"))
	x := newIndexer(t, k, m.URL+"/debian")
	x.Fetcher.Places.Archives = map[string][]string{"acme": {m.URL + "/repo/"}}
	x.ReadFile = func(p string) ([]byte, error) {
		if p != "acme.asc" {
			return nil, fmt.Errorf("read %s: %w", p, os.ErrNotExist)
		}
		return vendor.armored(t), nil
	}
	l := &Lock{Schema: Schema, Arch: "amd64"}
	if err := x.Debian(ctx, s, l); err != nil {
		t.Fatal(err)
	}
	if root(l) != "lib=1.2/trixie tool=3/vendor" {
		t.Error(root(l))
	}
	v := *l.suite("vendor")
	if v.Archive != "acme" || v.Dist != "stable" || v.Keyring == nil {
		t.Errorf("suite %+v", v)
	}
	if data := mustMarshal(t, l); bytes.Contains(data, []byte(m.URL)) {
		t.Error("the lock names the mirror")
	} else if _, err := Parse(data, "l"); err != nil {
		t.Error(err)
	}
	x.Fetcher.Places.Snapshots = []string{"http://snapshot.invalid/archive"}
	urls := x.Fetcher.Places.urls(&v, "/pool/main/tool_3.deb")
	if d := cmp.Diff([]string{m.URL + "/repo/pool/main/tool_3.deb"}, urls); d != "" {
		t.Error(d)
	}
	if unchecked, err := Chain(ctx, l, x.Fetcher.Store, k.ring); err != nil || len(unchecked) != 0 {
		t.Errorf("chain: %v, unchecked %v", err, unchecked)
	}
	if err := os.Remove(x.Fetcher.Store.Path(v.Keyring.SHA256)); err != nil {
		t.Fatal(err)
	}
	if unchecked, err := Chain(ctx, l, x.Fetcher.Store, k.ring); err != nil || len(unchecked) != 1 || unchecked[0] != "vendor" {
		t.Errorf("chain without the keyring: %v, unchecked %v", err, unchecked)
	}
	foreignRefusals(t, x, s, k)
}

func foreignRefusals(t *testing.T, x *Indexer, s *spec.Spec, k *archiveKey) {
	t.Helper()
	good := x.ReadFile
	for want, read := range map[string]func(string) ([]byte, error){
		"file \"acme.asc\": keyring: ":                 func(string) ([]byte, error) { return []byte("no key"), nil },
		"no good signature by a known archive key":     func(string) ([]byte, error) { return k.armored(t), nil },
		"file does not exist":                          func(string) ([]byte, error) { return nil, os.ErrNotExist },
		"no mirror is configured for archive acme":     nil,
		"keyring: 1048577 bytes, want at most 1048576": func(string) ([]byte, error) { return make([]byte, 1<<20+1), nil },
	} {
		if x.ReadFile = read; read == nil {
			x.ReadFile, x.Fetcher.Places.Archives = good, nil
		}
		err := x.Debian(context.Background(), s, new(Lock))
		if err == nil || !strings.Contains(err.Error(), want) || read == nil && !errors.Is(err, ErrNoMirror) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		if read == nil {
			x.Fetcher.Places.Archives = map[string][]string{"acme": {strings.Replace(x.Fetcher.Places.Mirrors[0], "/debian", "/repo", 1)}}
		}
	}
}

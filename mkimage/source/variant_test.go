package source

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/mkimage/lock"
	"tally/mkimage/spec"
)

const variantsSpec = `name: p
version: "1"
epoch: 1767225600
variants: [{name: one}, {name: two, config: {path: two.json}}]
root:
  - {only: [one], file: {path: first, target: etc/engine}}
  - {only: [two], file: {path: second, target: etc/engine}}
  - file: {path: common, target: etc/common}
config: {path: one.json}
init: {file: {path: init}}
kernel: {debian: {suites: [trixie], package: linux-image-x}}
modules: []
stub: {debian: {suites: [trixie], package: stub, path: usr/lib/x.stub}}
firmware: [{name: fw, file: {path: fw.fd}, vars: as-is}]
`

func configNamed(host string) string {
	return `{"schema": "tally.enclave-config/v1", "hostname": "` + host + `", "listen": ":7443", "attesters": ["snp"]}`
}

// TestVariants: a lock is of one variant, the source archive has what that one needs and the whole spec, and what is
// built from it is that variant, with its own name.
func TestVariants(t *testing.T) {
	p := project{
		"images/one/image.yaml": variantsSpec, "images/one/first": "first engine", "images/one/second": "second engine", "images/one/common": "c",
		"images/one/one.json": configNamed("one"), "images/one/two.json": configNamed("two"), "images/one/init": "#!init", "images/one/fw.fd": "fw",
	}
	file := p.write(t)
	locks := map[string]*lock.Lock{}
	for variant, want := range map[string]struct{ name, engine, config string }{"one": {"p", "first", "one.json"}, "two": {"p-two", "second", "two.json"}} {
		l, err := Open(file, variant, os.Environ())
		if err != nil {
			t.Fatal(err)
		}
		store := lock.NewStore(t.TempDir())
		k, raw := pin(t, l, store)
		locks[variant] = k
		var files []string
		for _, f := range k.Files {
			files = append(files, f.Path)
		}
		if all := []string{"common", want.engine, "fw.fd", "init", want.config}; !slices.IsSorted(files) || k.Variant != variant || !slices.Equal(files, slices.Sorted(slices.Values(all))) {
			t.Errorf("%s: lock of %q with %q, want %q", variant, k.Variant, files, all)
		}
		in, err := l.Assemble(context.Background(), k, raw, store, t.TempDir(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if e := in.Root.Get("etc/engine"); e == nil || string(read(t, e.Data)) != want.engine+" engine" || in.Name != want.name {
			t.Errorf("%s: image %q with %v", variant, in.Name, e)
		}
		sources := read(t, in.Sources)
		again, err := Extract(context.Background(), bytes.NewReader(sources), filepath.Join(t.TempDir(), "again"))
		if err != nil {
			t.Fatal(err)
		}
		rebuilt, err := Open(again, k.Variant, os.Environ())
		if err != nil {
			t.Fatal(err)
		}
		if err := rebuilt.Check(context.Background(), k); err != nil || !bytes.Equal(rebuilt.Raw, []byte(variantsSpec)) {
			t.Errorf("%s: from its archive: %v", variant, err)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(again), map[string]string{"one": "second", "two": "first"}[variant])); !os.IsNotExist(err) {
			t.Errorf("%s: the other's file is in the archive: %v", variant, err)
		}
		o, err := NewOwners(l.Raw, raw, bytes.NewReader(sources), store)
		if err != nil || o.Of("/etc/engine") != "file "+want.engine {
			t.Errorf("%s: owner %q, %v", variant, o.Of("/etc/engine"), err)
		}
	}
	twice := p.write(t)
	text := strings.Replace(variantsSpec, "  - file: {path: common, target: etc/common}", "  - {only: [two], file: {path: common, target: etc/engine}}", 1)
	if err := os.WriteFile(twice, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := Open(twice, "two", os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	store := lock.NewStore(t.TempDir())
	k, raw := pin(t, l, store)
	if _, err := l.Assemble(context.Background(), k, raw, store, t.TempDir(), 1); err == nil || !strings.Contains(err.Error(), "root source 2: ") {
		t.Errorf("two files in one place: %v, want one that calls the source as the document has it", err)
	}
	l, err = Open(file, "two", os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	stale := new(StaleError)
	if err := l.Check(context.Background(), locks["one"]); !errors.As(err, &stale) || stale.What != "the variant" || stale.Was != "one" || stale.Now != "two" {
		t.Errorf("the lock of another variant: %v", err)
	}
	// What names none was made for another spec.
	locks["two"].Variant = ""
	if err := l.Check(context.Background(), locks["two"]); !errors.As(err, &stale) {
		t.Errorf("a lock without variant: %v", err)
	}
	if _, err := Open(file, "three", os.Environ()); err == nil || !strings.Contains(err.Error(), spec.FileName+`:4:11: variant "three": want one of one, two`) {
		t.Errorf("no such variant: %v", err)
	}
}

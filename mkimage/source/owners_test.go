package source

import (
	"archive/tar"
	"bytes"
	"context"
	"strings"
	"testing"

	"tally/mkimage/lock"
	"tally/mkimage/tree"
)

// TestOwners holds what Owners works out of an output directory against what the build itself noted when it added
// each entry.
func TestOwners(t *testing.T) {
	store := lock.NewStore(t.TempDir())
	p := newProject()
	p["images/one/image.yaml"] = strings.Replace(projectSpec, "root:\n", "root:\n  - debian: {suites: [trixie], packages: [aaa], scripts: ignore}\n", 1)
	l := open(t, p.write(t))
	k, _ := pin(t, l, store)
	pkg, err := store.Put(makeDeb("aaa", tarFile("./usr/bin/aaa", "a", tar.TypeReg), tarLink("./usr/bin/bbb", "aaa", tar.TypeSymlink)))
	if err != nil {
		t.Fatal(err)
	}
	k.Packages = append([]lock.Package{{Name: "aaa", Version: "1", Arch: "amd64", Suite: "trixie", Path: "pool/aaa.deb", Object: pkg, For: []string{"root.0"}}}, k.Packages...)
	raw, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Assemble(context.Background(), k, raw, store, t.TempDir(), 2)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOwners(l.Raw, raw, bytes.NewReader(read(t, in.Sources)), store)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range in.Root.Entries() {
		if e.Kind == tree.Dir && e.Source != "dir ../shared/rootfs" {
			continue
		}
		if got := o.Of("/" + e.Path); !strings.HasPrefix(got, e.Source) || got == "" {
			t.Errorf("/%s: owner %q, the build noted %q", e.Path, got, e.Source)
		}
	}
	if got := o.Of("/sbin/init"); got != "go ./cmd/app go1.26.8" {
		t.Errorf("/sbin/init: %q", got)
	}
	if a, b := o.OfInitrd("/init"), o.OfInitrd("/usr/lib/modules/1/kernel/x.ko"); a != "go ./cmd/init go1.26.8" || b != "package linux-image-x 1" || o.OfInitrd("/dev") != "" {
		t.Errorf("initrd: %q, %q", a, b)
	}
	if got := o.Of("/nowhere"); got != "" {
		t.Errorf("/nowhere: %q", got)
	}
	if got := o.Of("/usr/bin/bbb"); got != "package aaa 1" {
		t.Errorf("/usr/bin/bbb: %q", got)
	}
	if o, err := NewOwners(l.Raw, raw, nil, lock.NewStore(t.TempDir())); err != nil || o.Of("/usr/bin/bbb") != "" || o.Of("/opt/bin/a") != "" || o.Of("/etc/data") == "" {
		t.Errorf("without a cache only what the spec names is known: %v", err)
	}
	for what, archive := range map[string]string{"no archive": "x", "another archive": string(makeTar(tarFile("a", "b", tar.TypeReg)))} {
		if _, err := NewOwners(l.Raw, raw, strings.NewReader(archive), store); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if _, err := NewOwners([]byte("x"), raw, nil, store); err == nil {
		t.Error("no spec: no error")
	}
}

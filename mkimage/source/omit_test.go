package source

import (
	"archive/tar"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/lock"
)

// TestOmit builds a root from one package without what the spec leaves out of it.
func TestOmit(t *testing.T) {
	const man, change, copyright = "usr/share/man/man1/a.1", "usr/share/doc/a/changelog.gz", "usr/share/doc/a/copyright"
	for _, c := range []struct {
		omit    string
		want    []string
		refused string
	}{
		{"", []string{change, copyright, man}, ""},
		{"usr/share/man", []string{change, copyright}, ""},
		{"'usr/share/doc/*/change*', 'usr/*/m?n'", []string{copyright}, ""},
		{"usr", nil, ""},
		{"usr/share/ma", nil, `root source 0: omit: path "usr/share/ma": no package has it`},
		{"share", nil, `omit: path "share": no package has it`},
		{"usr/share/man, usr/share/man/man1/a.1/x", nil, `omit: path "usr/share/man/man1/a.1/x": no package has it`},
	} {
		store := lock.NewStore(t.TempDir())
		p := newProject()
		p["images/one/image.yaml"] = strings.Replace(projectSpec, "root:\n", "root:\n  - debian: {suites: [trixie], packages: [aaa], omit: ["+c.omit+"]}\n", 1)
		l := open(t, p.write(t))
		k, _ := pin(t, l, store)
		pkg, err := store.Put(makeDeb("aaa", tarFile("./"+man, "a", tar.TypeReg), tarFile("./"+change, "a", tar.TypeReg), tarFile("./"+copyright, "a", tar.TypeReg)))
		if err != nil {
			t.Fatal(err)
		}
		k.Packages = append([]lock.Package{{Name: "aaa", Version: "1", Arch: "amd64", Suite: "trixie", Path: "pool/aaa.deb", Object: pkg, For: []string{"root.0"}}}, k.Packages...)
		raw, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.Assemble(context.Background(), k, raw, store, t.TempDir(), 2)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("omit %s: %v, want %q", c.omit, err, c.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("omit %s: %v", c.omit, err)
			continue
		}
		var got []string
		for _, e := range in.Root.Entries() {
			if strings.HasPrefix(e.Path, "usr/") {
				got = append(got, e.Path)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("omit %s: %s", c.omit, d)
		}
		listed := strings.Join(in.Omitted, "\n")
		for _, p := range strings.Split(c.omit, ", ") {
			if p = strings.Trim(p, "'"); p != "" && !strings.Contains(listed, "root.0: path "+p+" of its packages") {
				t.Errorf("omit %s: the manifest would not say so: %q", c.omit, in.Omitted)
			}
		}
	}
}

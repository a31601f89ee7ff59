package source

import (
	"archive/tar"
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"tally/mkimage/lock"
)

// TestKernelOfSeveralPackages: since Debian 14 vmlinuz lies among the modules, which are another package's.
func TestKernelOfSeveralPackages(t *testing.T) {
	const dir = "./usr/lib/modules/7.2/"
	binary := []tarItem{tarFile(dir+"vmlinuz", "the kernel", tar.TypeReg)}
	modules := []tarItem{tarFile(dir+"modules.builtin", "", tar.TypeReg), tarFile(dir+"kernel/a.ko", "", tar.TypeReg)}
	for name, c := range map[string]struct {
		packages map[string][]tarItem
		err      string
	}{
		"split":   {map[string][]tarItem{"linux-binary-7.2": binary, "linux-modules-7.2": modules}, ""},
		"none":    {map[string][]tarItem{"linux-modules-7.2": modules}, "package linux-image-x has no boot/vmlinuz-* and no usr/lib/modules/*/vmlinuz"},
		"deeper":  {map[string][]tarItem{"linux-binary-7.2": {tarFile(dir+"kernel/vmlinuz", "x", tar.TypeReg)}, "linux-modules-7.2": modules}, "has no boot/vmlinuz-*"},
		"another": {map[string][]tarItem{"linux-binary-7.2": {tarFile("./boot/vmlinuz-7.2", "x", tar.TypeReg), binary[0]}, "linux-modules-7.2": modules}, "two images"},
	} {
		p := project{"images/one/image.yaml": strings.Replace(variantsSpec, "config: {path: one.json}\n", "", 1), "images/one/first": "f", "images/one/common": "c", "images/one/init": "#!init", "images/one/fw.fd": "fw"}
		p["images/one/image.yaml"] = strings.Replace(p["images/one/image.yaml"], "variants: [{name: one}, {name: two, config: {path: two.json}}]", "variants: [{name: one}, {name: two}]", 1)
		l, err := Open(p.write(t), "one", os.Environ())
		if err != nil {
			t.Fatal(err)
		}
		store := lock.NewStore(t.TempDir())
		k, _ := pin(t, l, store)
		k.Packages = slices.DeleteFunc(k.Packages, func(p lock.Package) bool { return slices.Contains(p.For, "kernel") })
		for name, items := range c.packages {
			o, err := store.Put(makeDeb(name, items...))
			if err != nil {
				t.Fatal(err)
			}
			k.Packages = append(k.Packages, lock.Package{Name: name, Version: "1", Arch: "amd64", Suite: "trixie", Path: "pool/" + name + ".deb", Object: o, For: []string{"kernel"}})
		}
		slices.SortFunc(k.Packages, func(a, b lock.Package) int { return strings.Compare(a.Name, b.Name) })
		raw, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.Assemble(context.Background(), k, raw, store, t.TempDir(), 1)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil || string(in.Kernel) != "the kernel" || in.KernelTree.Get("usr/lib/modules/7.2/kernel/a.ko") == nil {
			t.Errorf("%s: %v, kernel %q", name, err, in.Kernel)
			continue
		}
		o, err := NewOwners(l.Raw, raw, nil, store)
		if err != nil || o.OfInitrd("/usr/lib/modules/7.2/kernel/a.ko") != "package linux-modules-7.2 1" {
			t.Errorf("%s: owner of a module %q, %v", name, o.OfInitrd("/usr/lib/modules/7.2/kernel/a.ko"), err)
		}
	}
}

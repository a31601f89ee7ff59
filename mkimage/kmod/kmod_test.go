package kmod

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/tree"
)

func paths(mods []Module) []string {
	var all []string
	for _, m := range mods {
		_, below, _ := strings.Cut(m.Path, "/kernel/")
		all = append(all, below)
	}
	return all
}

// For each module the closure must be modprobe's, and in an order in which each finds what it depends on.
func TestDebianClosures(t *testing.T) {
	tr, release, orders := debianKernel(t)
	if len(orders) < 10 {
		t.Fatalf("%d recorded orders", len(orders))
	}
	for name, want := range orders {
		mods, err := Closure(tr, release, []string{name})
		if err != nil {
			t.Error(err)
			continue
		}
		// libcrc32c has a soft dependency on the alias crc32c, which modprobe follows to this module.
		want = slices.DeleteFunc(want, func(p string) bool { return p == "arch/x86/crypto/crc32c-intel.ko.xz" })
		got := paths(mods)
		if got[len(got)-1] != want[len(want)-1] {
			t.Errorf("%s: last is %s, want %s", name, got[len(got)-1], want[len(want)-1])
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-modprobe +got):\n%s", name, diff)
		}
	}
}

func TestDebianOrder(t *testing.T) {
	tr, release, _ := debianKernel(t)
	mods, err := Closure(tr, release, []string{"virtio_blk", "dm-verity", "nvme", "erofs", "sha256-ssse3", "virtio-net"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"arch/x86/crypto/sha256-ssse3.ko.xz", "drivers/block/virtio_blk.ko.xz",
		"drivers/md/dm-mod.ko.xz", "drivers/md/dm-bufio.ko.xz", "lib/reed_solomon/reed_solomon.ko.xz", "drivers/md/dm-verity.ko.xz",
		"lib/libcrc32c.ko.xz", "fs/erofs/erofs.ko.xz",
		"net/core/failover.ko.xz", "drivers/net/net_failover.ko.xz", "drivers/net/virtio_net.ko.xz",
	}
	if diff := cmp.Diff(want, paths(mods)); diff != "" {
		t.Error(diff)
	}
}

func TestPackings(t *testing.T) {
	for _, packing := range []string{"", ".xz", ".gz", ".zst"} {
		k := newKernel(t)
		k.module("a/one-a.ko"+packing, "depends=two_b")
		k.module("b/two-b.ko"+packing, "depends=")
		mods, err := Closure(k.done(), k.release, []string{"one_a"})
		if err != nil {
			t.Errorf("%q: %v", packing, err)
			continue
		}
		if len(mods) != 2 || mods[0].Name != "two_b" || mods[1].Name != "one_a" {
			t.Errorf("%q: got %v", packing, paths(mods))
		}
		want := fakeModule("name=two_b", "vermagic=6.1.0-test SMP", "depends=")
		if !bytes.Equal(mods[0].Data, want) || !bytes.Equal(pack(t, want, packing), mods[0].Packed) {
			t.Errorf("%q: contents differ", packing)
		}
	}
}

func TestSoftDependencies(t *testing.T) {
	k := newKernel(t)
	k.module("main.ko", "softdep=pre: before-it absent post: after-it", "softdep=pre: built", "depends=hard")
	k.module("hard.ko")
	k.module("before_it.ko", "softdep=post: main") // a wish that leads back
	k.module("after_it.ko", "depends=main")
	k.builtin = "kernel/built.ko\n"
	mods, err := Closure(k.done(), k.release, []string{"main"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"hard.ko", "before_it.ko", "main.ko", "after_it.ko"}, paths(mods)); diff != "" {
		t.Error(diff)
	}
}

func TestRefuses(t *testing.T) {
	good := []string{"name=m", "vermagic=6.1.0-test SMP"}
	tests := []struct {
		name  string
		setup func(*fakeKernel)
		want  string
	}{
		{"missing", func(*fakeKernel) {}, `module "m", wanted by the image's list: kernel 6.1.0-test: not in this kernel`},
		{"missing below", func(k *fakeKernel) { k.module("m.ko", "depends=gone") }, `module "gone", wanted by m`},
		{"cycle", func(k *fakeKernel) { k.module("m.ko", "depends=n"); k.module("n.ko", "depends=m") }, "depends on itself"},
		{"twice", func(k *fakeKernel) { k.module("a/m.ko"); k.module("b/m.ko.xz") }, "more than one file"},
		{"other name", func(k *fakeKernel) { k.file("kernel/m.ko", fakeModule("name=x", good[1])) }, `.modinfo names it "x"`},
		{"other kernel", func(k *fakeKernel) { k.file("kernel/m.ko", fakeModule(good[0], "vermagic=6.1.0 SMP")) }, `built for kernel "6.1.0", want "6.1.0-test"`},
		{"no ELF", func(k *fakeKernel) { k.file("kernel/m.ko", []byte("hello")) }, "no ELF file"},
		{"no xz", func(k *fakeKernel) { k.file("kernel/m.ko.xz", fakeModule(good...)) }, "compressed as .xz"},
		{"no gz", func(k *fakeKernel) { k.file("kernel/m.ko.gz", fakeModule(good...)) }, "compressed as .gz"},
		{"no zst", func(k *fakeKernel) { k.file("kernel/m.ko.zst", fakeModule(good...)) }, "compressed as .zst"},
		{"cut short", func(k *fakeKernel) { b := pack(t, fakeModule(good...), ".xz"); k.file("kernel/m.ko.xz", b[:len(b)-9]) }, "compressed as .xz"},
		{"trailing bytes", func(k *fakeKernel) { k.file("kernel/m.ko.xz", append(pack(t, fakeModule(good...), ".xz"), "more"...)) }, "compressed as .xz"},
		{"bomb", func(k *fakeKernel) { k.file("kernel/m.ko.zst", pack(t, make([]byte, maxModule+1), ".zst")) }, "decompressed: more than"},
		{"ARM", func(k *fakeKernel) { b := fakeModule(good...); b[18] = 183; k.file("kernel/m.ko", b) }, "want a relocatable x86-64 one"},
		{"program", func(k *fakeKernel) { b := fakeModule(good...); b[16] = 2; k.file("kernel/m.ko", b) }, "want a relocatable x86-64 one"},
		{"no modinfo", func(k *fakeKernel) {
			k.file("kernel/m.ko", bytes.Replace(fakeModule(good...), []byte(".modinfo"), []byte(".modunfo"), 1))
		}, "no plain section .modinfo"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newKernel(t)
			tt.setup(k)
			if _, err := Closure(k.done(), k.release, []string{"m"}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Closure(newKernel(t).done(), "6.1.0-test", []string{"dm-verity", "dm_verity"}); err == nil || !strings.Contains(err.Error(), "named twice") {
		t.Errorf("got %v, want named twice", err)
	}
	if _, err := Closure(tree.New(), "6.1.0-test", nil); err == nil || !strings.Contains(err.Error(), "no modules.builtin") {
		t.Errorf("got %v, want no modules.builtin", err)
	}
	_, err := Closure(newKernel(t).done(), "6.1.0-test", []string{"m"})
	if !errors.Is(err, errMissing) {
		t.Errorf("got %v, want %v", err, errMissing)
	}
}

func TestDepth(t *testing.T) {
	k := newKernel(t)
	for i := range 80 {
		k.module(strings.Repeat("m", i+1)+".ko", "depends="+strings.Repeat("m", i+2))
	}
	if _, err := Closure(k.done(), k.release, []string{"m"}); err == nil || !strings.Contains(err.Error(), "depends on itself") {
		t.Errorf("got %v, want a refusal of depth", err)
	}
}

func TestRelease(t *testing.T) {
	for _, root := range roots {
		k := newKernel(t)
		k.root = root
		k.module("x.ko")
		if got, err := Release(k.done()); err != nil || got != "6.1.0-test" {
			t.Errorf("%s: got %q, %v", root, got, err)
		}
		if mods, err := Closure(k.tree, "6.1.0-test", []string{"x"}); err != nil || len(mods) != 1 {
			t.Errorf("%s: got %v, %v", root, mods, err)
		}
		k.release = "6.2.0"
		k.module("x.ko")
		if _, err := Release(k.tree); err == nil || !strings.Contains(err.Error(), `2 releases ["6.1.0-test" "6.2.0"]`) {
			t.Errorf("%s: got %v, want a refusal of two releases", root, err)
		}
	}
	if _, err := Release(tree.New()); err == nil {
		t.Error("an empty tree has a release")
	}
}

func TestInstall(t *testing.T) {
	k := newKernel(t)
	k.module("a/dm-mod.ko.xz")
	k.module("a/dm-verity.ko.xz", "depends=dm-mod")
	mods, err := Closure(k.done(), k.release, []string{"dm-verity"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		install func(*tree.Tree, []Module) error
		list    string
		data    func(Module) []byte
	}{
		{Install, "/lib/modules/dm-mod.ko\n/lib/modules/dm-verity.ko\n", func(m Module) []byte { return m.Data }},
		{InstallPacked, "/lib/modules/dm-mod.ko.xz\n/lib/modules/dm-verity.ko.xz\n", func(m Module) []byte { return m.Packed }},
	} {
		initrd := tree.New()
		if err := tt.install(initrd, mods); err != nil {
			t.Fatal(err)
		}
		if got := string(initrd.Get("modules").Data.(tree.Bytes)); got != tt.list {
			t.Errorf("list %q, want %q", got, tt.list)
		}
		for i, p := range strings.Fields(tt.list) {
			e := initrd.Get(p[1:])
			if e == nil || !bytes.Equal(e.Data.(tree.Bytes), tt.data(mods[i])) {
				t.Errorf("%s: missing or other contents", p)
			}
		}
		if err := tt.install(initrd, mods); err == nil {
			t.Error("installed twice over the same files")
		}
	}
	if err := Install(tree.New(), []Module{{Name: "x", Path: "x.txt"}}); err == nil {
		t.Error("installed a path that is no module's")
	}
}

func FuzzModinfo(f *testing.F) {
	f.Add(fakeModule("name=a", "depends=b,c", "softdep=pre: d post: e"))
	f.Add(fakeModule())
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := modinfo(b)
		if err != nil {
			return
		}
		for _, name := range slices.Concat(in.depends, in.pre, in.post) {
			if name == "" || strings.ContainsAny(name, "-\x00") {
				t.Fatalf("name %q is not normalised", name)
			}
		}
	})
}

package compare_test

import (
	"crypto/sha256"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/compare"
	"tally/mkimage"
	"tally/mkimage/tree"
)

// TestPlantedCauses plants one cause each into a build and wants it named, first and in words, with the path that
// it is at, and nothing else called a cause.
func TestPlantedCauses(t *testing.T) {
	base, on := base(t), newMachine(t)
	was := on.values(t, base)
	root := func(f func(tr *tree.Tree)) func(*mkimage.Inputs) {
		return func(in *mkimage.Inputs) { f(in.Root) }
	}
	for _, c := range []struct {
		name   string
		change func(*mkimage.Inputs)
		cause  string
		at     string // example of the cause
		others int    // further causes that are right
	}{
		{"time", root(func(tr *tree.Tree) { edit(t, tr, "etc/motd", func(e *tree.Entry) { e.MTime++ }) }), "mtime (a clock", "/etc/motd", 0},
		{"umask", root(func(tr *tree.Tree) { edit(t, tr, "etc/motd", func(e *tree.Entry) { e.Mode = 0o600 }) }), "mode bits (umask)", "/etc/motd", 0},
		{"changed config", root(func(tr *tree.Tree) { rewrite(t, tr, "etc/app.conf", []byte("listen = 80\nworkers = many\n")) }), "changed text or configuration", "/etc/app.conf", 0},
		{"one byte", root(func(tr *tree.Tree) {
			b := content(300000, 2)
			b[123456]++
			rewrite(t, tr, "usr/bin/big", b)
		}), "one byte differs", "/usr/bin/big", 0},
		{"hard link turned copy", root(func(tr *tree.Tree) {
			n := tree.NewFile("usr/bin/app2", 0o755, content(20000, 1), "test")
			n.MTime = epoch - 1000
			if err := tr.Replace(n); err != nil {
				t.Fatal(err)
			}
		}), "hard link in A, copy in B", "/usr/bin/app", 0},
		{"GUID", func(in *mkimage.Inputs) { in.Name = "fixture2" }, "GUID (a random one, or one derived from another name)", "", 99},
		{"kernel", func(in *mkimage.Inputs) { in.Kernel = kernel("6.12.2-test") }, "kernel 6.12.1-test -> 6.12.2-test", "vmlinuz", 0},
		{"package version", func(in *mkimage.Inputs) {
			in.List[0].Version, in.List[0].SHA256 = "1.1-1", sha256.Sum256([]byte("x"))
			rewrite(t, in.Root, "usr/lib/libx.so.1", content(9100, 9))
		}, "package libx1 1.0-1 -> 1.1-1", "inputs", 1},
		{"compiler version", func(in *mkimage.Inputs) { in.List[1].Name = "go1.26.8" }, "toolchain go1.26.7 -> go1.26.8", "inputs", 0},
		{"epoch", func(in *mkimage.Inputs) { in.Epoch += 86400 }, "another epoch in the spec", "manifest.json", 99},
		{"stub", func(in *mkimage.Inputs) { in.Stub = stub("257.13") }, "changed text, in numbers only", "uki.efi, .sdmagic", 0},
		{"cmdline", func(in *mkimage.Inputs) { in.Cmdline = "console=ttyS1" }, "changed command line", "cmdline", 0},
		{"init program", func(in *mkimage.Inputs) { in.Init = content(5000, 9) }, "other contents", "initrd, /init", 0},
		{"version", func(in *mkimage.Inputs) { in.Version = "2" }, "another version in the spec", "manifest.json", 1},
		{"lock", func(in *mkimage.Inputs) { in.Lock = []byte("{ }\n") }, "changed text", "image.lock", 0},
		{"new file", root(func(tr *tree.Tree) {
			if err := tr.Add(tree.NewFile("opt/new/file", 0o644, nil, "test")); err != nil {
				t.Fatal(err)
			}
		}), "only in B", "/opt", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := build(t, c.change)
			r := paths(t, base, out, compare.Options{})
			wantRegisters(t, r, was, on.values(t, out))
			if r.Equal || r.Reason != "bytes" || r.Kind != "output" || len(r.Causes) == 0 {
				t.Fatalf("%+v", r)
			}
			i := slices.IndexFunc(r.Causes, func(x compare.Cause) bool {
				return strings.Contains(x.Cause, c.cause) && strings.Contains(x.Example, c.at)
			})
			if i < 0 {
				t.Fatalf("want a cause %q at %q, got\n%s%+v", c.cause, c.at, causes(r), r.Differences)
			}
			if c.others < 99 && len(r.Causes) != 1+c.others {
				t.Errorf("want %d causes, got\n%s%+v", 1+c.others, causes(r), r.Differences)
			}
		})
	}
}

// TestOwnerNamesThePackage: with owners at hand, each path of a package that changed says so.
func TestOwnerNamesThePackage(t *testing.T) {
	a := base(t)
	b := build(t, func(in *mkimage.Inputs) {
		in.List[0].Version = "1.1-1"
		rewrite(t, in.Root, "usr/lib/libx.so.1", content(9100, 9))
	})
	owner := func(version string) func(compare.Tree, string) string {
		return func(tree compare.Tree, path string) string {
			if tree == compare.Root && strings.HasPrefix(path, "/usr/lib/") {
				return "package libx1 " + version
			}
			return ""
		}
	}
	r := paths(t, a, b, compare.Options{Owner: [2]func(compare.Tree, string) string{owner("1.0-1"), owner("1.1-1")}})
	if len(r.Causes) != 1 || r.Causes[0].Cause != "package libx1 1.0-1 -> 1.1-1" || r.Causes[0].Count < 2 {
		t.Errorf("causes:\n%s", causes(r))
	}
	i := slices.IndexFunc(r.Differences, func(d compare.Difference) bool { return d.Path == "/usr/lib/libx.so.1" && d.Field == "content" })
	if i < 0 || r.Differences[i].Owner != "package libx1 1.0-1 -> 1.1-1" {
		t.Errorf("%+v", r.Differences)
	}
}

// TestOwnersInTheInitrd: a changed init program is the cause of what differs in the initrd.
func TestOwnersInTheInitrd(t *testing.T) {
	list := func(in *mkimage.Inputs, text string) {
		in.List = append(in.List, mkimage.Input{Kind: "go", Name: "./cmd/init", Version: "go1.26.8", SHA256: sha256.Sum256([]byte(text)), Verified: "hash"})
	}
	a := build(t, func(in *mkimage.Inputs) { list(in, "one") })
	b := build(t, func(in *mkimage.Inputs) {
		list(in, "two")
		in.Init = content(5000, 9)
	})
	owner := func(tree compare.Tree, path string) string {
		if tree == compare.Initrd && path == "/init" {
			return "go ./cmd/init go1.26.8"
		}
		return ""
	}
	r := paths(t, a, b, compare.Options{Owner: [2]func(compare.Tree, string) string{owner, owner}})
	if len(r.Causes) != 1 || r.Causes[0].Cause != "go ./cmd/init: other contents" || r.Causes[0].Count != 2 {
		t.Errorf("causes:\n%s", causes(r))
	}
}

// TestOwnerOfANewFile: a file of an input that only one side has is explained by that.
func TestOwnerOfANewFile(t *testing.T) {
	b := build(t, func(in *mkimage.Inputs) {
		in.List = append(in.List, mkimage.Input{Kind: "file", Name: "note", SHA256: sha256.Sum256([]byte("x")), Verified: "hash"})
		if err := in.Root.Add(tree.NewFile("etc/note", 0o644, []byte("x"), "test")); err != nil {
			t.Fatal(err)
		}
	})
	owner := func(_ compare.Tree, path string) string { return map[string]string{"/etc/note": "file note"}[path] }
	r := paths(t, base(t), b, compare.Options{Owner: [2]func(compare.Tree, string) string{owner, owner}})
	if len(r.Causes) != 1 || r.Causes[0].Cause != "file note only in B" {
		t.Errorf("causes:\n%s", causes(r))
	}
}

func TestEqual(t *testing.T) {
	a := base(t)
	for _, pair := range [][2]string{{a, build(t, nil)}, {a, a}, {filepath.Join(a, "disk.raw"), filepath.Join(a, "disk.raw")}} {
		r := paths(t, pair[0], pair[1], compare.Options{})
		if !r.Equal || r.Reason != "" || len(r.Differences)+len(r.Causes)+len(r.Registers)+len(r.Notes) != 0 {
			t.Errorf("%+v", r)
		}
	}
}

// TestTreeIsTheIndex: the leaf digests that differ are those of the block that changed, and of the superblock, whose
// UUID derives from the content.
func TestTreeIsTheIndex(t *testing.T) {
	b := build(t, func(in *mkimage.Inputs) {
		data := content(300000, 2)
		data[8192+5]++
		rewrite(t, in.Root, "usr/bin/big", data)
	})
	r := paths(t, filepath.Join(base(t), "disk.raw"), filepath.Join(b, "disk.raw"), compare.Options{})
	i := slices.IndexFunc(r.Differences, func(d compare.Difference) bool { return d.Path == "leaf digests" })
	if i < 0 || !strings.HasPrefix(r.Differences[i].A, "2 of ") || r.Differences[i].B != "other digests, in blocks of /usr/bin/big" || !r.Differences[i].Follows {
		t.Errorf("%+v", r.Differences)
	}
}

// TestModelVolume: a volume is measured through the root file system, which names its root hash; its own partition
// table is in no register. A UKI boot measures that of disk.raw.
func TestModelVolume(t *testing.T) {
	model := func(text string) string {
		return build(t, func(in *mkimage.Inputs) {
			m := tree.New()
			if err := m.Add(tree.NewFile("weights", 0o644, []byte(text), "test")); err != nil {
				t.Fatal(err)
			}
			in.Models = []mkimage.ModelInput{{Name: "small", Mount: "models/small", Tree: m}}
		})
	}
	a, b := model("one"), model("two")
	r := paths(t, a, b, compare.Options{})
	i := slices.IndexFunc(r.Differences, func(d compare.Difference) bool { return d.Path == "/weights" && d.Field == "content" })
	if i < 0 || r.Differences[i].Where != "models/small.raw, partition data" {
		t.Errorf("the weights are not named:\n%s%+v", causes(r), r.Differences)
	}
	if len(r.Causes) != 1 {
		t.Errorf("one cause, not\n%s", causes(r))
	}
	if !slices.ContainsFunc(r.Differences, func(d compare.Difference) bool {
		return d.Where == "models/small.raw" && d.Field == "GUID" && d.Follows && d.Cause == "GUID made of the volume's name, files and epoch"
	}) {
		t.Errorf("PARTUUIDs of a volume: %+v", r.Differences)
	}
	r = paths(t, filepath.Join(a, "models/small.raw"), filepath.Join(b, "models/small.raw"), compare.Options{})
	if r.Kind != "disk" || r.Equal || len(r.Registers) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestSteps(t *testing.T) {
	made := func(key, sum string) func(in *mkimage.Inputs) {
		return func(in *mkimage.Inputs) {
			in.Steps = []mkimage.Step{{Name: "compile", Key: sha256.Sum256([]byte(key)), Outputs: []mkimage.StepOutput{{Target: "usr/bin/app", Kind: "file", SHA256: sha256.Sum256([]byte(sum))}}}}
		}
	}
	a := build(t, made("k", "1"))
	if r := paths(t, a, build(t, made("k", "2")), compare.Options{}); !hasCause(r, "step compile makes other bytes of the same inputs") {
		t.Errorf("not reproducible:\n%s", causes(r))
	}
	if r := paths(t, a, build(t, made("l", "2")), compare.Options{}); !hasCause(r, "step compile changed") {
		t.Errorf("changed:\n%s", causes(r))
	}
}

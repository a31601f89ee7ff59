package mkimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage/internal/treetest"
	"tally/mkimage/tree"
)

// goldenV1 are the SHA-256 of the fixture image's files in layout v1. When one changes, published images
// can no longer be rebuilt: that is layout v2.
var goldenV1 = map[string]string{
	"disk.qcow2":  "c41b5b9567b624b74b64da0e857049a6ccd662bedddb0319f874002f1204c99c",
	"disk.tar.gz": "7f516f51bc3517f7bbd04c03b5a0f69a2f69e23537b652a17292ef8a43642c6c",
	"cmdline":     "6a7ff8fc1cb827c6a4ae4fab7d60d9f750f2f9d8d6bc845c1d47db4ced11e47c",
	"disk.raw":    "f6e345e818dc3546bb926d400eba72099aebdc6df56665e75e3a5c3072126988",
	"initrd":      "5ba1cccbe7d6e752f98f75a40da632ded8d8cdab8b20ab1e0b7d4f5d30f1d81b",
	"uki.efi":     "3e5ac5e57543e8e8d28343a81694052d0650d806608f5b2931a0ab8c911c544e",
}

// goldenModelsV1 are those of the same image with the models of fixtureModels: section 10 of SPEC.md.
var goldenModelsV1 = map[string]string{
	"disk.raw":           "5910940a725bd490bb4f5526aea001266b1986055b9485c9ee0976f4ed773c30",
	"models/a.model.raw": "e43245905b54f1e58507dcc8ebdf3bf79e2cd38ade1898ceef5299b88260e219",
	"models/b-model.raw": "afad8a1aa9c0c6c1cb48a04105c75b20a2d70ad17d7a2e1eaa6da06b3aa94359",
}

const fixtureRelease = "6.12.0-fixture"

// fixtureInputs are the inputs of the fixture image: every kind of entry, two modules of which one needs
// the other, a stub with .sbat, a kernel without the NX flag.
func fixtureInputs(t testing.TB) Inputs {
	t.Helper()
	root, err := treetest.Fixture(false)
	if err != nil {
		t.Fatal(err)
	}
	odd := tree.NewFile("odd", 0o644, []byte("a file has no device number"), "fixture")
	odd.Major, odd.Minor = 1, 2
	for _, e := range []tree.Entry{odd, {Path: "zz", Kind: tree.HardLink, Link: "odd", Mode: 0o600, UID: 7, MTime: 9, Source: "fixture"}} {
		if err := root.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	kernel := tree.New()
	for name, data := range map[string][]byte{
		"modules.builtin":         nil,
		"kernel/drivers/b-two.ko": treetest.Module("name=b_two", "vermagic="+fixtureRelease+" SMP", "depends=a_one"),
		"kernel/drivers/a_one.ko": treetest.Module("name=a_one", "vermagic="+fixtureRelease+" SMP"),
	} {
		if err := kernel.Add(tree.NewFile("usr/lib/modules/"+fixtureRelease+"/"+name, 0o644, data, "fixture")); err != nil {
			t.Fatal(err)
		}
	}
	const sbat = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
	return Inputs{
		Name: "fixture-of-layout-v1", Version: "0.1.0", Epoch: treetest.Epoch + 3601, Cmdline: "console=ttyS0  quiet",
		Root: root, KernelTree: kernel, Modules: []string{"b-two"}, Init: treetest.Pattern(70001),
		Kernel: treetest.PE(false, [2]string{".text", strings.Repeat("kernel", 1000)}, [2]string{".sbat", sbat + "linux,1,Test,linux,6.12,https://example.org/\n"}),
		Stub:   treetest.PE(true, [2]string{".text", strings.Repeat("\xc3", 5000)}, [2]string{".sbat", sbat + "systemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n"}, [2]string{".reloc", strings.Repeat("\x00", 12)}),
		Spec:   []byte("name: fixture\n"), Lock: []byte("{}\n"), Sources: tree.Bytes("sources"),
		Outputs:  []string{"disk.tar.gz", "disk.qcow2"},
		Firmware: []FirmwareInput{{Name: "ovmf", Vars: "as-is", Data: []byte("firmware")}},
		List:     []Input{{Kind: "file", Name: "a", SHA256: Digest{1}, Size: 3, Verified: "hash"}},
	}
}

func buildFixture(t testing.TB, in Inputs) (string, *Manifest) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	m, err := Build(context.Background(), in, out, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return out, m
}

func TestGolden(t *testing.T) {
	plain, models := fixtureInputs(t), fixtureInputs(t)
	models.Models = fixtureModels(t)
	for _, c := range []struct {
		in     Inputs
		golden map[string]string
	}{{plain, goldenV1}, {models, goldenModelsV1}} {
		_, m := buildFixture(t, c.in)
		for _, name := range slices.Sorted(maps.Keys(c.golden)) {
			if a := m.Artifact(name); a == nil || a.SHA256.String() != c.golden[name] {
				t.Errorf("layout v1 has changed: %s is %v, want %s", name, a, c.golden[name])
			}
		}
	}
}

// TestLayout builds the fixture a second time with testdata/layout.py, which was written from SPEC.md and
// shares nothing with this package: the two must agree in every byte.
func TestLayout(t *testing.T) {
	python := testtool.Need(t, "python3")
	for name, models := range map[string][]ModelInput{"plain": nil, "models": fixtureModels(t)} {
		t.Run(name, func(t *testing.T) {
			in := fixtureInputs(t)
			in.Models = models
			testLayout(t, python, in)
		})
	}
}

func fixtureModels(t *testing.T) []ModelInput {
	return []ModelInput{fixtureModel(t, "b-model", "srv/b", 3<<20), fixtureModel(t, "a.model", "tmp", 5000)}
}

// fixtureModel is a volume of two files.
func fixtureModel(t *testing.T, name, mount string, size int) ModelInput {
	t.Helper()
	m := ModelInput{Name: name, Mount: mount, Tree: tree.New()}
	for _, e := range []tree.Entry{tree.NewFile("weights.bin", 0o444, treetest.Pattern(size), "fixture"), tree.NewFile("etc/model.json", 0o444, []byte("{}"), "fixture")} {
		if err := m.Tree.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func testLayout(t *testing.T, python string, in Inputs) {
	out, _ := buildFixture(t, in)
	dir := t.TempDir()
	dump(t, in, dir)
	if msg, err := exec.Command(python, "testdata/layout.py", dir).CombinedOutput(); err != nil {
		t.Fatalf("layout.py: %v\n%s", err, msg)
	}
	names := []string{"initrd", "cmdline", "uki.efi", "disk.raw"}
	for _, m := range in.Models {
		names = append(names, "models/"+m.Name+".raw")
	}
	for _, name := range names {
		ours, err := os.ReadFile(filepath.Join(out, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(filepath.Join(dir, filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, theirs) {
			at := 0
			for at < min(len(ours), len(theirs)) && ours[at] == theirs[at] {
				at++
			}
			t.Errorf("%s: %d bytes, layout.py has %d; they differ from byte %d (%#x) on", name, len(ours), len(theirs), at, at)
		}
	}
}

func hexed(b []byte) string { return hex.EncodeToString(b) }

// dumpTree is a tree in the form layout.py reads. Texts that may hold any byte are in hexadecimal.
func dumpTree(tr *tree.Tree) any {
	type entry struct {
		Path   string            `json:"path"`
		Kind   tree.Kind         `json:"kind"`
		Mode   uint32            `json:"mode"`
		UID    uint32            `json:"uid"`
		GID    uint32            `json:"gid"`
		MTime  int64             `json:"mtime"`
		Link   string            `json:"link"`
		Major  uint32            `json:"major"`
		Minor  uint32            `json:"minor"`
		Xattrs map[string]string `json:"xattrs"`
		Data   string            `json:"data"`
	}
	var entries []entry
	for _, e := range tr.Entries() {
		if e.Path == "" {
			continue
		}
		d := entry{hexed([]byte(e.Path)), e.Kind, e.Mode, e.UID, e.GID, e.MTime, hexed([]byte(e.Link)), e.Major, e.Minor, map[string]string{}, ""}
		for name, value := range e.Xattrs {
			d.Xattrs[name] = hexed(value)
		}
		if data, ok := e.Data.(tree.Bytes); ok {
			d.Data = hexed(data)
		}
		entries = append(entries, d)
	}
	return entries
}

// dump writes what layout.py reads.
func dump(t *testing.T, in Inputs, dir string) {
	t.Helper()
	models := []any{}
	for _, m := range in.Models {
		models = append(models, map[string]any{"name": m.Name, "mount": m.Mount, "entries": dumpTree(m.Tree)})
	}
	module := func(name string) map[string]string {
		e := in.KernelTree.Get("usr/lib/modules/" + fixtureRelease + "/kernel/drivers/" + name)
		return map[string]string{"path": "lib/modules/" + name, "data": hexed(e.Data.(tree.Bytes))}
	}
	inputs, err := json.Marshal(map[string]any{
		"name": in.Name, "version": in.Version, "epoch": in.Epoch, "cmdline": in.Cmdline, "release": fixtureRelease,
		"modules": []any{module("a_one.ko"), module("b-two.ko")}, "entries": dumpTree(in.Root), "models": models,
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"inputs.json": inputs, "stub": in.Stub, "kernel": in.Kernel, "init": in.Init} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func sum(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }

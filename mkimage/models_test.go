package mkimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage/internal/treetest"
	"tally/mkimage/tree"
)

// withModel adds a model volume to the fixture.
func withModel(t testing.TB) Inputs {
	t.Helper()
	in := fixtureInputs(t)
	files := tree.New()
	for name, data := range map[string][]byte{"weights.gguf": treetest.Pattern(5<<20 + 17), "tokenizer/config.json": []byte("{}\n")} {
		if err := files.Add(tree.NewFile(name, 0o644, data, "model")); err != nil {
			t.Fatal(err)
		}
	}
	in.Models = []ModelInput{{Name: "tiny", Mount: "srv/models/tiny", Tree: files}}
	return in
}

// TestModelVolume reads a volume with the tools of the field: the partition table with sgdisk, the hash tree with
// veritysetup, the file system with fsck.erofs, which also unpacks it.
func TestModelVolume(t *testing.T) {
	sgdisk, veritysetup, fsck := testtool.Need(t, "sgdisk"), testtool.Need(t, "veritysetup"), testtool.Need(t, "fsck.erofs")
	out, m := buildFixture(t, withModel(t))
	if len(m.Models) != 1 {
		t.Fatalf("models of the manifest: %+v", m.Models)
	}
	model, volume := m.Models[0], filepath.Join(out, "models", "tiny.raw")
	root := model.Verity.RootHash.String()
	disk, err := os.ReadFile(volume)
	if err != nil {
		t.Fatal(err)
	}
	ids := partitionsOf(t, out, "tiny")
	var parts []string
	for i, id := range ids {
		text := runTool(t, sgdisk, "-i", fmt.Sprint(i+1), volume)
		if guid := strings.ToLower(submatch(t, text, `Partition unique GUID: (\S+)`)); guid != id || guid[14] != '8' {
			t.Errorf("partition %d: PARTUUID %s, read here as %s; want a UUID of version 8", i+1, guid, id)
		}
		first, last := sector(t, text, `First sector: (\d+)`), sector(t, text, `Last sector: (\d+)`)
		parts = append(parts, filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err := os.WriteFile(parts[i], disk[first*512:(last+1)*512], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if text := runTool(t, sgdisk, "-v", volume); !strings.Contains(text, "No problems found") {
		t.Errorf("sgdisk: %s", text)
	}
	runTool(t, veritysetup, "verify", parts[0], parts[1], root)
	dir := filepath.Join(t.TempDir(), "x")
	runTool(t, fsck, "--extract="+dir, parts[0])
	got, err := os.ReadFile(filepath.Join(dir, "weights.gguf"))
	if err != nil || !bytes.Equal(got, treetest.Pattern(5<<20+17)) {
		t.Errorf("weights differ: %v", err)
	}
	if a := m.Artifact("models/tiny.raw"); a == nil || a.Role != "model" || a.SHA256 != sha256.Sum256(disk) {
		t.Errorf("artifact: %+v", a)
	}
}

// TestModelRootIsMeasured: the root hash of the model stands in the root, so another model is another image.
func TestModelRootIsMeasured(t *testing.T) {
	fsck := testtool.Need(t, "fsck.erofs")
	out, m := buildFixture(t, withModel(t))
	_, again := buildFixture(t, withModel(t))
	if a, b := mustMarshal(t, m), mustMarshal(t, again); !bytes.Equal(a, b) {
		t.Error("two builds differ")
	}
	changed := withModel(t)
	if err := changed.Models[0].Tree.Replace(tree.NewFile("tokenizer/config.json", 0o644, []byte("[]\n"), "model")); err != nil {
		t.Fatal(err)
	}
	_, other := buildFixture(t, changed)
	if m.Verity.RootHash == other.Verity.RootHash || m.Models[0].Verity.RootHash == other.Models[0].Verity.RootHash {
		t.Error("another model has the same root hash")
	}
	_, plain := buildFixture(t, fixtureInputs(t))
	if plain.Models != nil || plain.Verity.RootHash == m.Verity.RootHash {
		t.Error("an image without models has models")
	}
	dir := unpackRoot(t, fsck, out, m)
	text, err := os.ReadFile(filepath.Join(dir, ModelsFile))
	v, ids := m.Models[0].Verity, partitionsOf(t, out, "tiny")
	want := fmt.Sprintf("tally.models/v1\ntiny srv/models/tiny roothash=%s tally.verity=1,sha256,4096,4096,%d,1,%s tally.partitions=%s,%s\n", v.RootHash, v.DataBlocks, v.Salt, ids[0], ids[1])
	if err != nil || string(text) != want {
		t.Errorf("%s is %q, want %q; %v", ModelsFile, text, want, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "srv/models/tiny")); err != nil {
		t.Error(err)
	}
	if _, err := hex.DecodeString(v.Salt); err != nil || v.Salt == m.Verity.Salt {
		t.Errorf("salt %q", v.Salt)
	}
}

// partitionsOf reads the PARTUUIDs of the partition table of a volume (UEFI 2.10, 5.3.3), as tools print them.
func partitionsOf(t *testing.T, out, name string) (ids [2]string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, "models", name+".raw"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		g := data[1024+128*i+16:]
		ids[i] = fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g), binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:16])
	}
	return ids
}

// unpackRoot unpacks the root file system of disk.raw with fsck.erofs.
func unpackRoot(t *testing.T, fsck, out string, m *Manifest) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("\xe2\xe1\xf5\xe0")) // the superblock's magic, at 1024
	for ; at >= 0 && at%(1<<20) != 1024; at = at + 1 + bytes.Index(data[at+1:], []byte("\xe2\xe1\xf5\xe0")) {
	}
	root, dir := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(root, data[at-1024:at-1024+int(m.Verity.DataBlocks)*4096], 0o600); err != nil {
		t.Fatal(err)
	}
	runTool(t, fsck, "--extract="+dir, "--no-preserve", root)
	return dir
}

func TestModelRefusals(t *testing.T) {
	file := tree.NewFile("x", 0o644, []byte("x"), "test")
	at := func(path string, e tree.Entry) tree.Entry { e.Path = path; return e }
	for _, c := range []struct {
		want   string
		change func(*Inputs)
	}{
		{"want a plain name, once", func(in *Inputs) { in.Models[0].Name = "../x" }},
		{"want a plain name, once", func(in *Inputs) { in.Models = append(in.Models, in.Models[0]) }},
		{`mount point "a b": want a directory`, func(in *Inputs) { in.Models[0].Mount = "a b" }},
		{`element ".."`, func(in *Inputs) { in.Models[0].Mount = "../a" }},
		{"another model is there", func(in *Inputs) {
			in.Models = append(in.Models, ModelInput{Name: "b", Mount: "srv/models", Tree: in.Models[0].Tree})
		}},
		{"no files", func(in *Inputs) { in.Models[0].Tree = nil }},
		{`test already put "srv/models/tiny/a" there`, func(in *Inputs) { must(in.Root.Add(at("srv/models/tiny/a", file))) }},
		{`test already put "srv/models/tiny" there`, func(in *Inputs) { must(in.Root.Add(at("srv/models/tiny", file))) }},
		{`path "etc/tally/models" from test: this file is the build's to write`, func(in *Inputs) { must(in.Root.Add(at(ModelsFile, file))) }},
		{`path "etc/tally/models" from test: this file is the build's to write`, func(in *Inputs) { in.Models = nil; must(in.Root.Add(at(ModelsFile, file))) }},
	} {
		in := withModel(t)
		c.change(&in)
		out := filepath.Join(t.TempDir(), "out")
		_, err := Build(context.Background(), in, out, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
		if _, err := os.Stat(out); !os.IsNotExist(err) {
			t.Errorf("%s: output is there: %v", c.want, err)
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func mustMarshal(t *testing.T, m *Manifest) []byte {
	t.Helper()
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func runTool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, out)
	}
	return string(out)
}

func submatch(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %q in %s", pattern, text)
	}
	return m[1]
}

func sector(t *testing.T, text, pattern string) int {
	t.Helper()
	n, err := strconv.Atoi(submatch(t, text, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestConfigInManifest: the manifest names the digest of the configuration in the root.
func TestConfigInManifest(t *testing.T) {
	in := fixtureInputs(t)
	e := tree.NewFile("etc/tally/enclave.json", 0o644, []byte("{}"), "test")
	must(in.Root.Add(e))
	in.Config = e.Path
	for _, wires := range [][]string{nil, {"confer"}} {
		in.Wires = wires
		if _, m := buildFixture(t, in); m.Config == nil || !reflect.DeepEqual(*m.Config, Config{e.Path, e.Digest, wires}) {
			t.Errorf("config %+v", m.Config)
		}
	}
	in.Config = "etc"
	_, err := Build(context.Background(), in, filepath.Join(t.TempDir(), "out"), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err == nil || !strings.Contains(err.Error(), `config "etc": is no file of the root`) {
		t.Errorf("a directory: %v", err)
	}
}

package source

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/mkimage/steps"
)

// TestMain is the tests, the init of a build step, and the command of one.
func TestMain(m *testing.M) {
	steps.Main(os.Args)
	if filepath.Base(os.Args[0]) == "helper" {
		if err := helper(os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// helper makes build/out from what it finds.
func helper(what string) error {
	fmt.Println("making", what)
	switch what {
	case "random":
		b := make([]byte, 16)
		rand.Read(b)
		return os.WriteFile("/build/out", b, 0o644)
	case "fail":
		return fmt.Errorf("it does not work")
	}
	var b bytes.Buffer
	for _, file := range []string{"/build/data", "/build/etc/conf", "/build/bin/a"} {
		data, err := os.ReadFile(file)
		fi, serr := os.Stat(file)
		if err != nil || serr != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %s %d\n", file, fi.Mode(), data, fi.ModTime().Unix())
	}
	if err := os.WriteFile("/build/x.ko", []byte("module"), 0o600); err != nil {
		return err
	}
	return os.WriteFile("/build/out", b.Bytes(), 0o755)
}

const stepSpec = `steps:
  - name: make
    root: {suites: [trixie], packages: [tools]}
    inputs: [{file: {path: data.xz, decompress: xz, target: build/data}}, {dir: {path: ../shared/rootfs, target: build}}, {tar: {path: more.tar, target: build}}]
    command: [helper, inputs]
    outputs: [{path: build/out, target: usr/bin/made, uid: 5, gid: 6}, {path: build/x.ko, module: true}]
    timeout: 60
    disk: 256
`

// stepProject is the project of the other tests with the steps in text.
func stepProject(text string) project {
	p := newProject()
	// Without Go programs, which other tests build.
	p["images/one/image.yaml"] = strings.NewReplacer("  - go: {module: ../.., package: ./cmd/app, target: sbin/init}\n", "", "init: {go: {module: ../.., package: ./cmd/init}}", "init: {file: {path: fw.fd}}").Replace(projectSpec) + text
	// No "bin" for both the directory and the archive.
	p["images/one/more.tar"] = string(makeTar(tarFile("./", "", tar.TypeDir), tarItem{tar.Header{Name: "./bin", Typeflag: tar.TypeDir, Mode: 0o755}, ""}, tarFile("./bin/a", "A", tar.TypeReg)))
	return p
}

// A stepRun is one assembly with steps.
type stepRun struct {
	store *lock.Store
	opts  StepOptions
	said  []string
}

func newStepRun(t *testing.T) *stepRun { return &stepRun{store: lock.NewStore(t.TempDir())} }

// assemble assembles a project; the root of each step is a package with this program.
func (r *stepRun) assemble(t *testing.T, p project) (mkimage.Inputs, error) {
	t.Helper()
	l := open(t, p.write(t))
	l.Steps = r.opts
	l.Steps.Log = func(step, line string) { r.said = append(r.said, step+": "+line) }
	k, _ := pin(t, l, r.store)
	o, err := r.store.Put(makeDebWithScript("tools", "postinst", tarFile("./usr/bin/helper", string(program(t)), tar.TypeReg)))
	if err != nil {
		t.Fatal(err)
	}
	k.Packages = append(k.Packages, lock.Package{Name: "tools", Version: "1", Arch: "amd64", Suite: "trixie", Path: "pool/tools.deb", Object: o, For: []string{"step.make"}})
	raw, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return l.Assemble(context.Background(), k, raw, r.store, t.TempDir(), 2)
}

// program is this test's own file, which must run in a root that has no library.
func program(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		testtool.Missing(t, "the test program is not static (CGO_ENABLED=0)")
	}
	if err := steps.Probe(context.Background(), t.TempDir()); err != nil {
		testtool.Missing(t, err.Error())
	}
	return data
}

func TestSteps(t *testing.T) {
	r := newStepRun(t)
	in, err := r.assemble(t, stepProject(stepSpec))
	if err != nil {
		t.Fatal(err)
	}
	e := in.Root.Get("usr/bin/made")
	if e == nil {
		t.Fatal("the output is not in the root")
	}
	data, err := contents(context.Background(), e)
	const want = "/build/data -rw-r--r-- hello 1767225600\n/build/etc/conf -rw-r--r-- conf 1767225600\n/build/bin/a -rwxr-x--- A 0\n"
	if err != nil || string(data) != want {
		t.Errorf("%v, %q, want %q", err, data, want)
	}
	if e.Mode != 0o755 || e.UID != 5 || e.GID != 6 || e.MTime != in.Epoch || e.Source != "step make" {
		t.Errorf("output %+v", e)
	}
	if d := cmp.Diff([]string{"make: making inputs"}, r.said); d != "" {
		t.Error(d)
	}
	if !slices.Contains(in.Omitted, "step make: package tools: postinst") {
		t.Errorf("left out %q", in.Omitted)
	}
	if k := in.KernelTree.Get("usr/lib/modules/1/updates/x.ko"); k == nil || k.Mode != 0o644 || k.Source != "step make" || in.Root.Get("module/x.ko") != nil {
		t.Errorf("module %+v", k)
	}
	if len(in.Steps) != 1 || in.Steps[0].Name != "make" || len(in.Steps[0].Outputs) != 2 || in.Steps[0].Outputs[1].Target != "updates/x.ko" || in.Steps[0].Outputs[1].Kind != "module" || in.Steps[0].Outputs[0] != (mkimage.StepOutput{Target: "usr/bin/made", Kind: "file", SHA256: e.Digest, Size: e.Size}) || in.Steps[0].Root == (mkimage.Digest{}) {
		t.Errorf("steps %+v", in.Steps)
	}
	// Again: from the store; varied and afresh: the same.
	r.said = nil
	again, err := r.assemble(t, stepProject(stepSpec))
	if err != nil || r.said != nil || again.Root.Digest(in.Epoch) != in.Root.Digest(in.Epoch) {
		t.Errorf("%v, said %q", err, r.said)
	}
	r.opts = StepOptions{Fresh: true, Vary: true}
	fresh, err := r.assemble(t, stepProject(stepSpec))
	if err != nil || r.said == nil || cmp.Diff(fresh.Steps, in.Steps) != "" {
		t.Errorf("%v, said %q, steps %+v", err, r.said, fresh.Steps)
	}
}

// TestStepsDiffer runs a step that is not reproducible twice: the difference is named.
func TestStepsDiffer(t *testing.T) {
	r := newStepRun(t)
	r.opts.Fresh = true
	var found [2]mkimage.Manifest
	for i := range found {
		in, err := r.assemble(t, stepProject(strings.NewReplacer("helper, inputs", "helper, random", ", {path: build/x.ko, module: true}", "").Replace(stepSpec)))
		if err != nil {
			t.Fatal(err)
		}
		found[i].Steps = in.Steps
	}
	if d := cmp.Diff([]string{"step make: usr/bin/made"}, mkimage.DiffSteps(&found[0], &found[1])); d != "" {
		t.Error(d)
	}
	if d := mkimage.DiffSteps(&found[0], &found[0]); d != nil {
		t.Errorf("a build differs from itself: %q", d)
	}
}

func TestStepErrors(t *testing.T) {
	r := newStepRun(t)
	for _, c := range []struct{ old, new, want string }{
		{"[helper, inputs]", "[helper, fail]", `step make: command "helper" ended with exit status 1; its last words: making fail | it does not work`},
		{"name: make", "name: other", `step other: the lock has no packages for it`},
		{"target: build/data", "target: usr/bin/helper", `step make: input 0: path "usr/bin/helper": file`},
		{"target: usr/bin/made", "target: etc/data", `step make: path "etc/data": file`},
	} {
		_, err := r.assemble(t, stepProject(strings.Replace(stepSpec, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
}

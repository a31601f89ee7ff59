package gosrc

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// toolchain is the release of go.mod.
const toolchain = "go1.26.8"

func open(t *testing.T, environ []string) *Command {
	t.Helper()
	c, err := Open(context.Background(), Options{Toolchain: toolchain, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// writeModule writes files ("name" to text) below a new directory called base.
func writeModule(t *testing.T, base string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), base)
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var program = map[string]string{
	"go.mod":               "module example.org/guest\n\ngo 1.26.0\n",
	"go.sum":               "",
	"cmd/x/main.go":        "package main\n\nimport (\n\t_ \"embed\"\n\t\"fmt\"\n\n\t\"example.org/guest/lib\"\n)\n\n//go:embed text.txt\nvar text string\n\nfunc main() { fmt.Println(text, lib.Name()) }\n",
	"cmd/x/text.txt":       "embedded",
	"cmd/x/other_linux.go": "package main\n",
	"cmd/x/x_windows.go":   "package main\n",
	"cmd/x/main_test.go":   "package main\n",
	"cmd/x/default.pgo":    "not a profile: using it would fail the build",
	"lib/lib.go":           "package lib\n\nimport \"runtime\"\n\n// Name is that of this file.\nfunc Name() string {\n\t_, file, _, _ := runtime.Caller(0)\n\treturn file\n}\n",
	"unused/unused.go":     "package unused\n",
}

// TestBuildIsReproducible builds under everything that must not matter: directory, umask, time zone, locale,
// user, processor count, build cache, and the caller's own settings of the go command.
func TestBuildIsReproducible(t *testing.T) {
	ctx := context.Background()
	build := func(base string, environ []string) []byte {
		dir := writeModule(t, base, program)
		out := filepath.Join(t.TempDir(), "x")
		if err := open(t, environ).Build(ctx, dir, "./cmd/x", out); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	plain := build("a", os.Environ())
	mask := syscall.Umask(0o077)
	procs := runtime.GOMAXPROCS(1)
	poisoned := append(os.Environ(), "TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "USER=nobody", "GOMAXPROCS=1", "GOCACHE="+t.TempDir(), "SOURCE_DATE_EPOCH=1",
		"GOFLAGS=-tags=other -race", "GOAMD64=v4", "GOEXPERIMENT=arenas", "CGO_ENABLED=1", "GOOS=windows", "GOARCH=arm64", "GODEBUG=gotypesalias=0", "GOTOOLCHAIN=local",
		"GOWORK=/nonexistent", "GOROOT=/nonexistent", "GOFIPS140=latest", "GOENV=/nonexistent")
	changed := build("a longer name with spaces", poisoned)
	syscall.Umask(mask)
	runtime.GOMAXPROCS(procs)
	if sha256.Sum256(plain) != sha256.Sum256(changed) {
		t.Error("the two programs differ")
	}
	checkProgram(t, plain)
}

// TestExperiment: an experiment is asked for by the spec alone, and the program says so.
func TestExperiment(t *testing.T) {
	source := "package main\n\nimport \"runtime/secret\"\n\nfunc main() { secret.Do(func() {}) }\n"
	dir, out := writeModule(t, "m", map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "cmd/x/main.go": source}), filepath.Join(t.TempDir(), "x")
	plain := open(t, append(os.Environ(), "GOEXPERIMENT=runtimesecret"))
	if err := plain.Build(t.Context(), dir, "./cmd/x", out); err == nil {
		t.Error("the caller's environment asked for an experiment")
	}
	c := plain.With([]string{"runtimesecret"})
	if err := c.Build(t.Context(), dir, "./cmd/x", out); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "GOEXPERIMENT" }); i < 0 || info.Settings[i].Value != "runtimesecret" {
		t.Errorf("settings %+v", info.Settings)
	}
	s, err := c.List(t.Context(), dir, "./cmd/x")
	if err != nil || !slices.Contains(s.Standard, "src/runtime/secret/secret.go") {
		t.Errorf("the experiment's sources are not listed: %v", err)
	}
}

// checkProgram looks into a program for what must not be there.
func checkProgram(t *testing.T, data []byte) {
	t.Helper()
	for _, leak := range []string{t.TempDir(), os.TempDir() + "/", runtime.GOROOT() + "/src"} {
		if strings.Contains(string(data), leak) {
			t.Errorf("the program names %s", leak)
		}
	}
	info, err := buildinfo.Read(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{"go": info.GoVersion}
	for _, s := range info.Settings {
		got[s.Key] = s.Value
	}
	want := map[string]string{"go": toolchain, "-buildmode": "exe", "-compiler": "gc", "-trimpath": "true", "CGO_ENABLED": "0", "GOARCH": "amd64", "GOOS": "linux", "GOAMD64": "v1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestList(t *testing.T) {
	c := open(t, os.Environ())
	s, err := c.List(context.Background(), writeModule(t, "m", program), "./cmd/x")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"cmd/x/main.go", "cmd/x/other_linux.go", "cmd/x/text.txt", "go.mod", "go.sum", "lib/lib.go"}
	if d := cmp.Diff(want, s.Files); d != "" {
		t.Error(d)
	}
	if len(s.Modules) != 0 {
		t.Errorf("modules %v: want none", s.Modules)
	}
	std := strings.Join(s.Standard, "\n")
	if !strings.Contains(std, "src/runtime/proc.go") || strings.Contains(std, "_test.go") || strings.Contains(std, "net/http") || len(s.Standard) < 300 {
		t.Errorf("standard library: %d files", len(s.Standard))
	}
}

func TestListModules(t *testing.T) {
	c := open(t, os.Environ())
	s, err := c.List(context.Background(), "../..", "./mkimage/gosrc")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Modules) != 2 || s.Modules[0].Path != "golang.org/x/mod" || s.Modules[0].Dir == "" || s.Modules[1].Path != "golang.org/x/sys" {
		t.Fatalf("modules %v: want golang.org/x/mod and golang.org/x/sys", s.Modules)
	}
	m := s.Modules[0]
	data, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "\n"+m.Path+" "+m.Version+" ")
	sum, _, _ := strings.Cut(rest, "\n")
	if err := CheckModule(m, sum); err != nil {
		t.Error(err)
	}
	if err := CheckModule(m, "h1:"+strings.Repeat("A", 43)+"="); err == nil || !strings.Contains(err.Error(), "go clean -modcache") {
		t.Errorf("wrong sum: %v", err)
	}
	if err := CheckModule(Module{Path: "x", Version: "v1"}, sum); err == nil {
		t.Error("absent module: no error")
	}
}

func TestListRefusals(t *testing.T) {
	c := open(t, os.Environ())
	for _, change := range []struct {
		name, file, text, want string
	}{
		{"replaced module", "go.mod", "module example.org/guest\n\ngo 1.26.0\n\nrequire example.org/y v1.0.0\n\nreplace example.org/y => ./y\n", "module example.org/y is replaced"},
		{"syntax", "cmd/x/main.go", "package main\n\nimport \"fmt\n", "go list: "},
		{"missing module", "cmd/x/main.go", "package main\n\nimport _ \"example.org/nowhere/at/all\"\n", "cannot find module providing package example.org/nowhere/at/all"},
		{"toolchain too old", "go.mod", "module example.org/guest\n\ngo 1.99.0\n", "go.mod requires go >= 1.99.0"},
	} {
		t.Run(change.name, func(t *testing.T) {
			files := map[string]string{"y/go.mod": "module example.org/y\n", "y/y.go": "package y\n"}
			for k, v := range program {
				files[k] = v
			}
			files[change.file] = change.text
			if change.name == "replaced module" {
				files["cmd/x/main.go"] = "package main\n\nimport _ \"example.org/y\"\n\nfunc main() {}\n"
			}
			_, err := c.List(context.Background(), writeModule(t, "m", files), "./cmd/x")
			if err == nil || !strings.Contains(err.Error(), change.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, change.want)
			}
		})
	}
}

func TestOpenRefusals(t *testing.T) {
	ctx := context.Background()
	for _, bad := range []string{"", "local", "go1.26", "auto", "go1.26.8+path", "1.26.8", "go1.26.8 "} {
		if _, err := Open(ctx, Options{Toolchain: bad, Environ: os.Environ()}); err == nil || !strings.Contains(err.Error(), "want an exact release") {
			t.Errorf("toolchain %q: %v", bad, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Open(ctx, Options{Toolchain: toolchain, Environ: os.Environ()}); err == nil || !strings.Contains(err.Error(), "install Go 1.21 or later") {
		t.Errorf("no go command: %v", err)
	}
}

func TestInterrupted(t *testing.T) {
	c := open(t, os.Environ())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out := filepath.Join(t.TempDir(), "x")
	if err := c.Build(ctx, writeModule(t, "m", program), "./cmd/x", out); err != context.Canceled {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an interrupted build left a program")
	}
}

// TestSum: the hash of the files that are installed here is that of module golang.org/toolchain
// v0.0.1-go1.26.8.linux-amd64 in the Go checksum database, as `go mod download -json` prints it: no code of
// ours.
func TestSum(t *testing.T) {
	const want = "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM="
	c := open(t, os.Environ())
	if c.Platform != "linux-amd64" {
		t.Skipf("SKIPPED: the vector is for linux-amd64, this is %s", c.Platform)
	}
	ctx := context.Background()
	got, err := c.Sum(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("sum %s, want %s: the installed Go is not the release", got, want)
	}
	if err := c.Verify(ctx, want); err != nil {
		t.Error(err)
	}
}

// TestVerify: a changed toolchain is noticed, and offline there is no other.
func TestVerify(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"VERSION": toolchain, "bin/go": "x", "pkg/tool/linux_amd64/compile": "y", "src/go.mod": "module std\n", "go.env": "\nGOTOOLCHAIN=local\n"} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sum := func() string {
		c := &Command{Options: Options{Toolchain: toolchain}, Root: root, Platform: "linux-amd64"}
		s, err := c.Sum(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := sum()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(root, filepath.FromSlash(name)), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("go.env", "\nGOTOOLCHAIN=auto\n")
	write("pkg/tool/linux_amd64/pprof", "built when first used")
	write("src/_go.mod", "module std\n")
	if sum() != first {
		t.Error("what distributions change moves the sum")
	}
	write("pkg/tool/linux_amd64/compile", "z")
	if sum() == first {
		t.Error("another compiler has the same sum")
	}
	c := &Command{Options: Options{Toolchain: toolchain, Environ: []string{"HOME=" + root, "GOMODCACHE=" + root}, Offline: true}, Root: root, Platform: "linux-amd64", tool: filepath.Join(root, "bin/none")}
	if err := c.Verify(context.Background(), first); err == nil || !strings.Contains(err.Error(), "the lock wants "+first) {
		t.Errorf("changed toolchain: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	c := open(t, append(os.Environ(), "SECRET=x", "GOFLAGS=-x", "LD_PRELOAD=/x", "GOPROXY=http://proxy.example"))
	env := c.environ()
	for _, name := range []string{"SECRET", "LD_PRELOAD"} {
		if lookup(env, name) != "" {
			t.Errorf("%s got through", name)
		}
	}
	if lookup(env, "GOPROXY") != "http://proxy.example" || lookup(env, "GOTOOLCHAIN") != "local" || lookup(env, "GOFLAGS") != "" || lookup(env, "GOENV") != "off" {
		t.Errorf("environment %q", env)
	}
	c.Proxy = t.TempDir()
	if got, want := lookup(c.environ(), "GOPROXY"), "file://"+c.Proxy+",http://proxy.example"; got != want {
		t.Errorf("GOPROXY %q, want %q", got, want)
	}
	c.Offline = true
	if got := lookup(c.environ(), "GOPROXY"); got != "file://"+c.Proxy {
		t.Errorf("offline: GOPROXY %q", got)
	}
}

// TestInterruptedLeavesNothing: the go command, told to stop, may leave what it made.
func TestInterruptedLeavesNothing(t *testing.T) {
	for _, name := range []string{"TMPDIR", "GOTMPDIR"} {
		t.Run(name, func(t *testing.T) {
			dir, tmp := t.TempDir(), t.TempDir()
			tool := filepath.Join(dir, "go")
			if err := os.WriteFile(tool, []byte("#!/bin/sh\nmkdir -p \"$GOTMPDIR/go-build1/b001\" && touch started && exec sleep 60\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() {
				for ctx.Err() == nil {
					if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
						cancel()
					}
					time.Sleep(time.Millisecond)
				}
			}()
			c := &Command{tool: tool, Options: Options{Environ: []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=/nowhere", name + "=" + tmp}}}
			if _, err := c.run(ctx, dir, "build"); !errors.Is(err, context.Canceled) {
				t.Fatalf("%v, want an interruption", err)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

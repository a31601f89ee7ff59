// Package gosrc builds the guest's programs with the pinned go command, the one external program of a
// build, and says which source files such a build reads.
//
// What decides about the bytes of a program is fixed here or pinned by the lock: the release of the
// toolchain, by the hash of its module (golang.org/toolchain); the environment, of which only names of places
// get through; the flags; every source file, by list. Two builds on two machines then give the same bytes:
// the Go toolchain itself is reproducible (https://go.dev/blog/rebuild).
package gosrc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"tally/internal/pattern"
	"tally/internal/scratch"
)

// Options say which go command is used and where it finds modules.
type Options struct {
	Toolchain string   // exact release, e.g. "go1.26.8"
	Environ   []string // of the caller; only the variables named in passed get through
	Proxy     string   // directory in the layout of a module proxy, asked first; "" for none
	Offline   bool     // ask nobody but Proxy and the module cache
}

// A Command is the pinned go command. Open returns one.
type Command struct {
	Options
	Root string // GOROOT of the pinned release

	experiments []string
	Platform    string // of this machine, e.g. "linux-amd64"
	tool        string // path of its go command
	sum         string // see Sum
}

// passed are the caller's variables that say where things are, not what is built.
var passed = []string{"PATH", "HOME", "TMPDIR", "GOTMPDIR", "GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOAUTH", "GOVCS",
	"GOMODCACHE", "GOCACHE", "GOPATH", "GOMAXPROCS", "NETRC", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}

// network are the settings of `go env -w` that say where modules come from; they are read before GOENV=off
// hides them.
var network = []string{"GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOMODCACHE", "GOCACHE"}

// fixed are the variables that decide about bytes.
var fixed = []string{"GOENV=off", "GOFLAGS=", "GOWORK=off", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GODEBUG=", "GOFIPS140=off",
	"CGO_ENABLED=0", "GO111MODULE=on", "GOTELEMETRY=off", "LC_ALL=C", "TZ=UTC"}

var releaseForm = pattern.New(`^go1\.[0-9]+(\.[0-9]+|rc[0-9]+)$`)

// Open finds the pinned go command: the one in PATH when it is that release, else the one that the go
// command in PATH fetches through the module proxy and verifies. It needs Go 1.21 or later in PATH.
func Open(ctx context.Context, o Options) (*Command, error) {
	if !releaseForm.MatchString(o.Toolchain) {
		return nil, fmt.Errorf("go toolchain %.40q: want an exact release like go1.26.8", o.Toolchain)
	}
	if o.Proxy != "" {
		abs, err := filepath.Abs(o.Proxy)
		if err != nil {
			return nil, err
		}
		o.Proxy = abs
	}
	c := &Command{Options: o, tool: "go"}
	if err := c.settings(ctx); err != nil {
		return nil, err
	}
	out, err := c.run(ctx, "", "env", "GOVERSION", "GOROOT", "GOHOSTOS", "GOHOSTARCH")
	if err != nil {
		return nil, fmt.Errorf("getting toolchain %s: %w", o.Toolchain, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 4 {
		return nil, fmt.Errorf("go env: %d lines, want 4", len(lines))
	}
	if got, _, _ := strings.Cut(lines[0], " "); got != o.Toolchain {
		return nil, fmt.Errorf("the go command is %.60q, want %s: is Go older than 1.21?", lines[0], o.Toolchain)
	}
	c.Root, c.Platform = lines[1], lines[2]+"-"+lines[3]
	c.tool = filepath.Join(c.Root, "bin", "go")
	return c, nil
}

// With returns c with experiments of the toolchain (GOEXPERIMENT) for what it lists and builds: they are as much
// a part of the program as its sources.
func (c *Command) With(experiments []string) *Command {
	changed := *c
	changed.experiments = experiments
	return &changed
}

// settings reads what the user set with `go env -w`, so that a company's proxy is used although GOENV is
// off in every build.
func (c *Command) settings(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env"}, network...)...)
	cmd.Env = append(filter(c.Environ, append(slices.Clone(passed), "GOENV")), "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off")
	cmd.Dir = os.TempDir()
	out, err := output(ctx, cmd)
	if err != nil {
		return err
	}
	values := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(values) != len(network) {
		return fmt.Errorf("go env: %d lines, want %d", len(values), len(network))
	}
	env := filter(c.Environ, passed)
	for i, name := range network {
		env = append(env, name+"="+values[i])
	}
	c.Environ = env
	return nil
}

// environ is the whole environment of the go command.
func (c *Command) environ() []string {
	env := append(slices.Clone(c.Environ), fixed...)
	env = append(env, "GOEXPERIMENT="+strings.Join(c.experiments, ","))
	toolchain := c.Toolchain
	if c.Root != "" {
		toolchain = "local" // c.tool is the pinned one itself
		env = append(env, "GOROOT="+c.Root)
	}
	env = append(env, "GOTOOLCHAIN="+toolchain)
	_, err := os.Stat(c.Proxy)
	own := c.Proxy != "" && err == nil
	switch {
	case c.Offline:
		// The sums of modules stand in go.sum; that of the toolchain is checked against the lock
		// (Verify). Asking a checksum database is neither possible nor needed: the go command
		// accepts that for a lone file proxy.
		env = append(env, "GOSUMDB=off", "GOPROXY="+c.offlineProxy(own))
	case own:
		env = append(env, "GOPROXY="+fileURL(c.Proxy)+","+lookup(env, "GOPROXY"))
	}
	return env
}

// offlineProxy returns the directory that serves what is asked for: the imported modules, or for a
// toolchain that was not imported the module cache.
func (c *Command) offlineProxy(own bool) string {
	zip := filepath.Join("golang.org", "toolchain", "@v", ToolchainVersion(c.Toolchain, runtime.GOOS+"-"+runtime.GOARCH)+".zip")
	cache := filepath.Join(lookup(c.Environ, "GOMODCACHE"), "cache", "download")
	if _, err := os.Stat(filepath.Join(c.Proxy, zip)); own && err == nil {
		return fileURL(c.Proxy)
	}
	if _, err := os.Stat(filepath.Join(cache, zip)); !own && err == nil {
		return fileURL(cache)
	}
	if own {
		return fileURL(c.Proxy)
	}
	return "off"
}

func fileURL(dir string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
}

// filter keeps the variables of env named in names.
func filter(env, names []string) []string {
	var kept []string
	for _, kv := range env {
		if name, _, ok := strings.Cut(kv, "="); ok && slices.Contains(names, name) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// lookup returns the last value of a variable, as os/exec does.
func lookup(env []string, name string) string {
	value := ""
	for _, kv := range env {
		if n, v, ok := strings.Cut(kv, "="); ok && n == name {
			value = v
		}
	}
	return value
}

// run runs the go command in dir and returns what it printed.
func (c *Command) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	tmp, err := c.tempDir()
	if err != nil {
		return nil, err
	}
	defer tmp.Remove()
	cmd := exec.CommandContext(ctx, c.tool, args...)
	cmd.Dir, cmd.Env = dir, append(c.environ(), "GOTMPDIR="+tmp.Path)
	if dir == "" {
		cmd.Dir = os.TempDir() // no go.mod of the caller's directory may speak
	} else if abs, err := filepath.Abs(dir); err == nil {
		cmd.Env = append(cmd.Env, "PWD="+abs)
	}
	return output(ctx, cmd)
}

// tempDir makes the directory in which the go command makes its own: when interrupted, it does not always remove them.
func (c *Command) tempDir() (*scratch.Dir, error) {
	parent := lookup(c.Environ, "GOTMPDIR")
	if parent == "" {
		parent = lookup(c.Environ, "TMPDIR")
	}
	return scratch.New(parent, "tally-go")
}

// output runs cmd and returns what it printed, also when it failed; an interrupted one gets time to clean
// up.
func output(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("program go: not found: install Go 1.21 or later; it fetches the pinned release itself")
	case err != nil:
		if said := firstLines(stderr.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return stdout.Bytes(), fmt.Errorf("go %s: %w", cmd.Args[1], err)
	}
	return stdout.Bytes(), nil
}

// firstLines shortens what the go command says to one line.
func firstLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[:min(3, len(lines))], " | ")
}

// Build compiles a package of the module in dir to the file out: static, without paths, times or version
// control in it, so that the bytes depend on source and toolchain alone. A default.pgo beside the source
// is not used.
func (c *Command) Build(ctx context.Context, dir, pkg, out string) error {
	abs, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	_, err = c.run(ctx, dir, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-pgo=off", "-ldflags=-s -w -buildid=", "-o", abs, pkg)
	return err
}

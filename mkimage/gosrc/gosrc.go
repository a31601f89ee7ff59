// Package gosrc builds the guest's programs with the pinned go command, the one external program of a
// build, and says which source files such a build reads.
package gosrc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// A Command is the pinned go command.
type Command struct {
	Toolchain string   // exact release, e.g. "go1.26.8"
	Environ   []string // of the caller; only the variables named in passed get through
}

// passed are the caller's variables that say where things are, not what is built.
var passed = []string{"PATH", "HOME", "TMPDIR", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOMODCACHE", "GOCACHE", "GOPATH", "GOMAXPROCS",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME"}

// fixed are the variables that decide about bytes.
func (c Command) fixed() []string {
	return []string{"GOENV=off", "GOTOOLCHAIN=" + c.Toolchain, "GOFLAGS=", "GOWORK=off", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1",
		"GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off", "CGO_ENABLED=0", "GO111MODULE=on", "LC_ALL=C", "GOTELEMETRY=off"}
}

func (c Command) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	for _, kv := range c.Environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(passed, name) {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, c.fixed()...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, exec.ErrNotFound) {
			return nil, errors.New("go command: not found: install Go 1.21 or later; it fetches the pinned release itself")
		}
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, firstLines(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// firstLines shortens what the go command says to one line.
func firstLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[:min(3, len(lines))], " | ")
}

// A Module is a dependency that a program links.
type Module struct{ Path, Version string }

// Sources are what the build of one program reads.
type Sources struct {
	Files   []string // of the main module, relative to its directory, slash-separated, sorted; with go.mod and go.sum
	Modules []Module // sorted by path
}

type listed struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version string
		Main          bool
		Replace       *struct{ Path string }
	}
	GoFiles, SFiles, HFiles, SysoFiles, EmbedFiles []string
}

// List finds the sources of a package (./cmd/x) of the module in dir. A replaced module is an error: its
// bytes would come from somewhere the lock does not see.
func (c Command) List(ctx context.Context, dir, pkg string) (*Sources, error) {
	out, err := c.run(ctx, dir, "list", "-deps", "-json=Dir,Standard,Module,GoFiles,SFiles,HFiles,SysoFiles,EmbedFiles", pkg)
	if err != nil {
		return nil, err
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, err
	}
	s := &Sources{Files: []string{"go.mod"}}
	if _, err := os.Stat(filepath.Join(dir, "go.sum")); err == nil {
		s.Files = append(s.Files, "go.sum")
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if err := s.add(p, root); err != nil {
			return nil, err
		}
	}
	sort.Strings(s.Files)
	s.Files = slices.Compact(s.Files)
	sort.Slice(s.Modules, func(i, j int) bool { return s.Modules[i].Path < s.Modules[j].Path })
	s.Modules = slices.Compact(s.Modules)
	return s, nil
}

func (s *Sources) add(p listed, root string) error {
	if p.Standard {
		return nil
	}
	if p.Module == nil {
		return fmt.Errorf("go list: %s belongs to no module", p.Dir)
	}
	if p.Module.Replace != nil {
		return fmt.Errorf("go list: module %s is replaced: its source is outside what the lock pins", p.Module.Path)
	}
	if !p.Module.Main {
		s.Modules = append(s.Modules, Module{p.Module.Path, p.Module.Version})
		return nil
	}
	rel, err := filepath.Rel(root, p.Dir)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return fmt.Errorf("go list: package directory %s is outside the module", p.Dir)
	}
	for _, list := range [][]string{p.GoFiles, p.SFiles, p.HFiles, p.SysoFiles, p.EmbedFiles} {
		for _, f := range list {
			s.Files = append(s.Files, filepath.ToSlash(filepath.Join(rel, f)))
		}
	}
	return nil
}

// Build compiles a package of the module in dir to the file out: static, without paths, times or version
// control in it, so that the bytes depend on source and toolchain alone.
func (c Command) Build(ctx context.Context, dir, pkg, out string) error {
	_, err := c.run(ctx, dir, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w -buildid=", "-o", out, pkg)
	return err
}

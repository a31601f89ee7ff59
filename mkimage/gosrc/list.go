package gosrc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"
)

// A Module is a dependency that a program links.
type Module struct {
	Path, Version string
	Dir           string // where its source lies, in the module cache
}

// Sources are what the build of one program reads.
type Sources struct {
	Files    []string // of the main module, relative to its directory, slash-separated, sorted; with go.mod and go.sum
	Standard []string // of the standard library, relative to GOROOT, slash-separated, sorted
	Modules  []Module // sorted by path
}

// listed is what `go list` says about one package (cmd/go, "go help list").
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path string }
	}
	GoFiles, SFiles, HFiles, SysoFiles, EmbedFiles []string
	CgoFiles, CFiles                               []string // empty without cgo
}

// List finds the sources of a package (./cmd/x) of the module in dir. A replaced module is an error: its
// bytes would come from somewhere the lock does not see. Tests are not sources.
func (c *Command) List(ctx context.Context, dir, pkg string) (*Sources, error) {
	out, err := c.run(ctx, dir, "list", "-mod=readonly", "-deps",
		"-json=ImportPath,Dir,Standard,Module,GoFiles,SFiles,HFiles,SysoFiles,EmbedFiles,CgoFiles,CFiles", pkg)
	if err != nil {
		return nil, err
	}
	l := lister{s: &Sources{Files: []string{"go.mod"}}}
	if l.module, err = realPath(dir); err != nil {
		return nil, err
	}
	if l.std, err = realPath(c.Root); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "go.sum")); err == nil {
		l.s.Files = append(l.s.Files, "go.sum")
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if err := l.add(p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
	}
	s := l.s
	for _, list := range []*[]string{&s.Files, &s.Standard} {
		sort.Strings(*list)
		*list = slices.Compact(*list)
	}
	sort.Slice(s.Modules, func(i, j int) bool { return s.Modules[i].Path < s.Modules[j].Path })
	s.Modules = slices.Compact(s.Modules)
	return s, nil
}

// realPath follows links as the go command does when it says where a package lies.
func realPath(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(real)
}

type lister struct {
	s           *Sources
	module, std string // directories
}

func (l *lister) add(p listed) error {
	switch {
	case len(p.CgoFiles)+len(p.CFiles) > 0:
		return fmt.Errorf("package %s needs cgo, which is off", p.ImportPath)
	case p.Standard:
		return collect(&l.s.Standard, l.std, p)
	case p.Module == nil:
		return fmt.Errorf("package %s belongs to no module", p.ImportPath)
	case p.Module.Replace != nil:
		return fmt.Errorf("module %s is replaced: its source is outside what the lock pins", p.Module.Path)
	case !p.Module.Main:
		l.s.Modules = append(l.s.Modules, Module{p.Module.Path, p.Module.Version, p.Module.Dir})
		return nil
	}
	return collect(&l.s.Files, l.module, p)
}

// collect adds the files of p to list, relative to root.
func collect(list *[]string, root string, p listed) error {
	dir, err := filepath.EvalSymlinks(p.Dir)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(root, dir)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return fmt.Errorf("package %s lies in %s, outside %s", p.ImportPath, p.Dir, root)
	}
	for _, names := range [][]string{p.GoFiles, p.SFiles, p.HFiles, p.SysoFiles, p.EmbedFiles} {
		for _, f := range names {
			*list = append(*list, filepath.ToSlash(filepath.Join(rel, f)))
		}
	}
	return nil
}

// CheckModule compares the files of a module in the module cache with its checksum, as `go mod verify`
// does: the go command itself checks only what it downloads.
func CheckModule(m Module, sum string) error {
	if m.Dir == "" {
		return fmt.Errorf("module %s %s is not in the module cache", m.Path, m.Version)
	}
	got, err := dirhash.HashDir(m.Dir, m.Path+"@"+m.Version, dirhash.Hash1)
	if err != nil {
		return fmt.Errorf("module %s %s: %w", m.Path, m.Version, err)
	}
	if got != sum {
		return fmt.Errorf("module %s %s: its files in the module cache have sum %s, want %s of go.sum: run 'go clean -modcache'", m.Path, m.Version, got, sum)
	}
	return nil
}

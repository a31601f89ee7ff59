package source

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"tally/mkimage/gosrc"
	"tally/mkimage/lock"
	"tally/mkimage/spec"
)

// command returns the go command that the module of a program asks for in its go.mod, with the program's experiments.
func (l *Local) command(ctx context.Context, g *spec.Go) (*gosrc.Command, error) {
	data, err := l.small(path.Join(g.Module, "go.mod"))
	if err != nil {
		return nil, err
	}
	m, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return nil, fmt.Errorf("go.mod: %w", err)
	}
	release := ""
	switch {
	case m.Toolchain != nil:
		release = m.Toolchain.Name
	case m.Go != nil:
		release = "go" + m.Go.Version
	default:
		return nil, errors.New("go.mod: no toolchain or go line: it names the release that builds the guest")
	}
	if c := l.commands[release]; c != nil {
		return c.With(g.Experiments), nil
	}
	c, err := gosrc.Open(ctx, gosrc.Options{Toolchain: release, Environ: l.Environ, Proxy: l.GoProxy, Offline: l.Offline})
	if err != nil {
		return nil, fmt.Errorf("go.mod: %w", err)
	}
	l.commands[release] = c
	return c.With(g.Experiments), nil
}

// list returns the sources of a program, found once.
func (l *Local) list(ctx context.Context, g *spec.Go) (*gosrc.Sources, error) {
	key := g.Module + "\x00" + g.Package
	if s := l.sources[key]; s != nil {
		return s, nil
	}
	c, err := l.command(ctx, g)
	if err != nil {
		return nil, err
	}
	s, err := c.List(ctx, l.disk(g.Module), g.Package)
	if err == nil {
		l.sources[key] = s
	}
	return s, err
}

func (l *Local) pinProgram(ctx context.Context, k *lock.Lock, g *spec.Go) error {
	c, err := l.command(ctx, g)
	if err != nil {
		return err
	}
	s, err := l.list(ctx, g)
	if err != nil {
		return err
	}
	pin := lock.Go{Module: g.Module, Package: g.Package, Toolchain: c.Toolchain}
	own := newDigest("tally go source v1", g.Package)
	for _, name := range s.Files {
		o, err := l.hash(ctx, path.Join(g.Module, name))
		if err != nil {
			return err
		}
		own.add(name, o)
	}
	std := newDigest("tally go standard library v1", c.Toolchain)
	for _, name := range s.Standard {
		o, err := hashFile(ctx, filepath.Join(c.Root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		std.add(name, o)
	}
	pin.Source, pin.Standard = own.sum(), std.sum()
	k.Go = append(k.Go, pin)
	sum, err := c.Sum(ctx)
	if err != nil {
		return err
	}
	k.Toolchains = append(k.Toolchains, lock.Toolchain{Version: c.Toolchain, Platform: c.Platform, Sum: sum})
	return l.pinModules(k, g, s.Modules)
}

// pinModules takes the checksums of modules from go.sum and holds the module cache against them.
func (l *Local) pinModules(k *lock.Lock, g *spec.Go, modules []gosrc.Module) error {
	if len(modules) == 0 {
		return nil
	}
	data, err := l.small(path.Join(g.Module, "go.sum"))
	if err != nil {
		return err
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 {
			sums[f[0]+" "+f[1]] = f[2]
		}
	}
	for _, m := range modules {
		sum := sums[m.Path+" "+m.Version]
		if sum == "" {
			return fmt.Errorf("go.sum: no checksum of module %s %s", m.Path, m.Version)
		}
		if err := gosrc.CheckModule(m, sum); err != nil {
			return err
		}
		k.Modules = append(k.Modules, lock.Module{Path: m.Path, Version: m.Version, Sum: sum})
	}
	return nil
}

package source

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"tally/mkimage"
	"tally/mkimage/kmod"
	"tally/mkimage/scripts"
	"tally/mkimage/spec"
	"tally/mkimage/steps"
	"tally/mkimage/tree"
)

// StepOptions say how the build steps of a spec are run.
type StepOptions struct {
	Fresh bool                    // run each, whatever the store has of earlier runs
	Vary  bool                    // change what must not matter (steps.Options.Vary)
	Log   func(step, line string) // called for each line a command says; may be nil
}

// steps runs the build steps in order and puts their outputs into the root.
func (a *assembler) steps(ctx context.Context) error {
	for i := range a.Spec.Steps {
		if err := a.step(ctx, &a.Spec.Steps[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembler) step(ctx context.Context, s *spec.Step) error {
	root, err := a.buildRoot(ctx, s)
	if err != nil {
		return fmt.Errorf("step %s: %w", s.Name, err)
	}
	dir := a.temporary()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	o := steps.Options{Dir: dir, Vary: a.Steps.Vary}
	if !a.Steps.Fresh {
		o.Cache = a.store.Steps()
	}
	if log := a.Steps.Log; log != nil {
		o.Log = func(line string) { log(s.Name, line) }
	}
	r, err := steps.Run(ctx, a.definition(s), root, o)
	if err != nil {
		return err
	}
	if err := a.distribute(r.Tree); err != nil {
		return fmt.Errorf("step %s: %w", s.Name, err)
	}
	a.in.Steps = append(a.in.Steps, a.describe(s, r))
	return nil
}

// definition translates a step of the spec.
func (a *assembler) definition(s *spec.Step) steps.Step {
	const mib = 1 << 20
	d := steps.Step{Name: s.Name, Command: s.Command, Dir: s.Dir, Env: s.Env, Epoch: a.Spec.Epoch,
		Timeout: time.Duration(s.Timeout) * time.Second, Memory: s.Memory * mib, Disk: s.Disk * mib}
	for _, o := range s.Outputs {
		d.Outputs = append(d.Outputs, steps.Output{Path: o.Path, Target: outputTarget(o), Mode: o.Mode, UID: o.UID, GID: o.GID})
	}
	return d
}

// outputTarget is where an output lies in the tree of a step's result: a module of the kernel apart from all
// that goes into the root, whose paths are the spec's.
func outputTarget(o spec.Output) string {
	if o.Module {
		return moduleDir + path.Base(o.Path)
	}
	return rootDir + o.Target
}

const moduleDir, rootDir = "module/", "root/"

// distribute puts the outputs of a step into the root, and notes modules of the kernel for when that is there.
func (a *assembler) distribute(t *tree.Tree) error {
	for _, p := range t.Entries() {
		e := *p
		if name, ok := strings.CutPrefix(e.Path, moduleDir); ok {
			e.Path = name
			a.modules = append(a.modules, e)
		} else if e.Path, ok = strings.CutPrefix(e.Path, rootDir); ok {
			if err := a.in.Root.Add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// kernelModules adds what steps made to the modules of the kernel, in the directory that depmod(8) looks into
// first.
func (a *assembler) kernelModules(context.Context) error {
	if len(a.modules) == 0 {
		return nil
	}
	release, err := kmod.Release(a.in.KernelTree)
	if err != nil {
		return err
	}
	dir := "usr/lib/modules/" + release
	if a.in.KernelTree.Get(dir+"/modules.builtin") == nil {
		dir = "lib/modules/" + release
	}
	for _, e := range a.modules {
		if e.Kind != tree.File {
			return fmt.Errorf("module %q from %s: is a %s, want a file", e.Path, e.Source, e.Kind)
		}
		e.Path = dir + "/updates/" + e.Path
		if err := a.in.KernelTree.Add(e); err != nil {
			return err
		}
	}
	return nil
}

// buildRoot puts packages and inputs of a step together. What is known of the packages' scripts is done;
// every other script stands in the manifest as left out.
func (a *assembler) buildRoot(ctx context.Context, s *spec.Step) (*tree.Tree, error) {
	ps := a.lock.PackagesFor("step." + s.Name)
	if len(ps) == 0 {
		return nil, fmt.Errorf("the lock has no packages for it")
	}
	archives, err := a.unpack(ctx, ps)
	if err != nil {
		return nil, err
	}
	t := tree.New()
	var known, omitted []string
	for i, p := range ps {
		for _, e := range archives[i].Entries {
			if err := t.Add(e); err != nil {
				return nil, err
			}
		}
		found := slices.DeleteFunc(slices.Clone(archives[i].Scripts), func(s string) bool { return !slices.Contains(installScripts, s) })
		if len(found) > 0 && scripts.Known(p.Name) {
			known = append(known, p.Name)
		} else if len(found) > 0 {
			omitted = append(omitted, fmt.Sprintf("package %s: %s", p.Name, strings.Join(found, ", ")))
		}
	}
	more, err := scripts.Apply(ctx, t, known, a.Spec.Epoch)
	if err != nil {
		return nil, err
	}
	for _, o := range append(omitted, more...) {
		a.in.Omitted = append(a.in.Omitted, "step "+s.Name+": "+o)
	}
	for i, src := range s.Inputs {
		if err := a.source(ctx, t, "", src); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
	}
	return t, nil
}

// describe is what the manifest says of a step. Its root is named by the SHA-256 of the line "tally step root
// v1", the step's quoted name, and, for each of its packages in the lock's order, a line of hash and quoted
// "NAME VERSION ARCH".
func (a *assembler) describe(s *spec.Step, r *steps.Result) mkimage.Step {
	root := newDigest("tally step root v1", s.Name)
	for _, p := range a.lock.PackagesFor("step." + s.Name) {
		root.add(p.Name+" "+p.Version+" "+p.Arch, p.Object)
	}
	m := mkimage.Step{Name: s.Name, Key: mkimage.Digest(r.Key), Root: mkimage.Digest(root.sum())}
	for _, o := range s.Outputs {
		e := r.Tree.Get(outputTarget(o))
		out := mkimage.StepOutput{Target: o.Target, Kind: e.Kind.String(), SHA256: e.Digest, Size: e.Size}
		if o.Module {
			out.Target, out.Kind = "updates/"+path.Base(o.Path), "module"
		}
		switch e.Kind {
		case tree.Symlink:
			out.SHA256 = sha256.Sum256([]byte(e.Link))
		case tree.Dir:
			out.SHA256 = subtree(r.Tree, e.Path).Digest(a.Spec.Epoch)
		}
		m.Outputs = append(m.Outputs, out)
	}
	return m
}

// subtree is the directory at p as a tree of its own.
func subtree(t *tree.Tree, p string) *tree.Tree {
	out := tree.New()
	for _, e := range t.Entries() {
		if rest, ok := strings.CutPrefix(e.Path, p+"/"); ok {
			c := *e
			c.Path = rest
			_ = out.Add(c) // it was in a tree already
		}
	}
	return out
}

package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"tally/internal/pattern"
	"tally/mkimage/tree"
)

// A Step is a command that runs in a build root of its own (mkimage/steps) and whose outputs go into the root
// of the image, after all sources, in the order of the steps.
type Step struct {
	Name    string   `yaml:"name,required"`
	Root    Debian   `yaml:"root,required"`    // the build root; without scripts: what is known of them is done, the rest listed
	Inputs  []Source `yaml:"inputs"`           // dir, file and tar, with a target in the build root
	Command []string `yaml:"command,required"` // program and arguments; no shell unless it is named
	Dir     string   `yaml:"dir"`              // where the command starts; default: build
	Env     []string `yaml:"env"`              // NAME=value
	Outputs []Output `yaml:"outputs,required"`
	Timeout int64    `yaml:"timeout"` // seconds; default: 600
	Memory  int64    `yaml:"memory"`  // MiB of address space of each process; default: no limit
	Disk    int64    `yaml:"disk"`    // MiB of the build root with everything in it, held in memory; default: 4096
	Only    []string `yaml:"only"`    // of the document: the variants that it is for; nil: all, and in what Parse returns
}

// An Output is a file, symbolic link or directory that a step makes. Exactly one of Target and Module is set.
type Output struct {
	Path   string `yaml:"path,required"` // in the build root
	Target string `yaml:"target"`        // in the image
	Module bool   `yaml:"module"`        // a module, NAME.ko, of the image's kernel, which modules: may then name
	Mode   uint32 `yaml:"mode"`          // of a file; default: 0755 when its owner may execute it, else 0644
	UID    uint32 `yaml:"uid"`
	GID    uint32 `yaml:"gid"`
}

// Limits on steps.
const (
	maxSteps   = 64
	maxWords   = 4096      // of a command
	maxWord    = 128 << 10 // bytes: the kernel's limit on one argument (MAX_ARG_STRLEN) with its NUL
	maxTimeout = 24 * 60 * 60
	maxMiB     = 256 << 10
)

var envForm = pattern.New(`^[A-Za-z_][A-Za-z0-9_]{0,127}=`)

func (c checker) checkSteps() error {
	if n := len(c.s.Steps); n > maxSteps {
		return c.fail("steps", "steps: %d, want at most %d", n, maxSteps)
	}
	seen := map[string]bool{}
	for i := range c.s.Steps {
		s, at := &c.s.Steps[i], fmt.Sprintf("steps.%d", i)
		if !nameForm.MatchString(s.Name) || seen[s.Name] {
			return c.fail(at+".name", "name %.80q: want lower-case letters, digits, dots and hyphens, at most 64, once", s.Name)
		}
		seen[s.Name] = true
		for _, f := range []func(string, *Step) error{c.stepRoot, c.stepCommand, c.stepLimits, c.stepOutputs} {
			if err := f(at, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c checker) stepRoot(at string, s *Step) error {
	if s.Root.Scripts != "" {
		return c.fail(at+".root.scripts", "scripts: not for a build root: what is known of them is done, the rest is listed")
	}
	if s.Root.Omit != nil {
		return c.fail(at+".root.omit", "omit: not for a build root, of which only the outputs are kept")
	}
	if err := c.debian(at+".root", &s.Root); err != nil {
		return err
	}
	if n := len(s.Inputs); n > maxSources {
		return c.fail(at+".inputs", "inputs: %d, want at most %d", n, maxSources)
	}
	for i, src := range s.Inputs {
		at := fmt.Sprintf("%s.inputs.%d", at, i)
		if src.Debian != nil || src.Go != nil || src.OCI != nil || src.Model != nil {
			return c.fail(at, "input: want exactly one of dir, file, tar")
		}
		if err := c.one(at, "input", []string{"dir", "file", "tar"}, []bool{src.Dir != nil, src.File != nil, src.Tar != nil}); err != nil {
			return err
		}
		if err := c.checkSource(at, src); err != nil {
			return err
		}
		if src.owned() {
			return c.fail(at, "uid and gid: in a build root all files belong to 0:0")
		}
		if src.Only != nil {
			return c.fail(at+".only", "only: not for an input: the step has it")
		}
	}
	return nil
}

// owned says whether a source names owners.
func (s Source) owned() bool {
	var all []Override
	switch {
	case s.Dir != nil && (s.Dir.UID != 0 || s.Dir.GID != 0), s.File != nil && (s.File.UID != 0 || s.File.GID != 0):
		return true
	case s.Dir != nil:
		all = s.Dir.Override
	case s.Tar != nil:
		all = s.Tar.Override
	}
	return slices.ContainsFunc(all, func(o Override) bool { return o.UID != nil || o.GID != nil })
}

func (c checker) stepCommand(at string, s *Step) error {
	if n := len(s.Command); n == 0 || n > maxWords || s.Command[0] == "" {
		return c.fail(at+".command", "command: %d words, want 1 to %d, the first of them a program", n, maxWords)
	}
	for i, w := range s.Command {
		if len(w) >= maxWord || strings.ContainsRune(w, 0) {
			return c.fail(fmt.Sprintf("%s.command.%d", at, i), "command: word %.80q: want less than %d bytes and no NUL", w, maxWord)
		}
	}
	var names []string
	for i, kv := range s.Env {
		at := fmt.Sprintf("%s.env.%d", at, i)
		name := envForm.FindString(kv)
		if name == "" || len(kv) >= maxWord || strings.ContainsRune(kv, 0) || slices.Contains(names, name) || i >= maxList {
			return c.fail(at, "env %.80q: want NAME=value, each name once, at most %d", kv, maxList)
		}
		names = append(names, name)
	}
	if s.Dir == "" {
		s.Dir = "build"
	}
	return c.inStep(at+".dir", "dir", s.Dir)
}

// inStep checks a path of a build root that a step may use.
func (c checker) inStep(at, what, p string) error {
	if err := tree.CheckPath(p); err != nil {
		return c.fail(at, "%s: %v", what, err)
	}
	if top, _, _ := strings.Cut(p, "/"); top == "dev" || top == "proc" || top == "sys" {
		return c.fail(at, "%s: path %q: dev, proc and sys are the kernel's", what, p)
	}
	return nil
}

func (c checker) stepLimits(at string, s *Step) error {
	for _, l := range []struct {
		key, unit string
		value     *int64
		max, or   int64
	}{{"timeout", "seconds", &s.Timeout, maxTimeout, 600}, {"memory", "MiB", &s.Memory, maxMiB, 0}, {"disk", "MiB", &s.Disk, maxMiB, 4096}} {
		if *l.value < 0 || *l.value > l.max {
			return c.fail(at+"."+l.key, "%s %d: want 1 to %d %s, or leave the key out", l.key, *l.value, l.max, l.unit)
		}
		if *l.value == 0 {
			*l.value = l.or
		}
	}
	return nil
}

func (c checker) stepOutputs(at string, s *Step) error {
	if n := len(s.Outputs); n == 0 || n > maxList {
		return c.fail(at+".outputs", "outputs: %d, want 1 to %d", n, maxList)
	}
	for i, o := range s.Outputs {
		at := fmt.Sprintf("%s.outputs.%d", at, i)
		if err := c.inStep(at+".path", "path", o.Path); err != nil {
			return err
		}
		if err := c.one(at, "output", []string{"target", "module: true"}, []bool{o.Target != "", o.Module}); err != nil {
			return err
		}
		if o.Module {
			if err := c.kernelModule(at, o, s.Outputs[:i]); err != nil {
				return err
			}
			continue
		}
		if err := c.target(at+".target", o.Target, false); err != nil {
			return err
		}
		if o.Mode > 0o7777 {
			return c.fail(at+".mode", "mode %#o: want at most 07777", o.Mode)
		}
		if o.UID > maxID || o.GID > maxID {
			return c.fail(at, "uid %d, gid %d: want at most %d", o.UID, o.GID, int64(maxID))
		}
		for _, other := range s.Outputs[:i] {
			if other.Module {
				continue
			}
			if a, b := o.Target+"/", other.Target+"/"; strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
				return c.fail(at+".target", "target %q: lies in or around that of %q", o.Target, other.Path)
			}
		}
	}
	return nil
}

// kernelModule checks an output that joins the kernel's modules.
func (c checker) kernelModule(at string, o Output, before []Output) error {
	name, ok := strings.CutSuffix(path.Base(o.Path), ".ko")
	if !ok || !moduleForm.MatchString(name) {
		return c.fail(at+".path", "path %q: want a file NAME.ko, because it is a module", o.Path)
	}
	if o.Mode != 0 || o.UID != 0 || o.GID != 0 {
		return c.fail(at, "mode, uid and gid: a module of the kernel has none of its own")
	}
	for _, other := range before {
		if other.Module && path.Base(other.Path) == path.Base(o.Path) {
			return c.fail(at+".path", "module %q: twice", name)
		}
	}
	return nil
}

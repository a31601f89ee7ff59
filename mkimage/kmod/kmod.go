// Package kmod finds the modules an initrd needs and the order to load them in.
//
// Kernel packages carry no modules.dep (their scripts make it), so dependencies are read where depmod
// reads them: from the .modinfo section of each module, of which "depends=" and "softdep=" count
// (Linux, include/linux/module.h). Names compare with "-" written "_". What modules.builtin lists is
// left out. Every module must be an x86-64 relocatable ELF file whose name= and vermagic= fit its file
// and the kernel's release.
//
// # The file /modules
//
// The initrd's list holds the absolute paths of the modules in load order, one a line, each ended by
// "\n". The init loads them top down with finit_module; a module whose device is absent (ENODEV) is
// passed over, one that is already there (EEXIST) too, any other error stops the boot. A path that ends
// in ".ko" is an uncompressed module; any other ending (".ko.xz") is a module as its package has it, to
// be loaded with MODULE_INIT_COMPRESSED_FILE (flag 4) by a kernel with MODULE_DECOMPRESS.
package kmod

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"tally/mkimage/tree"
)

// Limits on what a kernel package may hold.
const (
	maxModule = 64 << 20 // bytes of one module, decompressed
	maxText   = 8 << 20  // bytes of modules.builtin
	maxDepth  = 64       // longest chain of dependencies
)

// first is loaded before everything else when asked for: dm-verity binds the best SHA-256 that is there
// when its table is loaded, and the kernel never loads the fast one by itself.
const first = "sha256_ssse3"

// A Module is one kernel module of a closure.
type Module struct {
	Name   string // normalised: "-" is written "_"
	Path   string // in the tree it came from, e.g. "usr/lib/modules/6.12.0/kernel/fs/erofs/erofs.ko.xz"
	Data   []byte // the decompressed ELF file with its appended signature
	Packed []byte // the file as its package has it; the same bytes as Data when it is not compressed
}

// roots are where a kernel's modules may lie, with and without the merged /usr.
var roots = []string{"usr/lib/modules/", "lib/modules/"}

// Release returns the only kernel release that has a module directory in t.
func Release(t *tree.Tree) (string, error) {
	var found []string
	for _, e := range t.Entries() {
		for _, root := range roots {
			rest, ok := strings.CutPrefix(e.Path, root)
			if release, below, _ := strings.Cut(rest, "/"); ok && below != "" && !slices.Contains(found, release) {
				found = append(found, release)
			}
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("kernel: modules of %d releases %q in the tree: want exactly one", len(found), found)
	}
	return found[0], nil
}

// A kernel is the index of one release's modules.
type kernel struct {
	t       *tree.Tree
	release string
	files   map[string]*tree.Entry // by normalised name
	twice   map[string]bool        // names that more than one file has
	builtin map[string]bool
}

// Closure returns the named modules and all they need in load order: sha256-ssse3 first when it is named,
// then the others in the order of names, each after what it depends on. Built-in ones are left out. A
// soft dependency that names no file of this kernel is passed over, as modprobe does; one given by an
// alias is such a case and must be named by the caller when it is wanted.
func Closure(t *tree.Tree, release string, names []string) ([]Module, error) {
	k, err := open(t, release)
	if err != nil {
		return nil, err
	}
	order := make([]string, 0, len(names))
	for _, name := range names {
		name = Normalise(name)
		if slices.Contains(order, name) {
			return nil, fmt.Errorf("module %q: named twice", name)
		}
		order = append(order, name)
	}
	slices.SortStableFunc(order, func(a, b string) int {
		if a != b && a == first {
			return -1
		}
		if a != b && b == first {
			return 1
		}
		return 0
	})
	c := &closure{k: k, state: map[string]int{}}
	for _, name := range order {
		if err := c.add(name, "the image's list", 0); err != nil {
			return nil, err
		}
	}
	return c.mods, nil
}

// Normalise returns a module's name as the kernel has it.
func Normalise(name string) string { return strings.ReplaceAll(name, "-", "_") }

func open(t *tree.Tree, release string) (*kernel, error) {
	k := &kernel{t: t, release: release, files: map[string]*tree.Entry{}, twice: map[string]bool{}, builtin: map[string]bool{}}
	dir := ""
	for _, root := range roots {
		if e := t.Get(root + release + "/modules.builtin"); e != nil && e.Kind == tree.File {
			dir = root + release + "/"
			text, err := readAll(e, maxText)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(string(text)) {
				k.builtin[Normalise(strings.TrimSuffix(path.Base(strings.TrimSpace(line)), ".ko"))] = true
			}
		}
	}
	if dir == "" {
		return nil, fmt.Errorf("kernel %q: no modules.builtin in the tree", release)
	}
	for _, e := range t.Entries() {
		stem, _, ok := splitName(e.Path)
		if !ok || e.Kind != tree.File || !strings.HasPrefix(e.Path, dir) {
			continue
		}
		name := Normalise(stem)
		k.twice[name] = k.files[name] != nil
		k.files[name] = e
	}
	return k, nil
}

// splitName splits "kernel/fs/x.ko.xz" into "x" and ".xz"; ok is false for what is no module.
func splitName(p string) (stem, packing string, ok bool) {
	base := path.Base(p)
	for _, packing := range []string{"", ".xz", ".zst", ".gz"} {
		if stem, ok := strings.CutSuffix(base, ".ko"+packing); ok && stem != "" {
			return stem, packing, true
		}
	}
	return "", "", false
}

// A closure is a depth-first walk under way.
type closure struct {
	k     *kernel
	mods  []Module
	state map[string]int // 1: on the current path, 2: done
}

var errMissing = errors.New("not in this kernel, neither as a file nor built in")

// add appends name after all it depends on.
func (c *closure) add(name, wantedBy string, depth int) error {
	e := c.k.files[name]
	switch {
	case c.state[name] == 2 || e == nil && c.k.builtin[name]:
		return nil
	case c.state[name] == 1 || depth > maxDepth:
		return fmt.Errorf("module %q: depends on itself, through %q", name, wantedBy)
	case e == nil:
		return fmt.Errorf("module %q, wanted by %s: kernel %s: %w", name, wantedBy, c.k.release, errMissing)
	case c.k.twice[name]:
		return fmt.Errorf("module %q: more than one file of kernel %s has that name", name, c.k.release)
	}
	c.state[name] = 1
	m, info, err := c.k.load(name, e)
	if err != nil {
		return err
	}
	for _, dep := range info.depends {
		if err := c.add(dep, name, depth+1); err != nil {
			return err
		}
	}
	if err := c.addSoft(info.pre, name, depth); err != nil {
		return err
	}
	c.mods = append(c.mods, m)
	c.state[name] = 2
	return c.addSoft(info.post, name, depth)
}

// addSoft adds the soft dependencies that are there. One that leads back to a module on the current path
// is passed over: a cycle of wishes is no error.
func (c *closure) addSoft(names []string, wantedBy string, depth int) error {
	for _, name := range names {
		if c.k.files[name] == nil || c.state[name] == 1 {
			continue
		}
		if err := c.add(name, wantedBy, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Install adds the modules to the initrd, decompressed, as lib/modules/NAME.ko, and the list file modules.
func Install(initrd *tree.Tree, mods []Module) error { return install(initrd, mods, false) }

// InstallPacked adds the modules as their package has them, e.g. as lib/modules/NAME.ko.xz: a fifth of
// the size, for an init and a kernel that load such files.
func InstallPacked(initrd *tree.Tree, mods []Module) error { return install(initrd, mods, true) }

func install(initrd *tree.Tree, mods []Module, packed bool) error {
	var list strings.Builder
	for _, m := range mods {
		stem, packing, ok := splitName(m.Path)
		if !ok {
			return fmt.Errorf("module %q: path %q is no module's", m.Name, m.Path)
		}
		p, data := "lib/modules/"+stem+".ko", m.Data
		if packed {
			p, data = p+packing, m.Packed
		}
		if err := initrd.Add(tree.NewFile(p, 0o644, data, "module "+m.Name)); err != nil {
			return err
		}
		list.WriteString("/" + p + "\n")
	}
	return initrd.Add(tree.NewFile("modules", 0o644, []byte(list.String()), "module list"))
}

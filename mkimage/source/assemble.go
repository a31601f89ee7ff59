package source

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ulikunitz/xz"

	"tally/mkimage"
	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

func newXZ(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }

// An assembler turns a checked lock into mkimage.Inputs.
type assembler struct {
	*Local
	lock  *lock.Lock
	store *lock.Store
	tmp   string // for the programs
	jobs  int
	in    mkimage.Inputs
}

// Assemble builds the Go programs, unpacks the packages and reads the files that k pins. Everything must
// be in the store and unchanged beside the spec (Fetcher.Packages, Check). tmp must stay until the image
// is built; jobs is the number of packages unpacked at a time.
func (l *Local) Assemble(ctx context.Context, k *lock.Lock, rawLock []byte, store *lock.Store, tmp string, jobs int) (mkimage.Inputs, error) {
	s := l.Spec
	a := &assembler{Local: l, lock: k, store: store, tmp: tmp, jobs: max(1, jobs)}
	a.in = mkimage.Inputs{Name: s.Name, Version: s.Version, Epoch: s.Epoch, Cmdline: s.Cmdline, Platforms: s.Platforms, Modules: s.Modules,
		Root: tree.New(), KernelTree: tree.New(), Spec: l.Raw, Lock: rawLock}
	for _, step := range []func(context.Context) error{a.programs, a.root, a.kernel, a.stub, a.firmware, a.sources} {
		if err := step(ctx); err != nil {
			return a.in, err
		}
	}
	a.list()
	return a.in, nil
}

// program builds one Go program.
func (a *assembler) program(ctx context.Context, g *spec.Go) ([]byte, error) {
	c, err := a.command()
	if err != nil {
		return nil, err
	}
	out := filepath.Join(a.tmp, "program")
	if err := c.Build(ctx, filepath.Join(a.Dir, filepath.FromSlash(g.Module)), g.Package, out); err != nil {
		return nil, err
	}
	defer os.Remove(out)
	return os.ReadFile(out)
}

func (a *assembler) programs(ctx context.Context) (err error) {
	a.in.Init, err = a.program(ctx, &a.Spec.Init)
	return err
}

// mountPoints are directories every root needs and version control cannot hold empty.
var mountPoints = []tree.Entry{
	{Path: "dev", Kind: tree.Dir, Mode: 0o755}, {Path: "proc", Kind: tree.Dir, Mode: 0o555}, {Path: "run", Kind: tree.Dir, Mode: 0o755},
	{Path: "sys", Kind: tree.Dir, Mode: 0o555}, {Path: "tmp", Kind: tree.Dir, Mode: 0o1777},
}

func (a *assembler) root(ctx context.Context) error {
	for i, src := range a.Spec.Root {
		var err error
		switch {
		case src.Debian != nil:
			err = a.debian(ctx, fmt.Sprintf("root.%d", i), src.Debian.Scripts == "ignore", a.in.Root)
		case src.Dir != nil:
			err = a.dir(src.Dir)
		case src.File != nil:
			err = a.file(src.File)
		case src.Go != nil:
			var data []byte
			if data, err = a.program(ctx, src.Go); err == nil {
				err = a.in.Root.Add(tree.NewFile(src.Go.Target, 0o755, data, "go "+src.Go.Package))
			}
		}
		if err != nil {
			return fmt.Errorf("root source %d: %w", i, err)
		}
	}
	for _, e := range mountPoints {
		if a.in.Root.Get(e.Path) == nil {
			e.Source = "tally"
			if err := a.in.Root.Add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *assembler) dir(d *spec.Dir) error {
	t, err := a.dirTree(d)
	if err != nil {
		return err
	}
	for _, e := range t.Entries() {
		if e.Path == "" {
			continue
		}
		if err := a.in.Root.Add(*e); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembler) file(f *spec.File) error {
	data, err := a.localFile(f)
	if err != nil {
		return err
	}
	mode := uint32(0o644)
	if f.Executable {
		mode = 0o755
	}
	return a.in.Root.Add(tree.NewFile(f.Target, mode, data, "file "+f.Path))
}

func (a *assembler) localFile(f *spec.File) ([]byte, error) {
	data, err := a.read(f.Path)
	if err != nil {
		return nil, err
	}
	return expand(f, data)
}

// debian adds the packages of one user of the lock to t, in the order of their names.
func (a *assembler) debian(ctx context.Context, user string, ignoreScripts bool, t *tree.Tree) error {
	ps := a.lock.PackagesFor(user)
	archives, err := a.unpack(ctx, ps)
	if err != nil {
		return err
	}
	for i, p := range ps {
		if err := a.scripts(p, archives[i].Scripts, ignoreScripts); err != nil {
			return err
		}
		for _, e := range archives[i].Entries {
			if err := t.Add(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// unpack reads packages, a few at a time.
func (a *assembler) unpack(ctx context.Context, ps []lock.Package) ([]*deb.Archive, error) {
	out, errs := make([]*deb.Archive, len(ps)), make([]error, len(ps))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan int)
	var wg sync.WaitGroup
	for range a.jobs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				out[i], errs[i] = deb.Unpack(ctx, a.store.Path(ps[i].SHA256), ps[i].SHA256, a.store.Unpacked())
				if errs[i] != nil {
					errs[i] = fmt.Errorf("package %s %s: %w", ps[i].Name, ps[i].Version, errs[i])
					cancel()
				}
			}
		}()
	}
	for _, i := range largestFirst(ps) {
		next <- i
	}
	close(next)
	wg.Wait()
	for i := range errs { // the first that is not a mere consequence of cancelling
		if errs[i] != nil && !strings.Contains(errs[i].Error(), context.Canceled.Error()) {
			return nil, errs[i]
		}
	}
	for i := range errs {
		if errs[i] != nil {
			return nil, errs[i]
		}
	}
	return out, nil
}

// largestFirst returns indexes so that the longest work does not come last.
func largestFirst(ps []lock.Package) []int {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { return int(min(max(ps[y].Size-ps[x].Size, -1), 1)) })
	return order
}

// installScripts are those that run when a package is installed.
var installScripts = []string{"config", "postinst", "preinst"}

func (a *assembler) scripts(p lock.Package, found []string, ignore bool) error {
	var run []string
	for _, s := range found {
		if slices.Contains(installScripts, s) {
			run = append(run, s)
		}
	}
	if len(run) == 0 {
		return nil
	}
	if !ignore {
		return fmt.Errorf("package %s: its %s is not run, and what it would do is not known: leave the package out, or say 'scripts: ignore'", p.Name, strings.Join(run, " and "))
	}
	a.in.Omitted = append(a.in.Omitted, fmt.Sprintf("package %s: %s", p.Name, strings.Join(run, ", ")))
	return nil
}

// kernel reads the kernel package: vmlinuz, and its modules as a tree.
func (a *assembler) kernel(ctx context.Context) error {
	if err := a.debian(ctx, "kernel", true, a.in.KernelTree); err != nil {
		return err
	}
	var found *tree.Entry
	for _, e := range a.in.KernelTree.Entries() {
		if e.Kind == tree.File && path.Dir(e.Path) == "boot" && strings.HasPrefix(path.Base(e.Path), "vmlinuz-") {
			if found != nil {
				return fmt.Errorf("kernel: two images, %q and %q", found.Path, e.Path)
			}
			found = e
		}
	}
	if found == nil {
		return fmt.Errorf("kernel: package %s has no boot/vmlinuz-*", a.Spec.Kernel.Package)
	}
	var err error
	a.in.Kernel, err = contents(ctx, found)
	return err
}

// contents reads a file of a tree, checked.
func contents(ctx context.Context, e *tree.Entry) ([]byte, error) {
	var b strings.Builder
	b.Grow(int(e.Size))
	if err := e.CopyTo(ctx, &b, make([]byte, 256<<10)); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// packageFile reads one file of the package a user of the lock names.
func (a *assembler) packageFile(ctx context.Context, user string, f *spec.PackageFile) ([]byte, error) {
	ps := a.lock.PackagesFor(user)
	if len(ps) != 1 {
		return nil, fmt.Errorf("%s: %d packages in the lock, want one", user, len(ps))
	}
	archives, err := a.unpack(ctx, ps)
	if err != nil {
		return nil, err
	}
	for i, e := range archives[0].Entries {
		if e.Path == f.Path && e.Kind == tree.File {
			return contents(ctx, &archives[0].Entries[i])
		}
	}
	return nil, fmt.Errorf("%s: package %s has no file %q", user, f.Package, f.Path)
}

func (a *assembler) stub(ctx context.Context) (err error) {
	a.in.Stub, err = a.packageFile(ctx, "stub", &a.Spec.Stub)
	return err
}

func (a *assembler) firmware(ctx context.Context) error {
	for _, f := range a.Spec.Firmware {
		var data []byte
		var err error
		if f.Package != nil {
			data, err = a.packageFile(ctx, "firmware."+f.Name, f.Package)
		} else {
			data, err = a.localFile(f.File)
		}
		if err != nil {
			return fmt.Errorf("firmware %s: %w", f.Name, err)
		}
		a.in.Firmware = append(a.in.Firmware, mkimage.FirmwareInput{Name: f.Name, Vars: f.Vars, Data: data})
	}
	return nil
}

// list names every input for the manifest.
func (a *assembler) list() {
	add := func(kind, name, version string, sum [32]byte, size int64, verified string) {
		a.in.List = append(a.in.List, mkimage.Input{Kind: kind, Name: name, Version: version, SHA256: sum, Size: size, Verified: verified})
	}
	for _, p := range a.lock.Packages {
		add("package", p.Name, p.Version, p.SHA256, p.Size, "index")
	}
	for _, f := range a.lock.Files {
		add("file", f.Path, "", f.SHA256, f.Size, "hash")
	}
	for _, d := range a.lock.Dirs {
		add("dir", d.Path, "", d.Tree, 0, "hash")
	}
	for _, g := range a.lock.Go {
		add("go", g.Package, a.lock.Toolchain, g.Source, 0, "hash")
	}
	for _, m := range a.lock.Modules {
		if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) == 32 {
			add("module", m.Path, m.Version, [32]byte(sum), 0, "hash")
		}
	}
}

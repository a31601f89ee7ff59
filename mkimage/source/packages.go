package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"tally/mkimage"
	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/scripts"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// debian adds the packages of one user of the lock to t, in the order of their names.
func (a *assembler) debian(ctx context.Context, user string, ignoreScripts bool, omit []string, t *tree.Tree) error {
	ps := a.lock.PackagesFor(user)
	if len(ps) == 0 {
		return fmt.Errorf("the lock has no packages for %s", user)
	}
	archives, err := a.unpack(ctx, ps)
	if err != nil {
		return err
	}
	known, err := a.scripts(ps, archives, ignoreScripts)
	if err != nil {
		return err
	}
	left := omission{patterns: omit}
	for i := range ps {
		for _, e := range archives[i].Entries {
			if left.out(e.Path) {
				continue
			}
			if err := t.Add(e); err != nil {
				return err
			}
		}
	}
	if err := left.check(); err != nil {
		return err
	}
	for _, p := range omit {
		a.in.Omitted = append(a.in.Omitted, fmt.Sprintf("%s: path %s of its packages", user, p))
	}
	omitted, err := scripts.Apply(ctx, t, known, a.Spec.Epoch)
	a.in.Omitted = append(a.in.Omitted, omitted...)
	return err
}

// unpack reads packages, a few at a time, the largest first, so that the longest work does not come last.
func (a *assembler) unpack(ctx context.Context, ps []lock.Package) ([]*deb.Archive, error) {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { return int(min(max(ps[y].Size-ps[x].Size, -1), 1)) })
	out, errs := make([]*deb.Archive, len(ps)), make([]error, len(ps))
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan int)
	var wg sync.WaitGroup
	for range a.jobs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				var err error
				out[i], err = deb.Unpack(running, a.store.Path(ps[i].SHA256), ps[i].SHA256, a.store.Unpacked())
				if err != nil {
					errs[i] = fmt.Errorf("package %s %s: %w", ps[i].Name, ps[i].Version, err)
					cancel()
				}
			}
		}()
	}
	for _, i := range order {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var first error
	for _, err := range errs { // one that is no mere consequence of another
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return out, first
}

// kernel reads the packages of the kernel: vmlinuz, and its modules as a tree.
func (a *assembler) kernel(ctx context.Context) error {
	if err := a.debian(ctx, "kernel", true, nil, a.in.KernelTree); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	var found *tree.Entry
	for _, e := range a.in.KernelTree.Entries() {
		if e.Kind == tree.File && isKernel(e.Path) {
			if found != nil {
				return fmt.Errorf("kernel: two images, %q and %q", found.Path, e.Path)
			}
			found = e
		}
	}
	if found == nil {
		return fmt.Errorf("kernel: package %s has no boot/vmlinuz-* and no usr/lib/modules/*/vmlinuz", a.Spec.Kernel.Debian.Package)
	}
	var err error
	a.in.Kernel, err = contents(ctx, found)
	return err
}

// isKernel says whether a kernel lies at p: where Debian up to 13 has it, or from 14 on.
func isKernel(p string) bool {
	dir, name := path.Split(p)
	return dir == "boot/" && strings.HasPrefix(name, "vmlinuz-") || path.Dir(path.Clean(dir)) == "usr/lib/modules" && name == "vmlinuz"
}

// contents reads a file of a tree, checked.
func contents(ctx context.Context, e *tree.Entry) ([]byte, error) {
	var b bytes.Buffer
	if e.Size > maxBlob {
		return nil, fmt.Errorf("path %q from %s: %d bytes, want at most %d", e.Path, e.Source, e.Size, maxBlob)
	}
	b.Grow(int(e.Size))
	err := e.CopyTo(ctx, &b, make([]byte, 256<<10))
	return b.Bytes(), err
}

// maxBlob is the largest single file taken out of a package, in bytes.
const maxBlob = 1 << 30

// packageFile reads one file of the package that a user of the lock needs.
func (a *assembler) packageFile(ctx context.Context, user, file string) ([]byte, error) {
	ps := a.lock.PackagesFor(user)
	if len(ps) != 1 {
		return nil, fmt.Errorf("%d packages in the lock, want one", len(ps))
	}
	archives, err := a.unpack(ctx, ps)
	if err != nil {
		return nil, err
	}
	for i, e := range archives[0].Entries {
		if e.Path == file && e.Kind == tree.File {
			return contents(ctx, &archives[0].Entries[i])
		}
	}
	return nil, fmt.Errorf("package %s %s has no file %q", ps[0].Name, ps[0].Version, file)
}

// blob reads a file that is either in a package or on disk.
func (a *assembler) blob(ctx context.Context, user string, p *spec.Package, f *spec.File) ([]byte, error) {
	var data []byte
	var err error
	if p != nil {
		data, err = a.packageFile(ctx, user, p.Path)
	} else {
		data, err = a.localFile(ctx, f)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", user, err)
	}
	return data, nil
}

func (a *assembler) stub(ctx context.Context) (err error) {
	a.in.Stub, err = a.blob(ctx, "stub", a.Spec.Stub.Debian, a.Spec.Stub.File)
	return err
}

func (a *assembler) firmware(ctx context.Context) error {
	for _, f := range a.Spec.Firmware {
		data, err := a.blob(ctx, "firmware."+f.Name, f.Debian, f.File)
		if err != nil {
			return err
		}
		if f.Vars == "blank" {
			vars, err := a.packageFile(ctx, "vars", lock.VarsFile)
			if err != nil {
				return fmt.Errorf("vars: %w", err)
			}
			if data, err = blankVars(data, vars); err != nil {
				return fmt.Errorf("firmware %s: %w", f.Name, err)
			}
		}
		a.in.Firmware = append(a.in.Firmware, mkimage.FirmwareInput{Name: f.Name, Vars: f.Vars, Data: data})
	}
	return nil
}

// varsSize is the size in bytes of the variable store of a 4 MiB OVMF: FD_SIZE_4MB in edk2's
// OvmfPkg/Include/Fdf/OvmfPkgDefines.fdf.inc.
const varsSize = 0x84000

// blankVars puts a blank variable store over the one a firmware begins with. Both must be firmware volumes
// (UEFI PI 1.8, volume 3, 3.2.1: signature "_FVH" at byte 40).
func blankVars(firmware, vars []byte) ([]byte, error) {
	if len(vars) != varsSize || string(vars[40:44]) != "_FVH" {
		return nil, fmt.Errorf("blank variable store: %d bytes, want a firmware volume of %d", len(vars), varsSize)
	}
	if len(firmware) != 4<<20 || string(firmware[40:44]) != "_FVH" {
		return nil, fmt.Errorf("%d bytes, want a firmware of 4 MiB that begins with its variable store (vars: blank)", len(firmware))
	}
	return append(bytes.Clone(vars), firmware[varsSize:]...), nil
}

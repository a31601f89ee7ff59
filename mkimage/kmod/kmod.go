// Package kmod finds the modules an initrd needs and the order to load them in.
//
// The initrd file /modules lists absolute paths of uncompressed modules in load order, one a line, each
// line ended by "\n". The init loads them top down; a module whose device is absent (ENODEV) is passed
// over, one that is already there (EEXIST) too, any other error stops the boot.
package kmod

import (
	"errors"

	"tally/mkimage/tree"
)

// A Module is one kernel module of a closure.
type Module struct {
	Name string // normalised: "-" is written "_"
	Path string // in the tree it came from, e.g. "usr/lib/modules/6.12.0/kernel/fs/erofs/erofs.ko.xz"
	Data []byte // the decompressed ELF file with its appended signature
}

// Release returns the only kernel release that has a module directory in t.
func Release(t *tree.Tree) (string, error) { return "", errors.New("kmod: not written yet") }

// Closure returns the named modules and all they need in load order; built-in ones are left out.
func Closure(t *tree.Tree, release string, names []string) ([]Module, error) {
	return nil, errors.New("kmod: not written yet")
}

// Install adds modules to the initrd as lib/modules/NAME.ko and the list file modules.
func Install(initrd *tree.Tree, mods []Module) error { return errors.New("kmod: not written yet") }

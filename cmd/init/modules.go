//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"unsafe"
)

const (
	sysFinitModule       = 313 // x86-64; package syscall has no name for it
	moduleCompressedFile = 4   // MODULE_INIT_COMPRESSED_FILE: the kernel decompresses

	maxModules = 512
)

// parseModules reads the list that mkimage/kmod wrote: absolute paths in load order, one a line.
func parseModules(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	body, ok := strings.CutSuffix(text, "\n")
	if !ok {
		return nil, errors.New("the last line has no end")
	}
	lines := strings.Split(body, "\n")
	if len(lines) > maxModules {
		return nil, fmt.Errorf("%d lines, want at most %d", len(lines), maxModules)
	}
	for i, l := range lines {
		if !path.IsAbs(l) || path.Clean(l) != l {
			return nil, fmt.Errorf("line %d: %.80q: want an absolute path", i+1, l)
		}
	}
	return lines, nil
}

// loadModules loads what the list names and returns how many. Drivers for hardware that is not there
// (ENODEV: sev-guest on a TDX machine) and modules already loaded (EEXIST) are passed over. A module that needs a
// driver so passed over is an error: nvidia-uvm is in the list of an image that wants a GPU.
func loadModules(list string) (int, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return 0, err
	}
	paths, err := parseModules(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", list, err)
	}
	var idle []string // drivers that found no device
	for _, p := range paths {
		switch err := loadModule(p); {
		case errors.Is(err, syscall.ENODEV):
			idle = append(idle, strings.TrimSuffix(strings.TrimSuffix(path.Base(p), ".xz"), ".ko"))
		case errors.Is(err, syscall.EEXIST):
		case err != nil:
			return 0, fmt.Errorf("module %s: %w", p, because(err, idle))
		}
	}
	return len(paths), nil
}

// because says in words why the kernel took no module when it answers ENOENT, its word for a symbol that no loaded
// module has. A file that is not there is an error of package os, with its path.
func because(err error, idle []string) error {
	if e, ok := err.(syscall.Errno); !ok || e != syscall.ENOENT || len(idle) == 0 {
		return err
	}
	return fmt.Errorf("needs a driver that is not loaded; no device was found for %s", strings.Join(idle, ", "))
}

func loadModule(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	var flags uintptr
	if !strings.HasSuffix(p, ".ko") {
		flags = moduleCompressedFile
	}
	var params [1]byte // no parameters: an empty C string
	if _, _, e := syscall.Syscall(sysFinitModule, f.Fd(), uintptr(unsafe.Pointer(&params[0])), flags); e != 0 {
		return e
	}
	return nil
}

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
// (ENODEV: sev-guest on a TDX machine) and modules already loaded (EEXIST) are passed over.
func loadModules(list string) (int, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return 0, err
	}
	paths, err := parseModules(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", list, err)
	}
	for _, p := range paths {
		switch err := loadModule(p); {
		case errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EEXIST):
		case err != nil:
			return 0, fmt.Errorf("module %s: %w", p, err)
		}
	}
	return len(paths), nil
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

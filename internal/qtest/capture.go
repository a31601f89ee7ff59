package qtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A Program is a QEMU, by what it says and what it is.
type Program struct {
	Version string `json:"version"` // first line of --version
	SHA256  string `json:"sha256"`  // of the file
}

// maxProgram is the largest program hashed, in bytes.
const maxProgram = 1 << 30

// Identify says which QEMU the program at path is.
func Identify(ctx context.Context, path string) (*Program, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err := io.Copy(h, io.LimitReader(f, maxProgram+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	} else if n > maxProgram {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxProgram)
	}
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if !strings.HasPrefix(line, "QEMU emulator version ") || len(line) > 200 || strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return nil, fmt.Errorf("%s --version: %.80q, want QEMU's", path, line)
	}
	return &Program{line, hex.EncodeToString(h.Sum(nil))}, nil
}

// ACPI is what a machine hands its firmware.
type ACPI struct {
	Tables, Loader, RSDP []byte // etc/acpi/tables, etc/table-loader, etc/acpi/rsdp
	SMBIOS               []byte // etc/smbios/smbios-tables: without the firmware's own structures
	Window               bool   // a device has a 64-bit BAR, so that there is a 64-bit window

	// Config names what else of fw_cfg edk2 from 202505 on measures and is not as on a plain machine.
	Config []string
}

// configFiles are the fw_cfg files that edk2 measures when they are there and not empty (edk2
// OvmfPkg/Library/QemuFwCfgLib/QemuFwCfgCacheInit.c). bootorder is, too: see bootorder.
var configFiles = []string{"etc/extra-pci-roots", "etc/boot-menu-wait", "etc/reserved-memory-end", "opt/ovmf/X-PciMmio64Mb"}

// bootorder is that of a machine with -kernel and no bootindex=.
const bootorder = "/rom@genroms/linuxboot_dma.bin\x00"

// otherConfig finds what is not as on a plain machine.
func (m *Machine) otherConfig() ([]string, error) {
	const keyBootMenu = 0x0e
	menu, err := m.Item(keyBootMenu, 2)
	if err != nil {
		return nil, err
	}
	var found []string
	if menu[0] != 0 || menu[1] != 0 {
		found = append(found, "BootMenu")
	}
	files, err := m.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if slices.Contains(configFiles, f.Name) && f.Size > 0 {
			found = append(found, f.Name)
		}
		if f.Name != "bootorder" || f.Size == 0 {
			continue
		}
		b, err := m.Item(f.Key, f.Size)
		if err != nil {
			return nil, err
		}
		if string(b) != bootorder {
			found = append(found, f.Name)
		}
	}
	return found, nil
}

// Capture starts the machine that args describe, programs it as edk2 does, and reads its ACPI files.
func Capture(ctx context.Context, path string, args []string, physBits int) (*ACPI, error) {
	m, err := Start(ctx, path, args)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	a := new(ACPI)
	if a.Window, err = m.ProgramQ35(physBits); err != nil {
		return nil, err
	}
	if a.Config, err = m.otherConfig(); err != nil {
		return nil, err
	}
	// QEMU builds the files when the first of them is selected.
	for _, f := range []struct {
		name string
		to   *[]byte
	}{{"etc/acpi/tables", &a.Tables}, {"etc/table-loader", &a.Loader}, {"etc/acpi/rsdp", &a.RSDP}, {"etc/smbios/smbios-tables", &a.SMBIOS}} {
		if *f.to, err = m.ReadFile(f.name); err != nil {
			return nil, err
		}
		if *f.to == nil {
			return nil, fmt.Errorf("QEMU: no fw_cfg file %q", f.name)
		}
	}
	return a, nil
}

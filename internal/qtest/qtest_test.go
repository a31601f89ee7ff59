package qtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/internal/testtool"
)

func withLimit(t *testing.T) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(stop)
	return ctx
}

// TestCapture reads two machines' files: what they say follows the arguments, and nothing else.
func TestCapture(t *testing.T) {
	qemu := testtool.Need(t, "qemu-system-x86_64")
	ctx := withLimit(t)
	capture := func(physBits int, args ...string) *ACPI {
		t.Helper()
		a, err := Capture(ctx, qemu, append([]string{"-machine", "q35"}, args...), physBits)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	device := []string{"-device", "virtio-rng-pci", "-cpu", "qemu64,phys-bits=46"}
	one := capture(46, device...)
	if again := capture(46, device...); !bytes.Equal(one.Tables, again.Tables) || !bytes.Equal(one.Loader, again.Loader) || !bytes.Equal(one.RSDP, again.RSDP) {
		t.Error("two captures of one machine differ")
	}
	if string(one.Tables[:4]) != "FACS" || string(one.RSDP[:8]) != "RSD PTR " || len(one.Loader)%4096 != 0 || len(one.SMBIOS) == 0 || !one.Window {
		t.Errorf("tables %q, rsdp %q, loader of %d bytes, smbios of %d, window %v", one.Tables[:4], one.RSDP, len(one.Loader), len(one.SMBIOS), one.Window)
	}
	// MCFG holds the base that was programmed.
	mcfg := bytes.Index(one.Tables, []byte("MCFG"))
	if mcfg < 0 || binary.LittleEndian.Uint64(one.Tables[mcfg+44:]) != 0xe0000000 {
		t.Errorf("MCFG at %d does not name the PCI Express base", mcfg)
	}
	for name, other := range map[string]*ACPI{
		"vCPUs":     capture(46, append(device, "-smp", "2")...),
		"devices":   capture(46, append(device, "-device", "virtio-balloon-pci")...),
		"phys bits": capture(40, device...),
	} {
		if bytes.Equal(one.Tables, other.Tables) {
			t.Errorf("%s do not change the tables", name)
		}
	}
	if a := capture(46); a.Window || len(a.Config) != 0 {
		t.Errorf("a window without a device, or other configuration: %q", a.Config)
	}
	a := capture(46, "-boot", "menu=on,splash-time=100", "-device", "pxb-pcie,id=p,bus_nr=8,bus=pcie.0", "-device", "virtio-net-pci,bus=pcie.0,bootindex=1,romfile=")
	slices.Sort(a.Config)
	if want := []string{"BootMenu", "bootorder", "etc/boot-menu-wait", "etc/extra-pci-roots"}; !slices.Equal(a.Config, want) {
		t.Errorf("configuration %q, want %q", a.Config, want)
	}
}

func TestRefusals(t *testing.T) {
	qemu := testtool.Need(t, "qemu-system-x86_64")
	ctx := withLimit(t)
	for name, c := range map[string]struct {
		args []string
		bits int
		want string
	}{
		"accelerator":  {[]string{"-machine", "q35", "-accel", "kvm"}, 46, `"-accel": the accelerator is set here`},
		"two dashes":   {[]string{"--accel", "kvm"}, 46, `"--accel"`},
		"by machine":   {[]string{"-machine", "q35,accel=kvm"}, 46, "without protection or accelerator"},
		"protection":   {[]string{"-machine", "q35,confidential-guest-support=tdx0"}, 46, "without protection"},
		"object":       {[]string{"-object", "tdx-guest,id=tdx0"}, 46, "without protection"},
		"config":       {[]string{"-readconfig", "/etc/passwd"}, 46, "name the options themselves"},
		"line":         {[]string{"-name", "a\nquit"}, 46, "control characters"},
		"other":        {[]string{"-machine", "pc"}, 46, "not a q35 machine"},
		"bits":         {[]string{"-machine", "q35"}, 64, "want 36 to 52"},
		"QEMU refuses": {[]string{"-machine", "q35", "-device", "nothing"}, 46, "QEMU ended: "},
	} {
		if a, err := Capture(ctx, qemu, c.args, c.bits); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, a != nil, err, c.want)
		}
	}
	if _, err := Capture(ctx, filepath.Join(t.TempDir(), "none"), nil, 46); err == nil {
		t.Error("no program: no error")
	}
}

// TestOtherPrograms talks to what is no QEMU.
func TestOtherPrograms(t *testing.T) {
	ctx := withLimit(t)
	for name, c := range map[string]struct{ script, want string }{
		"silent":  {"exit 0", "QEMU ended"},
		"says":    {"echo no such machine >&2; exit 1", "QEMU ended: no such machine"},
		"answers": {"read x; echo hello; read x", `answer "hello"`},
		"version": {`test "$1" = --version && echo "QEMU emulator version 1" && exit; read x; echo FAIL`, `answer "FAIL"`},
	} {
		path := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Capture(ctx, path, nil, 46); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want one with %q", name, err, c.want)
		}
		p, err := Identify(ctx, path)
		if name == "version" && (err != nil || p.Version != "QEMU emulator version 1" || len(p.SHA256) != 64) {
			t.Errorf("%s: %+v, %v", name, p, err)
		} else if name != "version" && err == nil {
			t.Errorf("%s: identified as %+v", name, p)
		}
	}
}

func FuzzDirectory(f *testing.F) {
	f.Add(make([]byte, 2*fileEntry+3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(directory(b)); n != len(b)/fileEntry {
			t.Errorf("%d files in %d bytes", n, len(b))
		}
	})
}

package spec

import (
	"fmt"
	"slices"
)

// What the checker says of all that is not in the root: devices, what boots, the firmware, the outputs.

func (c checker) checkDevices() error {
	if c.s.Config != nil {
		if err := c.local("config.path", c.s.Config.Path); err != nil {
			return err
		}
	}
	if n := len(c.s.Devices); n > maxList {
		return c.fail("devices", "devices: %d, want at most %d", n, maxList)
	}
	for i, d := range c.s.Devices {
		at := fmt.Sprintf("devices.%d", i)
		switch {
		case d.Type != "char" && d.Type != "block":
			return c.fail(at+".type", "type %.40q: want char or block", d.Type)
		case d.Major > 0xfff || d.Minor > 0xfffff:
			return c.fail(at, "device %d:%d: want at most 4095:1048575", d.Major, d.Minor)
		case d.Mode > 0o7777:
			return c.fail(at+".mode", "mode %#o: want at most 07777", d.Mode)
		}
		if err := c.target(at+".path", d.Path, false); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) checkBoot() error {
	s := c.s
	if err := c.one("init", "init", []string{"go", "file"}, []bool{s.Init.Go != nil, s.Init.File != nil}); err != nil {
		return err
	}
	if g := s.Init.Go; g != nil {
		if err := c.program("init.go", g); err != nil {
			return err
		}
		if g.Target != "" || g.Mode != nil || g.UID != 0 || g.GID != 0 || g.Replace {
			return c.fail("init.go", "target, mode, uid, gid and replace: the initrd's init is always /init, with mode 0755 and owner 0:0")
		}
	} else if err := c.blobFile("init.file", s.Init.File); err != nil {
		return err
	}
	if err := c.pkg("kernel.debian", &s.Kernel.Debian, false); err != nil {
		return err
	}
	if len(s.Modules) > maxList {
		return c.fail("modules", "modules: %d, want at most %d", len(s.Modules), maxList)
	}
	for i, m := range s.Modules {
		if !moduleForm.MatchString(m) || slices.Contains(s.Modules[:i], m) {
			return c.fail(fmt.Sprintf("modules.%d", i), "module %.80q: want a module name, once", m)
		}
	}
	return c.blob("stub", s.Stub.Debian, s.Stub.File)
}

// blob checks one file from a package or from the disk.
func (c checker) blob(at string, p *Package, f *File) error {
	if err := c.one(at, at, []string{"debian", "file"}, []bool{p != nil, f != nil}); err != nil {
		return err
	}
	if p != nil {
		return c.pkg(at+".debian", p, true)
	}
	return c.blobFile(at+".file", f)
}

// blobFile checks a file that does not go into the root.
func (c checker) blobFile(at string, f *File) error {
	if f.Target != "" || f.Executable || f.Mode != nil || f.UID != 0 || f.GID != 0 || f.Replace {
		return c.fail(at, "target, executable, mode, uid, gid and replace: only for a file of the root")
	}
	if err := c.decompress(at+".decompress", f.Decompress); err != nil {
		return err
	}
	return c.local(at+".path", f.Path)
}

func (c checker) pkg(at string, p *Package, wantPath bool) error {
	if err := c.suites(at, p.Suites, &p.Components); err != nil {
		return err
	}
	if !pkgForm.MatchString(p.Package) {
		return c.fail(at+".package", "package %.140q: want a package name", p.Package)
	}
	if !wantPath {
		if p.Path != "" {
			return c.fail(at+".path", "path: the kernel is found by itself")
		}
		return nil
	}
	return c.target(at+".path", p.Path, false)
}

func (c checker) checkFirmware() error {
	if n := len(c.s.Firmware); n == 0 || n > maxList {
		return c.fail("firmware", "firmware: %d files, want 1 to %d", n, maxList)
	}
	seen := map[string]bool{}
	for i := range c.s.Firmware {
		f, at := &c.s.Firmware[i], fmt.Sprintf("firmware.%d", i)
		if !nameForm.MatchString(f.Name) || seen[f.Name] {
			return c.fail(at+".name", "name %.80q: want lower-case letters, digits, dots and hyphens, once", f.Name)
		}
		seen[f.Name] = true
		if f.Vars != "as-is" && f.Vars != "blank" {
			return c.fail(at+".vars", "vars %.40q: want as-is or blank", f.Vars)
		}
		if err := c.blob(at, f.Debian, f.File); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) checkOutputs() error {
	for i, name := range c.s.Outputs {
		if name != "disk.qcow2" && name != "disk.tar.gz" || slices.Contains(c.s.Outputs[:i], name) {
			return c.fail(fmt.Sprintf("outputs.%d", i), "output %.80q: want disk.qcow2 or disk.tar.gz, once", name)
		}
	}
	return nil
}

package compare_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/compare"
)

// TestMeasuredOutsideOfTheUKI changes what is measured in other places than the sections of a UKI, or what cannot be
// read any more. What systemd-stub does with addons and credentials of the ESP is in systemd-stub(7); a boot in
// internal/e2e shows it. Nothing may be called unmeasured because it was not understood.
func TestMeasuredOutsideOfTheUKI(t *testing.T) {
	const moves, mayMove = "no register moves", "a register may move"
	everything := []string{"PCR 4", "PCR 5", "PCR 9", "PCR 11", "PCR 12", "PCR 13", "TDX RTMR1", "TDX RTMR2"}
	program, addon, other, text := temp(t, "p", kernel("6.1-x")), temp(t, "a.addon.efi", stub("257.1")), temp(t, "a.addon.efi", stub("257.2")), temp(t, "x.txt", []byte("text"))
	esp := func(commands ...[]string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for _, c := range commands {
				tool(t, c[0], append([]string{"-i", filepath.Join(dir, "disk.raw") + "@@1048576"}, c[1:]...)...)
			}
		}
	}
	withAddon := func(file string) func(t *testing.T, dir string) {
		return esp([]string{"mmd", "::/loader", "::/loader/addons"}, []string{"mcopy", "-m", file, "::/loader/addons/a.addon.efi"})
	}
	flips := func(name string, offsets ...int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for _, off := range offsets {
				flip(t, filepath.Join(dir, name), off)
			}
		}
	}
	write := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	inUKI := indexOf(t, filepath.Join(base(t), "disk.raw"), []byte("systemd-stub 257.9"))
	for _, c := range []struct {
		name string
		a, b func(t *testing.T, dir string)
		want []string
		note string
	}{
		{"addon added", nil, withAddon(addon), []string{"PCR 4", "PCR 9", "PCR 12", "TDX RTMR1", "TDX RTMR2"}, ""},
		{"addon changed", withAddon(addon), withAddon(other), []string{"PCR 4", "PCR 9", "PCR 12", "TDX RTMR1", "TDX RTMR2"}, ""},
		{"credential", nil, esp([]string{"mmd", "::/EFI/BOOT/BOOTX64.EFI.extra.d"}, []string{"mcopy", text, "::/EFI/BOOT/BOOTX64.EFI.extra.d/x.cred"}), []string{"PCR 9", "PCR 12", "PCR 13", "TDX RTMR2"}, ""},
		{"boot program renamed", nil, esp([]string{"mren", "::/EFI/BOOT/BOOTX64.EFI", "OTHER.EFI"}), without(everything, "PCR 5"), ""},
		{"boot program replaced", nil, esp([]string{"mcopy", "-o", text, "::/EFI/BOOT/BOOTX64.EFI"}), without(everything, "PCR 5"), ""},
		{"program without a name", nil, esp([]string{"mcopy", program, "::/program"}), without(everything, "PCR 5"), ""},
		{"file beside the UKI", nil, esp([]string{"mcopy", text, "::/x.txt"}), nil, mayMove},
		{"empty directory", nil, esp([]string{"mmd", "::/empty"}), nil, moves},
		{"volume serial", nil, flips("disk.raw", 1<<20+67, 1<<20+6*512+67), nil, moves},
		{"ESP not readable", nil, flips("disk.raw", 1<<20, inUKI), without(everything, "PCR 5"), ""},
		{"UKI not readable", nil, flips("uki.efi", 0x80+7), []string{"PCR 4", "PCR 9", "PCR 11", "TDX RTMR1", "TDX RTMR2"}, ""},
		{"no UKI", nil, remove("uki.efi"), []string{"PCR 4", "PCR 9", "PCR 11", "TDX RTMR1", "TDX RTMR2"}, ""},
		{"no disk", nil, remove("disk.raw"), everything, ""},
		{"no partition table", nil, flips("disk.raw", 512), everything, ""},
		{"another form of the disk", write("disk.qcow2", "one"), write("disk.qcow2", "two"), everything, ""},
		{"what nobody knows", write("bios.bin", "one"), write("bios.bin", "two"), nil, mayMove},
		{"source", write("sources.tar", "one"), write("sources.tar", "two"), nil, moves},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := copyDir(t, base(t)), copyDir(t, base(t))
			for dir, change := range map[string]func(*testing.T, string){a: c.a, b: c.b} {
				if change != nil {
					change(t, dir)
				}
			}
			r := paths(t, a, b, compare.Options{})
			if d := cmp.Diff(c.want, registers(r)); d != "" || r.Equal {
				t.Errorf("registers (-want +got):\n%s%q", d, r.Notes)
			}
			for _, note := range []string{moves, mayMove} {
				if got := strings.Contains(strings.Join(r.Notes, "\n"), note); got != (note == c.note) {
					t.Errorf("notes %q, want %q", r.Notes, c.note)
				}
			}
		})
	}
}

// TestKernelInTheESP: a kernel that the firmware starts from the ESP is the one of a direct boot, too, and is
// explained there.
func TestKernelInTheESP(t *testing.T) {
	var dirs [2]string
	for i, version := range []string{"6.12.3-test", "6.12.4-test"} {
		dirs[i] = copyDir(t, base(t))
		file := filepath.Join(dirs[i], "vmlinuz")
		if err := os.WriteFile(file, kernel(version), 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "mcopy", "-o", "-m", "-i", filepath.Join(dirs[i], "disk.raw")+"@@1048576", file, "::/EFI/BOOT/BOOTX64.EFI")
	}
	r := paths(t, dirs[0], dirs[1], compare.Options{})
	if got := registers(r); !slices.Contains(got, "PCR 4") || !slices.Contains(got, "SNP launch digest") {
		t.Errorf("registers %q, notes %q", got, r.Notes)
	}
}

// TestDiskUnread: of a lone disk whose table is gone, any part may differ.
func TestDiskUnread(t *testing.T) {
	disk := read(t, base(t), "disk.raw")
	gone := bytes.Clone(disk)
	clear(gone[512:1024])
	if got := registers(files(t, disk, gone)); !slices.Contains(got, "PCR 5") || !slices.Contains(got, "PCR 11") {
		t.Errorf("registers %q", got)
	}
}

func registers(r *compare.Report) (all []string) {
	for _, reg := range r.Registers {
		all = append(all, reg.Name)
	}
	return all
}

func without(all []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == name })
}

func remove(name string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// temp writes a file of that name and returns its path.
func temp(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

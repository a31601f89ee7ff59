package measure

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"tally/internal/petest"
)

// A countingFS counts how often each file is opened.
type countingFS struct {
	fstest.MapFS
	opened map[string]int
}

func (c countingFS) Open(name string) (fs.File, error) {
	c.opened[name]++
	return c.MapFS.Open(name)
}

// TestEachFileIsReadOnce, whatever kinds of hash the platforms take of it.
func TestEachFileIsReadOnce(t *testing.T) {
	snp := `{"name":"q","tee":"snp","vmm":"QEMU","firmware":"amdsev","kernel-hashes":true,"vcpu-type":"EPYC-v4","vcpus":[1,2],"guest-features":1},`
	ps, err := ParsePlatforms([]byte("[" + snp + ukiPlatform[1:len(ukiPlatform)-1] + "," + tdxPlatform("direct", tdxRulesDirect)[1:]))
	if err != nil {
		t.Fatal(err)
	}
	cmdline, kernel := "roothash="+root, string(petest.Image(".text", "kernel"))
	fsys := outOf(t, kernel, "initrd", cmdline)
	add(t, fsys, "uki.efi", "uki", petest.UKI("257.13", cmdline, kernel, "initrd"))
	c := countingFS{fsys, map[string]int{}}
	if _, err := Image(t.Context(), c, ps); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vmlinuz", "initrd", "uki.efi", "cmdline"} {
		if c.opened[name] != 1 {
			t.Errorf("%s was opened %d times", name, c.opened[name])
		}
	}
}

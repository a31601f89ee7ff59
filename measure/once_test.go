package measure

import (
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"tally/internal/petest"
	"tally/measure/internal/once"
)

// A countingFS counts how often each file is opened and how many bytes of it are read in order.
type countingFS struct {
	fstest.MapFS
	opened map[string]int
	read   map[string]int
}

func (c countingFS) Open(name string) (fs.File, error) {
	c.opened[name]++
	f, err := c.MapFS.Open(name)
	return countingFile{f, name, c}, err
}

type countingFile struct {
	fs.File
	name string
	fs   countingFS
}

func (f countingFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.fs.read[f.name] += n
	return n, err
}

func (f countingFile) ReadAt(b []byte, off int64) (int, error) {
	return f.File.(io.ReaderAt).ReadAt(b, off)
}

// everyKind is platforms of all kinds; again holds each a second time, under another name.
func everyKind() (list, again string) {
	snp := `{"name":"q","tee":"snp","vmm":"QEMU","firmware":"amdsev","kernel-hashes":true,"vcpu-type":"EPYC-v4","vcpus":[1,2],"guest-features":1},`
	list = snp + ukiPlatform[1:len(ukiPlatform)-1] + "," + inner(tdxPlatform("direct", tdxRulesDirect)) + "," + strings.Replace(inner(tdxPlatform("uki", tdxRulesDirect)), `"name":"t"`, `"name":"tu"`, 1) +
		"," + inner(vtpmPlatform) + `,{"name":"w","tee":"vtpm","bank":"sha384","secure-boot":"empty"}`
	return list, list + "," + strings.ReplaceAll(list, `"name":"`, `"name":"again-`)
}

// inner is a JSON list without its brackets.
func inner(list string) string { return list[1 : len(list)-1] }

// TestEachFileIsReadAndHashedOnce, whatever kinds of hash the platforms take of it, and however many of them
// and of their shapes there are.
func TestEachFileIsReadAndHashedOnce(t *testing.T) {
	cmdline := "roothash=" + root
	kernel, initrd := string(petest.Image(".text", strings.Repeat("kernel", 40<<10))), strings.Repeat("initrd", 50<<10)
	inside := strings.Repeat("inside", 60<<10)
	uki := petest.UKI("257.13", cmdline, inside, initrd)
	list, again := everyKind()
	var fed [2][2]int64
	for i, text := range []string{list, again} {
		ps, err := ParsePlatforms([]byte("[" + text + "]"))
		if err != nil {
			t.Fatal(err)
		}
		fsys := outOf(t, kernel, initrd, cmdline)
		add(t, fsys, "uki.efi", "uki", uki)
		add(t, fsys, "disk.raw", "disk", gptDisk())
		c, hashes := countingFS{fsys, map[string]int{}, map[string]int{}}, new(once.Hashes)
		if _, err := measureImage(t.Context(), c, ps, hashes); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"vmlinuz", "initrd", "uki.efi", "cmdline"} {
			if c.opened[name] != 1 || c.read[name] != len(fsys[name].Data) {
				t.Errorf("%s was opened %d times, %d bytes read of %d", name, c.opened[name], c.read[name], len(fsys[name].Data))
			}
		}
		if c.read["disk.raw"] != len(gptDisk()) {
			t.Errorf("disk.raw: %d bytes read of %d", c.read["disk.raw"], len(gptDisk()))
		}
		fed[i] = [2]int64{hashes.Fed("sha256"), hashes.Fed("sha384")}
	}
	linux := len(petest.Image(".text", inside))
	// Of a UKI: its Authenticode, that of the kernel in it, and the contents of its two large sections.
	parts := int64(len(uki) + linux + linux + len(initrd))
	want := [2]int64{int64(len(kernel)+len(initrd)+len(uki)) + parts, int64(len(kernel)) + parts}
	if fed[0] != want || fed[1] != want {
		t.Errorf("SHA-256 and SHA-384 took %v bytes, with each platform twice %v; want %v", fed[0], fed[1], want)
	}
}

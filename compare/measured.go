package compare

import (
	"path"
	"slices"
	"strings"
)

// unmeasured are the artefacts that nothing boots; a model volume is measured through the root file system alone.
var unmeasured = []string{manifestName, sbomName, valuesName, lockName, "image.yaml", "sources.tar"}

func isUnmeasured(name string) bool {
	return slices.Contains(unmeasured, name) || strings.HasPrefix(name, "models/")
}

// isMeasured says whether an artefact is one whose parts are measured, and found when it is taken apart.
func isMeasured(name string) bool {
	return slices.Contains([]string{"vmlinuz", "initrd", "cmdline", "uki.efi"}, name) || isDisk(name) || strings.HasPrefix(name, "firmware/")
}

// isDisk says whether an artefact is disk.raw or another form of it.
func isDisk(name string) bool {
	return name == "disk.raw" || name == "disk.qcow2" || name == "disk.tar.gz"
}

// wholly names the parts of an artefact that differs as a whole, or that could not be taken apart.
func (c *comparer) wholly(name, because string) {
	switch {
	case name == "vmlinuz":
		c.part("kernel", because)
	case name == "initrd", name == "cmdline":
		c.part(name, because)
	case name == "uki.efi":
		c.part("uki unread", because)
	case isDisk(name):
		c.diskUnread(because)
	}
}

// diskUnread: all that a UKI boot measures of a disk may differ.
func (c *comparer) diskUnread(because string) {
	c.part("gpt", because)
	c.part("esp", because)
}

// espPart says that a path of the ESP differs and was not taken apart as a UKI: n and m are its entries, of which
// one may be missing. What is no program and lies in no place of the stub is read by other boot loaders alone.
func (c *comparer) espPart(where string, n, m *node) {
	if n == nil {
		n = m
	}
	program := strings.HasSuffix(strings.ToLower(n.path), ".efi") || n.kind == "directory"
	for _, e := range []*node{n, m} {
		program = program || e != nil && e.content != nil && kindOf(e.content) == kindUKI
	}
	lower := strings.ToLower(strings.Trim(n.path, "/")) // FAT knows no case
	dir := path.Dir(lower)
	name := "esp"
	switch stubs := dir == "loader/addons" || dir == "loader/credentials" || strings.HasSuffix(dir, ".extra.d"); {
	case stubs && strings.HasSuffix(lower, ".addon.efi"):
		name = "esp addon"
	case stubs:
		name = "esp extra"
	case !program:
		c.unsure = true
		return
	}
	c.part(name, within(where, n.path)+" (if the firmware or the stub reads it)")
}

package lock

import (
	"context"
	"strings"
	"testing"
)

// TestKernelPackages: Debian 14 splits what was one package. The stanzas are those of 7.2.13-1, shortened.
func TestKernelPackages(t *testing.T) {
	const v = "7.2.13+deb14-cloud-amd64"
	meta := stanza("linux-image-cloud-amd64", "7.2.13-1", "Depends: linux-image-"+v+" (= 7.2.13-1)\n")
	image := func(depends string) string {
		return stanza("linux-image-"+v, "7.2.13-1", "Depends: dracut | initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool"+depends+"\nPre-Depends: linux-base (>= 4.17~)\n")
	}
	base, binary, modules := stanza("linux-base-"+v, "7.2.13-1", ""), stanza("linux-binary-"+v, "7.2.13-1", "Depends: linux-base-"+v+" (= 7.2.13-1)\n"), stanza("linux-modules-"+v, "7.2.13-1", "")
	split := ", linux-base-" + v + " (= 7.2.13-1), linux-binary-" + v + " (= 7.2.13-1), linux-modules-" + v + " (= 7.2.13-1)"
	k := newArchiveKey(t)
	for name, c := range map[string]struct {
		packages []string
		names    string // in the lock, or what the error says
	}{
		"split":               {[]string{meta, image(split), base, binary, modules}, "linux-base-" + v + " linux-binary-" + v + " linux-modules-" + v},
		"without metapackage": {[]string{strings.Replace(image(split), "-image-"+v, "-image-cloud-amd64", 1), base, binary, modules}, "linux-base-" + v + " linux-binary-" + v + " linux-modules-" + v},
		"whole":               {[]string{meta, image(", linux-binary-x | linux-binary-y")}, "linux-image-" + v},
		"no modules":          {[]string{meta, image(", linux-base-" + v + ", linux-binary-" + v), base, binary, modules}, "depends on 2 of linux-base-*, linux-binary-*, linux-modules-*, want all or none"},
		"binary gone":         {[]string{meta, image(split), base, modules}, "linux-binary-" + v + " (= 7.2.13-1), which is in none"},
		"modules gone":        {[]string{meta, image(split), base, binary}, "linux-modules-" + v + " (= 7.2.13-1), which is in none"},
		"another version":     {[]string{meta, image(split), base, strings.Replace(binary, "7.2.13-1", "7.2.13-2", 1), modules}, "linux-binary-" + v + " (= 7.2.13-1), which is in none"},
		"two binaries":        {[]string{meta, image(split + ", linux-binary-x"), base, binary, modules}, "depends on 2 packages linux-binary-*, want one"},
	} {
		files := map[string][]byte{}
		addSuite(t, k, files, "/debian", "trixie", "", append(c.packages, stanza("app", "1", ""), stanza("lib", "1", ""), stanza("ovmf", "1", ""))...)
		x := newIndexer(t, k, newMirror(t, files).URL+"/debian")
		l := new(Lock)
		err := x.Debian(context.Background(), parseSpec(t, strings.ReplaceAll(indexSpec, "[trixie, trixie-security]", "[trixie]")), l)
		got := ""
		for _, p := range l.PackagesFor("kernel") {
			got += " " + p.Name
		}
		if err == nil && got != " "+c.names || err != nil && !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s:%s, %v, want %q", name, got, err, c.names)
		}
	}
}

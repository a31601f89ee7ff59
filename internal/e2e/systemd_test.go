package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tally/compare/erofs"
	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/mkimage"
)

// TestSystemdBoots builds examples/systemd in two environments, with a lock of today, and boots it: Debian's systemd
// reaches multi-user on the verity root, and no unit fails on the way.
func TestSystemdBoots(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	spec := filepath.Join(l.repo, "examples/systemd/image.yaml")
	lock, out := filepath.Join(l.dir, "systemd.lock"), filepath.Join(l.dir, "systemd")
	if msg, err := l.try(l.repo, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	manifest := read(t, filepath.Join(out, "manifest.json"))
	if string(manifest) != string(read(t, filepath.Join(l.elsewhere(t, "systemd", lock), "manifest.json"))) {
		t.Error("two builds differ")
	}
	m, err := mkimage.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if omitted := strings.Join(m.Omitted, "\n"); !strings.Contains(omitted, "package udev: usr/lib/udev/hwdb.bin") {
		t.Errorf("the manifest does not say what was left out:\n%s", omitted)
	}
	configured(t, out, m.Omitted)
	cmd := exec.Command(l.tally, "run", out, "--boot", "direct", "--accel", "tcg", "--memory", "1024", "--timeout", "8m", "--until", "Reached target multi-user.target")
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "starting /sbin/init") {
		t.Errorf("%v\n%s", err, said)
	}
	ok := 0
	for _, line := range strings.Split(string(said), "\n") {
		if strings.Contains(line, "[  OK  ]") {
			ok++
		}
		for _, word := range []string{"[FAILED]", "[ TIME ]", "[DEPEND]", "emergency mode"} {
			if strings.Contains(line, word) {
				t.Error(line)
			}
		}
	}
	if ok < 20 { // or systemd said nothing of what failed either
		t.Errorf("systemd reports %d units: want them all on the console\n%s", ok, said)
	}
}

// left says under which words the manifest names what a real installation has and the image has not.
var left = []struct{ prefix, omitted string }{
	{"etc/.pwd.lock", "etc/.pwd.lock"}, {"etc/passwd-", "etc/passwd- and its kin"}, {"etc/group-", "etc/passwd- and its kin"}, {"etc/shadow-", "etc/passwd- and its kin"},
	{"etc/gshadow-", "etc/passwd- and its kin"}, {"etc/ld.so.cache", "etc/ld.so.cache"}, {"etc/rc", "links in etc/rc?.d"}, {"usr/lib/udev/hwdb.bin", "usr/lib/udev/hwdb.bin"},
	{"var/lib/pam/", "var/lib/pam: "}, {"var/lib/shells.state", "var/lib/shells.state"}, {"var/lib/systemd/catalog", "journal catalog"},
	{"var/lib/systemd/deb-systemd-helper-enabled", "var/lib/systemd/deb-systemd-helper-enabled"},
	{"var/lib/private", "systemd-tmpfiles"}, {"var/lib/systemd/", "systemd-tmpfiles"}, {"var/log/README", "systemd-tmpfiles"}, {"var/log/journal", "systemd-tmpfiles"},
	{"var/log/private", "systemd-tmpfiles"}, {"root/.ssh", "systemd-tmpfiles"},
}

// configured holds the image against what maintainer scripts made of the same packages in a real chroot: each
// path is there in the same form, or the manifest says that it was left out.
func configured(t *testing.T, out string, omitted []string) {
	t.Helper()
	disk, err := os.Open(filepath.Join(out, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	at := layoutOf(t, out)
	image, err := erofs.Open(io.NewSectionReader(disk, at.data, at.dataSize))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	if err := image.Walk(func(p string, n *erofs.Inode) error {
		have[p[1:]] = pathLine(p[1:], n)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	says := strings.Join(omitted, "\n")
	there := 0
	for line := range strings.Lines(string(read(t, "testdata/vectors/configured/paths.txt"))) {
		want := strings.ReplaceAll(strings.TrimSuffix(line, "\n"), " -> /lib/", " -> /usr/lib/") // the same: /lib is a link
		p := strings.Fields(want)[4]
		if p == "etc/machine-id" {
			want = strings.Replace(want, "0644", "0444", 1) // as systemd itself makes it
		}
		if have[p] == want {
			there++
			continue
		}
		i := slices.IndexFunc(left, func(l struct{ prefix, omitted string }) bool { return strings.HasPrefix(p, l.prefix) })
		if have[p] != "" || i < 0 || !strings.Contains(says, left[i].omitted) {
			t.Errorf("a real installation has\n\t%s\nthe image has\n\t%s\nand the manifest does not say why", want, have[p])
		}
	}
	if there < 90 {
		t.Errorf("only %d of the paths that scripts make are there", there)
	}
}

// pathLine renders an inode as the vector does; numbers that depend on the order of installation are "-".
func pathLine(p string, n *erofs.Inode) string {
	id := func(i uint32) string {
		if i >= 100 && i < 65534 {
			return "-"
		}
		return strconv.Itoa(int(i))
	}
	kind, target := map[erofs.Kind]string{erofs.KindFile: "f", erofs.KindDir: "d", erofs.KindSymlink: "l"}[n.Kind()], ""
	if kind == "l" {
		target = " -> " + n.Target
	}
	return fmt.Sprintf("%s %04o %s %s %s%s", kind, n.Perm(), id(n.UID), id(n.GID), p, target)
}

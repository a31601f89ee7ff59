package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/mkimage"
)

// TestSystemdBoots builds examples/systemd twice, with a lock of today, and boots it: Debian's systemd
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
	l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "--jobs", "1", "-o", out+"2")
	manifest := read(t, filepath.Join(out, "manifest.json"))
	if string(manifest) != string(read(t, filepath.Join(out+"2", "manifest.json"))) {
		t.Error("two builds differ")
	}
	m, err := mkimage.ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if omitted := strings.Join(m.Omitted, "\n"); !strings.Contains(omitted, "package udev: usr/lib/udev/hwdb.bin") {
		t.Errorf("the manifest does not say what was left out:\n%s", omitted)
	}
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

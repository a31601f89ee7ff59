package e2e

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage"
	"tally/mkimage/lock"
)

// TestOutputs builds the image with every output that a spec can ask for: the other files stay as they are
// but for those that hold the spec, and a release names the new ones.
func TestOutputs(t *testing.T) {
	l := built(t)
	qemuImg := testtool.Need(t, "qemu-img")
	spec := filepath.Join(l.clone(t, "outputs clone"), "examples/minimal/image.yaml")
	text := append(read(t, spec), "\noutputs: [disk.qcow2, disk.tar.gz]\n"...)
	k, err := lock.Parse(read(t, l.lock), l.lock)
	if err != nil {
		t.Fatal(err)
	}
	k.Spec = sha256.Sum256(text)
	pinned, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	lockFile, out := filepath.Join(l.dir, "outputs.lock"), filepath.Join(l.dir, "outputs")
	for name, data := range map[string][]byte{spec: text, lockFile: pinned} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.tallyMust(t, "build", spec, "--lock", lockFile, "--cache", l.cache, "-o", out)
	m, err := mkimage.ParseManifest(read(t, filepath.Join(out, "manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	before, err := mkimage.ParseManifest(read(t, filepath.Join(l.out, "manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range before.Artifacts {
		if a.Role != "spec" && a.Role != "lock" && a.Role != "sources" && (m.Artifact(a.Name) == nil || *m.Artifact(a.Name) != a) {
			t.Errorf("%s: was %v, is %v", a.Name, a, m.Artifact(a.Name))
		}
	}
	if len(m.Artifacts) != len(before.Artifacts)+2 {
		t.Errorf("%d files, want two more than %d", len(m.Artifacts), len(before.Artifacts))
	}
	command(t, out, qemuImg, "compare", "-f", "raw", "-F", "qcow2", "disk.raw", "disk.qcow2")
	command(t, out, testtool.Need(t, "sh"), "-c", `tar -xzOf disk.tar.gz disk.raw | cmp -n "$(stat -c %s disk.raw)" - disk.raw`)
	if fi, err := os.Stat(filepath.Join(out, "disk.qcow2")); err != nil || fi.Size() != m.Artifact("disk.qcow2").Size {
		t.Errorf("disk.qcow2: %v, %v", fi, err)
	}
}

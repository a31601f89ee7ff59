package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/mkimage"
)

// builtOCI builds examples/oci from its committed lock or, when an input is gone from the world, from a scratch
// lock, measures and signs it. It returns the lock and the output.
func (l *line) builtOCI(t *testing.T) (lock, out string) {
	t.Helper()
	spec := filepath.Join(l.repo, "examples/oci/image.yaml")
	lock, out = filepath.Join(l.repo, "examples/oci/image.lock"), filepath.Join(l.dir, "oci")
	if _, err := os.Stat(out); err == nil {
		if scratch := filepath.Join(l.dir, "oci.lock"); exists(scratch) {
			lock = scratch
		}
		return lock, out
	}
	if msg, err := l.try(l.repo, nil, "build", spec, "--cache", l.cache, "-o", out); err != nil {
		t.Logf("the committed lock cannot be built here: %s", msg)
		lock = filepath.Join(l.dir, "oci.lock")
		if msg, err := l.try(l.repo, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
			testtool.Missing(t, "no Debian mirror can be reached: "+msg)
		}
		l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	}
	l.tallyMust(t, "measure", "image", out)
	l.tallyMust(t, "release", "keygen", "-o", "oci-key")
	l.tallyMust(t, "release", "sign", out, "--key", "oci-key.key", "-o", "oci.sigstore.json")
	return lock, out
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

// TestInputsFileIsEnough exports the inputs of examples/oci twice, to the same bytes, and builds from that one
// file: sources, lock, packages, modules and toolchain come out of it, home and caches are empty, and there is
// no network. The image is the one built here.
func TestInputsFileIsEnough(t *testing.T) {
	l := built(t)
	lock, out := l.builtOCI(t)
	spec := filepath.Join(l.repo, "examples/oci/image.yaml")
	one, two := filepath.Join(l.dir, "inputs.tar"), filepath.Join(t.TempDir(), "again.tar")
	for _, file := range []string{one, two} {
		l.tallyMust(t, "inputs", "export", spec, file, "--lock", lock, "--cache", l.cache)
	}
	if !bytes.Equal(read(t, one), read(t, two)) {
		t.Error("two exports of the same lock differ")
	}
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "sources.tar"), []byte(command(t, home, "tar", "-xOf", one, "sources.tar")), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, home, "tar", "-xf", "sources.tar")
	again := filepath.Join(home, "out")
	args := []string{l.tally, "build", filepath.Join(home, "examples/oci/image.yaml"), "--offline", "--inputs", one, "--cache", filepath.Join(home, "cache"), "-o", again}
	if unshare := testtool.Need(t, "unshare"); exec.Command(unshare, "-rn", "true").Run() == nil {
		args = append([]string{unshare, "-rn"}, args...)
	} else {
		t.Log("no user namespaces here: the network is there, and must not be used")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = home, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOTOOLCHAIN=" + goEnv(t, "GOTOOLCHAIN")}
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build from the inputs file: %v\n%s", err, msg)
	}
	if a, b := read(t, filepath.Join(out, "manifest.json")), read(t, filepath.Join(again, "manifest.json")); !bytes.Equal(a, b) {
		t.Errorf("manifests differ:\n%s\n%s", a, b)
	}
	for _, name := range []string{"disk.raw", "models/stand-in.raw"} {
		if !bytes.Equal(read(t, filepath.Join(out, name)), read(t, filepath.Join(again, name))) {
			t.Errorf("%s differs", name)
		}
	}
	// A foreign or shortened file is refused, and leaves nothing behind.
	short := filepath.Join(home, "short.tar")
	if err := os.WriteFile(short, read(t, one)[:1<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := l.try(l.dir, nil, "build", spec, "--lock", lock, "--offline", "--inputs", short, "--cache", filepath.Join(home, "c2"), "-o", filepath.Join(home, "o2")); err == nil || !strings.Contains(msg, "short.tar") || exists(filepath.Join(home, "o2")) {
		t.Errorf("a shortened inputs file: %v\n%s", err, msg)
	}
}

// TestModelVolumeBoots boots examples/oci: init finds the model volume by the PARTUUIDs in the verified root and
// mounts it; with one bit of the volume changed, or with the volume attached twice, it stops with the volume named.
func TestModelVolumeBoots(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	_, out := l.builtOCI(t)
	m, err := mkimage.ParseManifest(read(t, filepath.Join(out, "manifest.json")))
	if err != nil || len(m.Models) != 1 || m.Config == nil {
		t.Fatalf("manifest: %v, models %+v, config %+v", err, m.Models, m.Config)
	}
	run := func(out string, args ...string) (string, int) {
		cmd := exec.Command(l.tally, append([]string{"run", out, "--boot", "direct", "--accel", "tcg", "--timeout", "3m"}, args...)...)
		said, _ := cmd.CombinedOutput()
		return string(said), cmd.ProcessState.ExitCode()
	}
	want := "model stand-in on /srv/models/stand-in, root hash " + m.Models[0].Verity.RootHash.String()
	if said, code := run(out, "--until-serving"); code != 0 || !strings.Contains(said, want) || !strings.Contains(said, `hostname=oci`) {
		t.Errorf("exit code %d, want %q in\n%s", code, want, said)
	}
	for _, c := range []struct {
		name   string
		change func(dir string, volume []byte) error
		code   int
		says   []string
	}{
		{"a changed volume", func(dir string, volume []byte) error {
			volume[1<<20+1024+4] ^= 1 // the checksum of the file system's superblock
			return os.WriteFile(filepath.Join(dir, m.Models[0].File), volume, 0o644)
		}, notVerified, []string{"tally-model-stand-in: verity on vdb1 and vdb2", "data block 0 is corrupted"}},
		{"the volume twice", func(dir string, volume []byte) error {
			return os.WriteFile(filepath.Join(dir, "models/twice.raw"), volume, 0o644)
		}, failed, []string{"refused: model stand-in: PARTUUID ", ": on vdb1 and on vdc1: want it once"}},
	} {
		bad := filepath.Join(t.TempDir(), "out")
		copyDir(t, out, bad)
		if err := c.change(bad, read(t, filepath.Join(out, m.Models[0].File))); err != nil {
			t.Fatal(err)
		}
		said, code := run(bad)
		for _, s := range c.says {
			if !strings.Contains(said, s) {
				t.Errorf("%s: no %q", c.name, s)
			}
		}
		if code != c.code || strings.Contains(said, "starting /sbin/init") {
			t.Errorf("%s: exit code %d, want %d:\n%s", c.name, code, c.code, said)
		}
	}
}

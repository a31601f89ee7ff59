// Package e2e runs the whole line through the built command, as a user would: lock, build, rebuild in a
// second clone under another user and environment, boot, talk, tamper.
package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage/lock"
)

// A line is one built image with the tools that made it.
type line struct {
	tally string // the command
	repo  string
	dir   string // scratch
	cache string // of packages, shared by all builds
	lock  string
	out   string
}

var shared *line

// built returns the image of examples/minimal, built once for all tests: from the committed lock, or,
// when one of its inputs is gone from the world, from a scratch lock.
func built(t *testing.T) *line {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	if shared != nil {
		return shared
	}
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tally-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)
	l := &line{tally: filepath.Join(dir, "tally"), repo: repo, dir: dir, cache: filepath.Join(dir, "cache"), out: filepath.Join(dir, "out"), lock: filepath.Join(repo, "examples/minimal/image.lock")}
	command(t, repo, "go", "build", "-trimpath", "-o", l.tally, "./cmd/tally")
	spec := filepath.Join(repo, "examples/minimal/image.yaml")
	if _, err := l.try(repo, nil, "build", spec, "--cache", l.cache, "-o", l.out); err != nil {
		t.Logf("the committed lock cannot be built here: %v", err)
		l.lock = filepath.Join(dir, "scratch.lock")
		if msg, err := l.try(repo, nil, "lock", spec, "--cache", l.cache, "-o", l.lock); err != nil {
			testtool.Missing(t, "no Debian mirror can be reached: "+msg)
		}
		l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", l.lock, "-o", l.out)
	}
	l.tallyMust(t, "measure", "image", l.out)
	shared = l
	return l
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// try runs tally and returns what it said on stderr.
func (l *line) try(dir string, env []string, args ...string) (string, error) {
	cmd := exec.Command(l.tally, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	return stderr.String(), err
}

func (l *line) tallyMust(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, l.dir, l.tally, args...)
}

// command runs a program that must succeed and returns its stdout.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=test")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", filepath.Base(name), args, err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// clone copies the tracked files, as they are in the working tree, to the directory name in scratch.
func (l *line) clone(t *testing.T, name string) string {
	t.Helper()
	dst := filepath.Join(l.dir, name)
	files := command(t, l.repo, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for _, f := range strings.Split(strings.TrimSuffix(files, "\x00"), "\x00") {
		cloneOne(t, filepath.Join(l.repo, f), filepath.Join(dst, f))
	}
	return dst
}

// cloneOne copies a file, as private as git would leave it under umask 077, or a symbolic link.
func cloneOne(t *testing.T, from, to string) {
	t.Helper()
	st, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return // deleted in the working tree
	} else if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if st.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err == nil {
			err = os.Symlink(target, to)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(to, read(t, from), 0o600|st.Mode()&0o100); err != nil {
		t.Fatal(err)
	}
}

// TestSecondCloneIsIdentical builds in a second clone under another user, umask, time zone, locale,
// GOMAXPROCS, build cache and directory. The manifest names the SHA-256 of every artefact.
func TestSecondCloneIsIdentical(t *testing.T) {
	l := built(t)
	out := l.elsewhere(t, "minimal", l.lock)
	if a, b := read(t, filepath.Join(l.out, "manifest.json")), read(t, filepath.Join(out, "manifest.json")); !bytes.Equal(a, b) {
		t.Errorf("manifests differ:\n%s\n%s", a, b)
	}
	for _, name := range []string{"disk.raw", "uki.efi", "initrd", "vmlinuz", "cmdline", "sources.tar"} {
		if !bytes.Equal(read(t, filepath.Join(l.out, name)), read(t, filepath.Join(out, name))) {
			t.Errorf("%s differs", name)
		}
	}
}

// elsewhere builds an example in a clone of its own, as another user in another environment, and returns
// the output.
func (l *line) elsewhere(t *testing.T, example, lock string) string {
	t.Helper()
	clone := l.clone(t, "another place/the clone of "+example)
	home := filepath.Join(l.dir, "home of somebody else with "+example)
	cache, out := filepath.Join(home, "cache"), filepath.Join(home, "out")
	copyDir(t, filepath.Join(l.cache, "sha256"), filepath.Join(cache, "sha256"))
	attr := &syscall.SysProcAttr{}
	user := "the same user: only root can become another"
	lock = copyFile(t, lock, home)
	if os.Getuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		user = "uid 65534"
		for _, dir := range []string{clone, home} {
			chown(t, dir)
		}
	}
	t.Log("building as ", user)
	cmd := exec.Command("sh", "-c", `umask 077; exec "$0" "$@"`, l.tally, "build", filepath.Join(clone, "examples", example, "image.yaml"),
		"--lock", lock, "--cache", cache, "--jobs", "1", "-o", out)
	cmd.Dir, cmd.SysProcAttr = home, attr
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "USER=somebody", "TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "GOMAXPROCS=1",
		"GOPROXY=" + goEnv(t, "GOPROXY"), "GOSUMDB=" + goEnv(t, "GOSUMDB"), "GOTOOLCHAIN=" + goEnv(t, "GOTOOLCHAIN"), "SSL_CERT_FILE=" + os.Getenv("SSL_CERT_FILE"), "SSL_CERT_DIR=" + os.Getenv("SSL_CERT_DIR")}
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("second build: %v\n%s", err, msg)
	}
	return out
}

func goEnv(t *testing.T, name string) string {
	return strings.TrimSpace(command(t, ".", "go", "env", name))
}

func copyFile(t *testing.T, src, dir string) string {
	t.Helper()
	dst := filepath.Join(dir, filepath.Base(src))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dst, read(t, src), 0o644); err != nil {
		t.Fatal(err)
	}
	return dst
}

func copyDir(t *testing.T, src, dst string) {
	t.Helper()
	if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
}

func chown(t *testing.T, dir string) {
	t.Helper()
	command(t, dir, "chown", "-R", "65534:65534", dir)
	for p := filepath.Dir(dir); len(p) > 1 && p != os.TempDir(); p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
}

// TestRebuildFromBundle goes the way of a stranger: bundle and log directory, nothing else.
func TestRebuildFromBundle(t *testing.T) {
	l := built(t)
	l.publish(t)
	l.tallyMust(t, "release", "keygen", "-o", "rebuilder")
	out := l.tallyMust(t, "rebuild", "b.sigstore.json", "--from", "pub", "--policy", "policy.yaml", "--cache", l.cache,
		"--attest", "--key", "rebuilder.key", "--log", "pub", "-o", "r.sigstore.json", "--tally-commit", strings.Repeat("ab", 20))
	if n := strings.Count(out, "MATCH "); n < 12 || !strings.Contains(out, "REPRODUCED") {
		t.Errorf("%d files match:\n%s", n, out)
	}
	l.checkAttested(t)
	// What was changed behind the manifest's back cannot be signed.
	bad := filepath.Join(l.dir, "tampered")
	copyDir(t, l.out, bad)
	uki := read(t, filepath.Join(bad, "uki.efi"))
	uki[len(uki)-1] ^= 1
	if err := os.WriteFile(filepath.Join(bad, "uki.efi"), uki, 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := l.try(l.dir, []string{"COSIGN_PASSWORD=test"}, "release", "sign", bad, "--key", "k.key", "-o", "bad.json"); err == nil || !strings.Contains(msg, "uki.efi") {
		t.Errorf("signing an image whose file is not what its manifest says: %v\n%s", err, msg)
	}
}

// TestRebuildNamesTheInput builds a release with another lock: the table says DIFFER and which input it is.
func TestRebuildNamesTheInput(t *testing.T) {
	l := built(t)
	l.publish(t)
	k, err := lock.Parse(read(t, l.lock), l.lock)
	if err != nil {
		t.Fatal(err)
	}
	for i := range k.Packages {
		if k.Packages[i].Name == "ovmf" {
			k.Packages[i].Version += "+other"
		}
	}
	data, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "other.lock"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.tally, "rebuild", "b.sigstore.json", "--from", "pub", "--cache", l.cache, "--lock", "other.lock")
	cmd.Dir = l.dir
	out, _ := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	for _, want := range []string{"DIFFER   image.lock", "DIFFER   manifest.json", "MATCH    disk.raw", "input package ovmf: was",
		"the statement says otherwise", "inputs.lock", "likely causes", "package ovmf"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// TestRebuildExplains changes one byte of a program on the disk of a copy: the rebuild says in which file it is, and
// that the hash tree was made before.
func TestRebuildExplains(t *testing.T) {
	l := built(t)
	bad := filepath.Join(l.dir, "one byte")
	copyDir(t, l.out, bad)
	disk := read(t, filepath.Join(bad, "disk.raw"))
	program := bytes.LastIndex(disk, []byte("\x7fELF")) // the root's only one: the ESP lies in front
	disk[program+5000] ^= 1
	if err := os.WriteFile(filepath.Join(bad, "disk.raw"), disk, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.tally, "rebuild", bad, "--cache", l.cache)
	cmd.Dir = l.dir
	out, _ := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	for _, want := range []string{"DIFFER   disk.raw", "MATCH    uki.efi", "  /sbin/init  content  [one byte differs", "from go ./cmd/enclave", "data changed after the hash tree was made, in A", "  none\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// publish signs and logs the image, once.
func (l *line) publish(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(l.dir, "policy.yaml")); err == nil {
		return
	}
	l.tallyMust(t, "release", "keygen", "-o", "k")
	l.tallyMust(t, "log", "create", "pub", "--origin", "log.e2e.example")
	l.tallyMust(t, "release", "sign", "out", "--key", "k.key", "-o", "b.sigstore.json")
	l.tallyMust(t, "release", "publish", "b.sigstore.json", "out", "--log", "pub", "--signer", "k.pub")
	policy := "schema: tally.policy/v1\nrelease:\n  signers:\n    - file: k.pub\n  log:\n    file: pub/log.vkey\n    witnesses: none\nevidence:\n  platforms: [insecure]\n"
	if err := os.WriteFile(filepath.Join(l.dir, "policy.yaml"), []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDemo runs what README promises: the demo boots the image, talks to it, tampers with it, has the model of
// another answer, and ends with a non-zero exit code when any step is not as it must be.
func TestDemo(t *testing.T) {
	l := built(t)
	for _, tool := range []string{"qemu-system-x86_64", "swtpm", "sgdisk", "curl"} {
		testtool.Need(t, tool)
	}
	home := filepath.Join(l.dir, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(l.cache, filepath.Join(home, "tally")); err != nil { // what other tests have fetched
		t.Fatal(err)
	}
	command(t, l.repo, "make", "build")
	cmd := exec.CommandContext(t.Context(), filepath.Join(l.repo, "scripts/demo"))
	cmd.Env = append(os.Environ(), fmt.Sprintf("DEMO_PORT=%d", freePort(t)), fmt.Sprintf("DEMO_OPERATOR_PORT=%d", freePort(t)), "XDG_CACHE_HOME="+home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := string(out); !strings.Contains(text, "REPRODUCED") || !strings.Contains(text, `"is anybody there?"`) || strings.Count(text, "is corrupted") < 2 || !strings.Contains(text, "\n["+vtpmNote+"] ") {
		t.Errorf("the demo did not show what it must:\n%s", text)
	}
}

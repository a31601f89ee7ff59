package e2e

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/mkimage"
	"tally/mkimage/steps"
)

// needSteps skips where build steps cannot be run. The probe is tally's own, in a process of its own.
func (l *line) needSteps(t *testing.T) {
	t.Helper()
	if out := l.tallyMust(t, "doctor"); !strings.Contains(out, "an isolated build root was made") {
		testtool.Missing(t, steps.ErrUnsupported.Error()+"\n"+out)
	}
}

// TestSteps compiles PID 1 of an image and a kernel module in build roots of Debian's packages, twice, with
// equal bytes, and boots the image: the image's own kernel, which is the oracle here, loads the module.
func TestSteps(t *testing.T) {
	l := built(t)
	l.needSteps(t)
	testtool.Need(t, qemu.Binary)
	dir := filepath.Join(l.dir, "steps") // where another user can read it
	copyDir(t, "testdata/steps", dir)
	command(t, l.repo, "go", "build", "-trimpath", "-o", filepath.Join(dir, "initrd-init"), "./cmd/init")
	spec, out := filepath.Join(dir, "image.yaml"), filepath.Join(dir, "out")
	if msg, err := l.try(dir, nil, "lock", spec, "--cache", l.cache); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	msg, err := l.try(dir, nil, "build", spec, "--cache", l.cache, "-o", out, "--twice")
	if err != nil || !strings.Contains(msg, "the second build is identical") || strings.Count(msg, "step module:   LD [M]  /build/tally_hello.ko") != 2 {
		t.Fatalf("%v\n%s", err, msg)
	}
	m, err := mkimage.ParseManifest(read(t, filepath.Join(out, "manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Steps) != 2 || m.Steps[0].Outputs[0].Target != "sbin/init" || m.Steps[1].Outputs[0].Target != "updates/tally_hello.ko" {
		t.Errorf("steps %+v", m.Steps)
	}
	l.rebuildAsNobody(t, out)
	cmd := exec.Command(l.tally, "run", out, "--boot", "direct", "--accel", "tcg", "--timeout", "3m", "--until", "init: module: ")
	said, err := cmd.CombinedOutput()
	for _, want := range []string{"init: compiled on Jan  1 2026 at 00:00:00 from init.c", "tally_hello: from /build/tally_hello.c", "init: module: loaded"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("%v: no %q on the console:\n%s", err, want, said)
		}
	}
}

// rebuildAsNobody runs the steps a third time, as a user without any right, in an empty environment.
func (l *line) rebuildAsNobody(t *testing.T, out string) {
	t.Helper()
	tmp := filepath.Join(l.dir, "steps as nobody")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.tally, "rebuild", out, "--cache", l.cache, "--offline")
	cmd.Dir, cmd.Env = tmp, []string{"HOME=" + tmp, "TMPDIR=" + tmp, "PATH=" + os.Getenv("PATH"), "TZ=Pacific/Kiritimati"}
	user := "the same user: only root can become another"
	if os.Getuid() == 0 {
		user = "uid 65534"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{4, 20}}}
		chown(t, tmp)
	}
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "REPRODUCED") || !strings.Contains(string(said), "MATCH    disk.raw") {
		t.Errorf("as %s: %v\n%s", user, err, said)
	}
}

const brokenSpec = `name: broken
version: 0.1.0
epoch: 1767225600
root:
  - dir: {path: rootfs}
steps:
  - name: broken
    root: {suites: [trixie], packages: [base-files, dash, coreutils, libfaketime]}
    command: [sh, -c, "COMMAND"]
    env: [ENV]
    outputs: [{path: build/out, target: srv/out}]
    timeout: 100
init: {file: {path: rootfs/file}}
kernel: {debian: {suites: [trixie], package: linux-image-cloud-amd64}}
modules: []
stub: {debian: {suites: [trixie], package: systemd-boot-efi, path: usr/lib/systemd/boot/efi/linuxx64.efi.stub}}
firmware:
  - {name: none, file: {path: rootfs/file}, vars: as-is}
`

// A broken is a scratch project with one step that runs a line of shell.
type broken struct{ dir, spec string }

func (l *line) broken(t *testing.T, command string, env ...string) broken {
	t.Helper()
	b := broken{dir: t.TempDir()}
	b.spec = filepath.Join(b.dir, "image.yaml")
	spec := strings.NewReplacer("timeout: 100", map[bool]string{true: "timeout: 3", false: "timeout: 100"}[command == "sleep 1000"], "COMMAND", command, "ENV", strings.Join(env, ", ")).Replace(brokenSpec)
	for name, text := range map[string]string{"rootfs/file": "x", "image.yaml": spec} {
		p := filepath.Join(b.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(b.dir, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	if msg, err := l.try(b.dir, nil, "lock", b.spec, "--cache", l.cache); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	return b
}

// build is the command that builds it, with its temporary files below the project.
func (l *line) build(b broken, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.Command(l.tally, append([]string{"build", b.spec, "--cache", l.cache, "-o", filepath.Join(b.dir, "out")}, args...)...)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr, cmd.Env = stdout, stderr, append(os.Environ(), "TMPDIR="+filepath.Join(b.dir, "tmp"))
	return cmd, stdout, stderr
}

// left lists what a failed build must not leave.
func (b broken) left(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"out", ".out*", "tmp/*"} {
		found, err := filepath.Glob(filepath.Join(b.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// TestStepsRefused goes through the ends of a build whose step is not as it must be.
func TestStepsRefused(t *testing.T) {
	l := built(t)
	l.needSteps(t)
	for _, c := range []struct {
		name, command string
		args          []string
		code          int
		stdout        string // "" wants it empty and nothing left
		stderr        string
	}{
		{"differs", "head -c 9 /dev/urandom > out", []string{"--twice"}, 3, "step broken: srv/out was made differently", "the second build differs"},
		{"process number", "echo $$ > out", []string{"--twice"}, 3, "step broken: srv/out was made differently", "the second build differs"},
		{"fails", "echo so far; false", nil, 1, "", `tally: error: step broken: command "sh" ended with exit status 1; its last words: so far`},
		{"quiet", "echo so far; false", []string{"--quiet"}, 1, "", "tally: error: step broken"},
		{"makes nothing", "true", nil, 1, "", `step broken: output "build/out": the command has not made it`},
		{"too long", "sleep 1000", nil, 1, "", "step broken: not done after 3s (timeout)"},
		{"not there", "nosuchprogram", nil, 1, "", "exit status 127"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := l.broken(t, c.command)
			cmd, stdout, stderr := l.build(b, c.args...)
			cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(stderr.String(), c.stderr) || !strings.Contains(stdout.String(), c.stdout) {
				t.Errorf("exit %d, want %d\n%s%s", code, c.code, stdout, stderr)
			}
			if shown := strings.Contains(stderr.String(), "tally: step broken: so far"); shown != (c.name == "fails") {
				t.Errorf("what the command says is on stderr: %v\n%s", shown, stderr)
			}
			if c.stdout == "" && (stdout.Len() > 0 || len(b.left(t)) > 0) {
				t.Errorf("stdout %q, left %q", stdout, b.left(t))
			}
		})
	}
}

// TestStepClock stops the clock of a step with Debian's libfaketime: what date writes, and when, is in the
// output, twice the same.
func TestStepClock(t *testing.T) {
	l := built(t)
	l.needSteps(t)
	b := l.broken(t, "date +%s.%N > out", "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "'FAKETIME=2026-01-01 00:00:00'")
	cmd, stdout, stderr := l.build(b, "--twice")
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	m, err := mkimage.ParseManifest(read(t, filepath.Join(b.dir, "out/manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	if want := mkimage.Digest(sha256.Sum256([]byte("1767225600.000000000\n"))); m.Steps[0].Outputs[0].SHA256 != want {
		t.Errorf("output %+v, want %s", m.Steps[0].Outputs[0], want)
	}
}

// TestStepInterrupted ends a build while its step runs: nothing stays, and the step's processes are gone.
func TestStepInterrupted(t *testing.T) {
	l := built(t)
	l.needSteps(t)
	b := l.broken(t, "sleep 98765 & echo started; wait")
	cmd, stdout, _ := l.build(b)
	cmd.Stderr = nil
	talk, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for said := ""; !strings.Contains(said, "step broken: started"); {
		n, err := talk.Read(buf)
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		said += string(buf[:n])
	}
	for i := 0; len(sleepers(t)) == 0; i++ { // the shell's child becomes sleep in its own time
		if i == 500 {
			t.Fatal("the step's process is not there")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || stdout.Len() > 0 || len(b.left(t)) > 0 {
		t.Errorf("exit %d, stdout %q, left %q", code, stdout, b.left(t))
	}
	for range 100 {
		if len(sleepers(t)) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%q still run", sleepers(t))
}

// sleepers lists the processes of this machine that are the sleep of TestStepInterrupted.
func sleepers(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		if data, _ := os.ReadFile(f); string(data) == "sleep\x0098765\x00" {
			all = append(all, f)
		}
	}
	return all
}

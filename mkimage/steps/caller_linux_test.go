package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAnyCaller runs tests of isolation again as a user without any right, when this is root.
func TestAnyCaller(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: not root: the other tests are run by such a user already")
	}
	helperRoot(t)
	dir, err := os.MkdirTemp("", "tally-steps-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program, tmp := filepath.Join(dir, "test"), filepath.Join(dir, "tmp")
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() error{func() error { return os.Mkdir(tmp, 0o755) }, func() error { return os.Chmod(dir, 0o755) }, func() error { return os.Chmod(program, 0o755) },
		func() error { return os.Chown(tmp, 65534, 65534) }} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-test.v", "-test.run", "^(TestNoEscape|TestWhatAStepSees|TestOutputs)$")
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + tmp, "CI=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{4, 20}}}
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "--- PASS") != 3 {
		t.Errorf("as user 65534: %v\n%s", err, out)
	}
}

// TestStartedByHand: the name alone makes no init.
func TestStartedByHand(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{childName}
	if out, err := cmd.CombinedOutput(); err == nil || string(out) != "tally-step: started by hand\n" {
		t.Errorf("%v: %q", err, out)
	}
}

// TestUnsupported runs the probe where the kernel gives no further user namespace: one line says what is missing.
func TestUnsupported(t *testing.T) {
	helperRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestProbes$", "-test.v")
	cmd.Env = append(os.Environ(), "TALLY_STEPS_PROBE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "build steps need Linux with user namespaces: user.max_user_namespaces is reached\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestProbes is run by TestUnsupported, as root of a user namespace of its own.
func TestProbes(t *testing.T) {
	if os.Getenv("TALLY_STEPS_PROBE") == "" {
		t.Skip("only for TestUnsupported")
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err := Probe(context.Background(), dir)
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("error %v", err)
	}
	os.Stdout.WriteString(err.Error() + "\n")
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestTallyKilled kills the process that runs a step, by the signal that it cannot catch: the step ends too.
func TestTallyKilled(t *testing.T) {
	helperRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestSleeps$", "-test.v")
	mark := fmt.Sprint("killed-", os.Getpid())
	cmd.Env = append(os.Environ(), "TALLY_STEPS_SLEEP="+mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	buf := make([]byte, 4096)
	for said := ""; !strings.Contains(said, "sleeping"); {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		said += string(buf[:n])
	}
	waitFor(t, mark, 2)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, mark, 0)
}

// TestSleeps is run by TestTallyKilled.
func TestSleeps(t *testing.T) {
	mark := os.Getenv("TALLY_STEPS_SLEEP")
	if mark == "" {
		t.Skip("only for TestTallyKilled")
	}
	Run(context.Background(), helperStep("sleep", mark), helperRoot(t), Options{Dir: t.TempDir(), Log: func(line string) { os.Stdout.WriteString(line + "\n") }})
}

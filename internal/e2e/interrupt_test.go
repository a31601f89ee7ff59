package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInterrupt stops builds at several moments: nothing half-written stays, neither at the destination
// nor in the temporary directory, and the exit code says that there is no answer.
func TestInterrupt(t *testing.T) {
	l := built(t)
	for _, after := range []time.Duration{50, 200, 400, 700, 1000} {
		after *= time.Millisecond
		work := t.TempDir()
		tmp := filepath.Join(work, "tmp")
		if err := os.Mkdir(tmp, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(l.tally, "build", filepath.Join(l.repo, "examples/minimal/image.yaml"), "--lock", l.lock, "--cache", l.cache, "-o", filepath.Join(work, "out"))
		cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		cmd.Process.Signal(os.Interrupt)
		err := cmd.Wait()
		if err == nil {
			t.Logf("after %v the build was done", after)
			continue
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("after %v: exit code %d, want 1", after, code)
		}
		for _, dir := range []string{work, tmp} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() != "tmp" && !strings.HasPrefix(e.Name(), "go-build") { // go's own, killed with it
					t.Errorf("after %v: left %s in %s", after, e.Name(), filepath.Base(dir))
				}
			}
		}
	}
}

// TestTwice runs the self-check of build.
func TestTwice(t *testing.T) {
	l := built(t)
	msg, err := l.try(l.repo, nil, "build", filepath.Join(l.repo, "examples/minimal/image.yaml"), "--lock", l.lock, "--cache", l.cache, "-o", filepath.Join(t.TempDir(), "out"), "--twice")
	if err != nil || !strings.Contains(msg, "the second build is identical") {
		t.Errorf("%v\n%s", err, msg)
	}
}

package scratch

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestMain is also the command that is killed: it makes a directory in the parent it is told, says which, and waits.
func TestMain(m *testing.M) {
	if parent := os.Getenv("SCRATCH_PARENT"); parent != "" {
		d, err := New(parent, "tally-test")
		if err == nil {
			err = os.WriteFile(filepath.Join(d.Path, "sources"), []byte("x"), 0o600)
		}
		if err != nil {
			panic(err)
		}
		fmt.Println(d.Path)
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestSweep: what a living command has stays, what a killed one had goes, and nothing else is touched.
func TestSweep(t *testing.T) {
	parent := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SCRATCH_PARENT="+parent)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line := bufio.NewScanner(out)
	if !line.Scan() {
		t.Fatal("the other process made nothing")
	}
	other := line.Text()

	var kept []string
	for _, name := range []string{"tally-test", "tally-test-1", "tally-test.scratch-", "tally-test.scratch-1x", "tally-testing.scratch-1", "xtally-test.scratch-1"} {
		path := filepath.Join(parent, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, path)
	}
	elsewhere := t.TempDir()
	link := filepath.Join(parent, "tally-test.scratch-2")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	kept = append(kept, link, elsewhere)

	mine, err := New(parent, "tally-test")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(kept, other) {
		if !there(path) {
			t.Errorf("%s is gone while the other process lives", path)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	second, err := New(parent, "tally-test")
	if err != nil {
		t.Fatal(err)
	}
	if there(other) {
		t.Errorf("%s is there still, whose maker was killed", other)
	}
	for _, path := range append(kept, mine.Path, second.Path) {
		if !there(path) {
			t.Errorf("%s is gone", path)
		}
	}
	for _, d := range []*Dir{mine, second} {
		if err := d.Remove(); err != nil || there(d.Path) {
			t.Errorf("%s: %v", d.Path, err)
		}
	}
}

// TestMany: makers that sweep at the same time take nothing from each other.
func TestMany(t *testing.T) {
	parent := t.TempDir()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 100 {
				d, err := New(parent, "tally-test")
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(d.Path, "sources"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

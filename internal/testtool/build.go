package testtool

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build returns the path of an outside program that Debian does not have, at exactly the version of its module that
// was tested: in the user's cache, and in CI (environment CI or TALLY_CI set) built into it once, which takes minutes.
// Elsewhere a program that is not there yet skips the test, loudly.
func Build(t testing.TB, name, pkg, version string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tallystick", name+"-"+version)
	program := filepath.Join(dir, filepath.Base(pkg))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if os.Getenv("CI") == "" && os.Getenv("TALLY_CI") == "" {
		t.Skipf("SKIPPED: %s %s is not built: TALLY_CI=1 builds it into %s (minutes)", name, version, dir)
	}
	cmd := exec.Command(Need(t, "go"), "install", "-trimpath", pkg+"@"+version)
	cmd.Dir = t.TempDir() // outside every module
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return program
}

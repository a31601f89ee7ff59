// Package testtool finds the outside programs that tests use as oracles.
package testtool

import (
	"os"
	"os/exec"
	"testing"
)

// Need returns the path of the named program. When it is missing the test is skipped, loudly; in CI
// (environment CI or TALLY_CI set) a missing oracle is a failure, so that no check is lost in silence.
func Need(t testing.TB, name string) string {
	t.Helper()
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/lib/systemd/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	Missing(t, "program "+name+" is not installed")
	return ""
}

// Missing skips the test because of what, or fails it in CI.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("TALLY_CI") != "" {
		t.Fatalf("%s, and in CI nothing may be skipped", what)
	}
	t.Skipf("SKIPPED: %s", what)
}

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOtherHosts compiles for machines that CI does not have: a rebuilder with another one must not find
// out first. Unoptimised, because it is the compiler's front end that refuses.
func TestOtherHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ os, arch, pkg string }{
		{"darwin", "arm64", "./cmd/tally"},
		{"linux", "arm64", "./mkimage"}, // what decides the bytes of an image
	} {
		t.Run(c.os+"/"+c.arch, func(t *testing.T) {
			cmd := exec.Command("go", "build", "-gcflags=all=-N -l", "-o", os.DevNull, c.pkg)
			cmd.Dir, cmd.Env = repo, append(os.Environ(), "GOOS="+c.os, "GOARCH="+c.arch, "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("go build %s: %v\n%s", c.pkg, err, out)
			}
		})
	}
}

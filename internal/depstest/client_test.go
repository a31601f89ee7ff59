package depstest

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a client that only verifies, by keys, may link.
const (
	maxClientModules = 10
	maxClientSize    = 8_000_000 // bytes, without symbols
)

func TestClientIsSmall(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "client")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./testdata/client")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	st, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	var mods []string
	for _, m := range info.Deps {
		mods = append(mods, m.Path)
	}
	t.Logf("%d bytes; %d modules: %s", st.Size(), len(mods), strings.Join(mods, " "))
	if st.Size() > maxClientSize || len(mods) > maxClientModules {
		t.Errorf("%d bytes, want at most %d; %d modules, want at most %d", st.Size(), maxClientSize, len(mods), maxClientModules)
	}
	if len(mods) == 0 {
		t.Error("no modules: the measurement is broken")
	}
}

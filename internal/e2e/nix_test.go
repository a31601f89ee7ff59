package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// TestNix evaluates every output of the flake and runs its checks with the real nix, over a nixpkgs that
// stands for the programs of this machine, and builds the image: the bytes are those of `tally build`.
func TestNix(t *testing.T) {
	l := built(t)
	nix := testtool.Need(t, "nix")
	dir := filepath.Join(l.dir, "nix")
	src := l.clone(t, "nix-source")
	// Nix takes the checkout into its store, where a lock made for this run must be the committed one.
	if err := os.WriteFile(filepath.Join(src, "examples/minimal/image.lock"), read(t, l.lock), 0o644); err != nil {
		t.Fatal(err)
	}
	var settings []string
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GOMODCACHE", "GOCACHE"} {
		settings = append(settings, name+"='"+goEnv(t, name)+"'")
	}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		switch strings.ToLower(name) {
		case "ssl_cert_file", "ssl_cert_dir", "http_proxy", "https_proxy", "no_proxy":
			settings = append(settings, name+"='"+value+"'")
		}
	}
	run := func(args ...string) {
		t.Helper()
		args = append([]string{"--extra-experimental-features", "nix-command flakes", "--offline", "--option", "build-users-group", "",
			"--option", "substitute", "false", "--option", "sandbox", "false"}, args...)
		cmd := exec.Command(nix, append(args, "--impure", "--override-input", "nixpkgs", "path:"+filepath.Join(l.repo, "nix/testdata/stub"), "--no-write-lock-file")...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "STUB_PATH="+os.Getenv("PATH"), "STUB_STORE="+filepath.Join(l.cache, "sha256"), "STUB_GO="+strings.Join(settings, " "),
			"NIX_STORE_DIR="+filepath.Join(dir, "store"), "NIX_STATE_DIR="+filepath.Join(dir, "var"), "NIX_LOG_DIR="+filepath.Join(dir, "log"), "NIX_CONF_DIR="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nix %q: %v\n%s", args, err, out)
		}
	}
	run("flake", "check", "path:"+src)
	run("build", "path:"+src+"#image-minimal", "-o", filepath.Join(dir, "result"))
	for _, name := range []string{"manifest.json", "disk.raw", "uki.efi", "initrd", "vmlinuz", "cmdline"} {
		if !bytes.Equal(read(t, filepath.Join(l.out, name)), read(t, filepath.Join(dir, "result", name))) {
			t.Errorf("%s built under nix differs", name)
		}
	}
	// The store is read-only to everybody but nix, and has to go with the rest.
	command(t, dir, "chmod", "-R", "u+w", dir)
}

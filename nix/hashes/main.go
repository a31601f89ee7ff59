// Command hashes computes nix/hashes.json: what Nix will find in its two fixed-output derivations, so that
// nobody has to copy hashes out of error messages. Without -check it writes the file anew.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"tally/mkimage/lock"
)

// hashes is nix/hashes.json: hashes in the form that Nix takes (sha256-BASE64).
type hashes struct {
	Vendor string            `json:"vendor"` // of the directory `go mod vendor` makes
	Go     map[string]string `json:"go"`     // by example: the pinned Go release and modules as a module proxy
}

func main() {
	check := flag.Bool("check", false, "compare with nix/hashes.json and change nothing")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "hashes:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	const file = "nix/hashes.json"
	h, err := compute()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if !check {
		return os.WriteFile(file, data, 0o644)
	}
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(old, data) {
		return fmt.Errorf("%s is not current: run scripts/nix-hashes; want\n%s", file, data)
	}
	return nil
}

func compute() (*hashes, error) {
	tmp, err := os.MkdirTemp("", "tally-nix-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	h := &hashes{Go: map[string]string{}}
	vendor := filepath.Join(tmp, "vendor")
	if err := goCommand(".", nil, "mod", "vendor", "-o", vendor); err != nil {
		return nil, err
	}
	if h.Vendor, err = hashPath(vendor); err != nil {
		return nil, err
	}
	locks, err := filepath.Glob("examples/*/image.lock")
	if err != nil {
		return nil, err
	}
	for i, file := range locks {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		k, err := lock.Parse(data, file)
		if err != nil {
			return nil, err
		}
		out := filepath.Join(tmp, fmt.Sprint("proxy", i))
		if err := proxy(k, tmp, out); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if h.Go[filepath.Base(filepath.Dir(file))], err = hashPath(out); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// proxy makes in out what the derivation "proxy" of nix/image.nix makes.
func proxy(k *lock.Lock, tmp, out string) error {
	var wanted []string
	for _, m := range k.Modules {
		wanted = append(wanted, m.Path+"@"+m.Version)
	}
	for _, t := range k.Toolchains {
		wanted = append(wanted, "golang.org/toolchain@v0.0.1-"+t.Version+"."+t.Platform)
	}
	cache := filepath.Join(tmp, "modules") // shared by the examples: each takes its own files from it
	env := []string{"GOMODCACHE=" + cache, "GOFLAGS=-modcacherw"}
	if err := goCommand(tmp, env, append([]string{"mod", "download"}, wanted...)...); err != nil {
		return err
	}
	for _, w := range wanted {
		if err := proxied(filepath.Join(cache, "cache/download"), out, w); err != nil {
			return err
		}
	}
	return nil
}

// proxied copies one module's files, with an .info that says no more than the version.
func proxied(cache, out, wanted string) error {
	path, version, _ := strings.Cut(wanted, "@")
	dir := filepath.Join(out, path, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, ext := range []string{".zip", ".mod"} {
		data, err := os.ReadFile(filepath.Join(cache, path, "@v", version+ext))
		if errors.Is(err, fs.ErrNotExist) && strings.ToLower(path) != path {
			return fmt.Errorf("module %q: upper-case paths are escaped in a proxy, which nix/image.nix does not need yet", path)
		} else if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, version+ext), data, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, version+".info"), fmt.Appendf(nil, "{\"Version\":%q}\n", version), 0o644)
}

func goCommand(dir string, env []string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

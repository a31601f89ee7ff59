package gosrc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"

	"tally/internal/atomicfile"
)

// ToolchainModule is the module under which the go command fetches releases of itself.
const ToolchainModule = "golang.org/toolchain"

// ToolchainVersion is the version of that module for a release and a platform.
func ToolchainVersion(release, platform string) string { return "v0.0.1-" + release + "." + platform }

// tools are the commands in pkg/tool that a release ships (cmd/distpack, pack.go); others are built when
// first used, and do not belong to it.
var tools = map[string]bool{"asm": true, "cgo": true, "compile": true, "cover": true, "fix": true, "link": true, "preprofile": true, "vet": true}

// Sum returns the h1: hash that module golang.org/toolchain has for the release, computed from the files
// of the GOROOT in use. An unchanged official release gives the same hash wherever it was installed from:
// the archive of the website, or the module proxy, for which the checksum database vouches.
func (c *Command) Sum(ctx context.Context) (string, error) {
	if c.sum != "" {
		return c.sum, nil
	}
	files, err := releaseFiles(ctx, c.Root, strings.ReplaceAll(c.Platform, "-", "_"))
	if err != nil {
		return "", err
	}
	prefix := ToolchainModule + "@" + ToolchainVersion(c.Toolchain, c.Platform) + "/"
	onDisk := map[string]string{}
	var names []string
	for _, f := range files {
		name := prefix + f
		if path.Base(f) == "go.mod" { // a module's zip may hold no other go.mod
			name = strings.TrimSuffix(name, "go.mod") + "_go.mod"
		}
		if _, twin := onDisk[name]; !twin { // what the proxy brought has both names of some
			names = append(names, name)
		}
		onDisk[name] = filepath.Join(c.Root, filepath.FromSlash(f))
	}
	sum, err := dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if name == prefix+"go.env" {
			return openGoEnv(onDisk[name])
		}
		return os.Open(onDisk[name])
	})
	c.sum = sum
	return sum, err
}

// openGoEnv undoes the one change that distributions and container images make to a release: their go.env
// forbids toolchain switching. It has no effect here, where GOTOOLCHAIN is always set.
func openGoEnv(file string) (io.ReadCloser, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	data = bytes.Replace(data, []byte("\nGOTOOLCHAIN=local\n"), []byte("\nGOTOOLCHAIN=auto\n"), 1)
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Verify makes sure that the toolchain in use has the sum of the lock. When the one that is installed
// claims to be that release but is not (a distribution's own build of it), the release itself is fetched
// through the module proxy and used instead.
func (c *Command) Verify(ctx context.Context, sum string) error {
	got, err := c.Sum(ctx)
	if err != nil || got == sum {
		return err
	}
	installed := c.Root
	if err := c.fetch(ctx); err != nil {
		return fmt.Errorf("toolchain %s in %s has sum %s, the lock wants %s; and getting the release failed: %w", c.Toolchain, installed, got, sum, err)
	}
	if got, err = c.Sum(ctx); err == nil && got != sum {
		err = fmt.Errorf("toolchain %s for %s has sum %s, the lock wants %s", c.Toolchain, c.Platform, got, sum)
	}
	return err
}

// A Download is what `go mod download -json` says about one module.
type Download struct {
	Path, Version    string
	Info, GoMod, Zip string // files in the module cache
	Dir, Sum, Error  string
}

// Download brings modules (PATH@VERSION) into the module cache.
func (c *Command) Download(ctx context.Context, dir string, modules ...string) ([]Download, error) {
	out, failed := c.run(ctx, dir, append([]string{"mod", "download", "-json"}, modules...)...)
	var all []Download
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var d Download
		if err := dec.Decode(&d); errors.Is(err, io.EOF) {
			return all, failed
		} else if err != nil {
			return nil, fmt.Errorf("go mod download: %w", errors.Join(failed, err))
		}
		if d.Error != "" {
			return nil, fmt.Errorf("module %s %s: %s", d.Path, d.Version, firstLines(d.Error))
		}
		all = append(all, d)
	}
}

// fetch switches to the release as the module proxy has it, and finishes its unpacking as the go command
// does when it switches itself (cmd/go/internal/toolchain, select.go): execute bits, and the two go.mod
// files that no module's zip may hold.
func (c *Command) fetch(ctx context.Context) error {
	ds, err := c.Download(ctx, "", ToolchainModule+"@"+ToolchainVersion(c.Toolchain, c.Platform))
	if err != nil {
		return err
	}
	if len(ds) != 1 || ds[0].Dir == "" {
		return fmt.Errorf("go mod download: %d modules, want one", len(ds))
	}
	root := ds[0].Dir
	for _, pattern := range []string{"bin/*", "pkg/tool/*/*"} {
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.Chmod(f, 0o755); err != nil {
				return err
			}
		}
	}
	for _, dir := range []string{"src", "src/cmd"} {
		if err := restoreGoMod(filepath.Join(root, filepath.FromSlash(dir))); err != nil {
			return err
		}
	}
	c.Root, c.tool, c.sum = root, filepath.Join(root, "bin", "go"), ""
	return nil
}

func restoreGoMod(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "_go.mod"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return nil
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, fi.Mode()|0o200); err != nil {
		return err
	}
	return errors.Join(atomicfile.WriteFile(filepath.Join(dir, "go.mod"), data, 0o444), os.Chmod(dir, fi.Mode()))
}

// releaseFiles lists the files of a GOROOT that its module has, after cmd/distpack.
func releaseFiles(ctx context.Context, root, platform string) ([]string, error) {
	var all []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch name {
			case ".git", ".github", "api", "doc", "misc", "test", "pkg/obj", "pkg/distpack", "pkg/bootstrap":
				return fs.SkipDir
			}
			return nil
		}
		if inRelease(name, platform) {
			all = append(all, name)
		}
		return nil
	})
	return all, err
}

func inRelease(name, platform string) bool {
	dir, base := path.Split(name)
	switch {
	case strings.HasPrefix(name, "bin/"):
		return name == "bin/go" || name == "bin/gofmt"
	case strings.HasPrefix(name, "pkg/include/"):
		return true
	case strings.HasPrefix(name, "pkg/"):
		return dir == "pkg/tool/"+platform+"/" && tools[base]
	}
	switch name {
	case ".gitattributes", ".gitignore", "VERSION.cache", "src/cmd/dist/dist":
		return false
	}
	return base != ".DS_Store"
}

// Collect brings what the build of one program needs into an empty module cache, and nothing else: its
// directory cache/download then serves as a module proxy for that build.
func (c *Command) Collect(ctx context.Context, dir, pkg, modcache string) error {
	proxies := fileURL(filepath.Join(lookup(c.Environ, "GOMODCACHE"), "cache", "download"))
	if c.Proxy != "" {
		proxies += "," + fileURL(c.Proxy)
	}
	if !c.Offline {
		proxies += "," + lookup(c.Environ, "GOPROXY")
	}
	private := *c
	private.Proxy, private.Offline = "", false // said by proxies
	private.Environ = append(slices.Clone(c.Environ), "GOMODCACHE="+modcache, "GOPROXY="+proxies)
	_, err := private.run(ctx, dir, "list", "-mod=readonly", "-modcacherw", "-deps", pkg)
	return err
}

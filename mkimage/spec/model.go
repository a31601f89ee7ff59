package spec

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"tally/internal/pattern"
	"tally/mkimage/tree"
)

// A Model is files in a volume of their own, whose root hash stands in the root (mkimage, "Model volumes").
type Model struct {
	Name   string      `yaml:"name,required"`   // of the volume
	Target string      `yaml:"target,required"` // mount point in the root
	Files  []ModelFile `yaml:"files,required"`
}

// A ModelFile is one file of a model; exactly one of URL and Path is set.
type ModelFile struct {
	Name   string `yaml:"name,required"` // path in the volume
	URL    string `yaml:"url"`           // http, https or file; SHA256 and Size go with it
	SHA256 string `yaml:"sha256"`        // 64 lower-case hex digits
	Size   int64  `yaml:"size"`          // bytes
	Path   string `yaml:"path"`          // of the maintainer's disk
}

// Limits on models.
const (
	maxModels     = 16
	maxModelFiles = 1024
	maxModelFile  = 1 << 40 // bytes
)

var sha256Form = pattern.New(`^[0-9a-f]{64}$`)

// Models lists the models of s by the name of their source ([Spec.SourceName]).
func (s *Spec) Models() map[string]*Model {
	all := map[string]*Model{}
	for i, src := range s.Root {
		if src.Model != nil {
			all[s.SourceName(i)] = src.Model
		}
	}
	return all
}

func (c checker) model(at string, m *Model) error {
	n := 0
	for _, src := range c.s.Root {
		if src.Model != nil && src.Model.Name == m.Name {
			n++
		}
	}
	switch {
	case !nameForm.MatchString(m.Name) || n > 1:
		return c.fail(at+".name", "name %.80q: want lower-case letters, digits, dots and hyphens, once", m.Name)
	case len(c.s.Models()) > maxModels:
		return c.fail(at, "model: %d models, want at most %d", len(c.s.Models()), maxModels)
	case len(m.Files) == 0 || len(m.Files) > maxModelFiles:
		return c.fail(at+".files", "files: %d, want 1 to %d", len(m.Files), maxModelFiles)
	case strings.ContainsAny(m.Target, " \n"):
		return c.fail(at+".target", "target %.200q: no spaces", m.Target)
	}
	if err := c.target(at+".target", m.Target, false); err != nil {
		return err
	}
	for i, f := range m.Files {
		at := fmt.Sprintf("%s.files.%d", at, i)
		if err := tree.CheckPath(f.Name); err != nil {
			return c.fail(at+".name", "%v", err)
		}
		if slices.ContainsFunc(m.Files[:i], func(o ModelFile) bool { return o.Name == f.Name }) {
			return c.fail(at+".name", "name %.200q: twice", f.Name)
		}
		if err := c.modelFile(at, f); err != nil {
			return err
		}
	}
	return nil
}

func (c checker) modelFile(at string, f ModelFile) error {
	if err := c.one(at, "file", []string{"url", "path"}, []bool{f.URL != "", f.Path != ""}); err != nil {
		return err
	}
	if f.Path != "" {
		if f.SHA256 != "" || f.Size != 0 {
			return c.fail(at, "sha256 and size: only with url; the lock pins a path")
		}
		return c.local(at+".path", f.Path)
	}
	switch {
	case !CheckURL(f.URL):
		return c.fail(at+".url", "url %.200q: want http, https or file, without user and fragment", f.URL)
	case !sha256Form.MatchString(f.SHA256):
		return c.fail(at+".sha256", "sha256 %.80q: want 64 lower-case hex digits", f.SHA256)
	case f.Size < 1 || f.Size > maxModelFile:
		return c.fail(at+".size", "size %d: want 1 to %d bytes", f.Size, int64(maxModelFile))
	}
	return nil
}

// CheckURL says whether s is an address that files are fetched from.
func CheckURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || len(s) > tree.MaxPath || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return false
	}
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" || u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/")
}

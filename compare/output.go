package compare

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

const (
	manifestName   = "manifest.json"
	sbomName       = "sbom.spdx.json"
	manifestSchema = "tally.manifest/v1"
	lockName       = "image.lock"

	maxJSON  = 64 << 20
	maxFiles = 10000
)

// An Output is one side of a comparison of outputs: files by their names below OUT.
type Output struct {
	Name  string            // for messages
	Files map[string]string // name in OUT (slash-separated) to the file that holds it
}

func outputDirs(ctx context.Context, a, b string, opt Options) (*Report, error) {
	x, err := listOutput(a)
	if err != nil {
		return nil, err
	}
	y, err := listOutput(b)
	if err != nil {
		return nil, err
	}
	return Outputs(ctx, x, y, opt)
}

func listOutput(dir string) (Output, error) {
	o := Output{Name: dir, Files: map[string]string{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if len(o.Files) >= maxFiles {
			return fmt.Errorf("%s: more than %d files", dir, maxFiles)
		}
		o.Files[filepath.ToSlash(rel)] = path
		return nil
	})
	return o, err
}

// explainFirst are the artefacts that others hold: what differs in them is explained there, and the others refer
// to it. What is not listed comes before them.
var explainFirst = []string{"vmlinuz", "initrd", "cmdline", "uki.efi", "disk.raw", "disk.qcow2", "disk.tar.gz", "sbom.spdx.json", "reference-values.json", manifestName}

// Outputs compares two outputs of builds, file by file.
func Outputs(ctx context.Context, a, b Output, opt Options) (*Report, error) {
	c := newComparer(ctx, a.Name, b.Name, kindOutput, opt)
	c.inputs(a, b)
	names := unionKeys(a.Files, b.Files)
	slices.SortStableFunc(names, func(x, y string) int { return slices.Index(explainFirst, x) - slices.Index(explainFirst, y) })
	same := true
	for _, name := range names {
		match, err := c.artifact(name, a.Files[name], b.Files[name])
		if err != nil {
			return nil, err
		}
		same = same && match
	}
	sort.Slice(c.r.Artifacts, func(i, j int) bool { return c.r.Artifacts[i].Name < c.r.Artifacts[j].Name })
	if !same && len(c.parts) == 0 {
		c.note("no measured part differs: no register moves")
	}
	return c.finish(same), nil
}

// artifact compares one file of both outputs, either of which may be missing ("").
func (c *comparer) artifact(name, a, b string) (same bool, err error) {
	row := Artifact{Name: name, Status: OnlyB}
	var x, y source
	for _, side := range []struct {
		path string
		s    *source
		size *int64
	}{{a, &x, &row.SizeA}, {b, &y, &row.SizeB}} {
		if side.path == "" {
			continue
		}
		s, done, err := openFile(side.path)
		if err != nil {
			return false, err
		}
		defer done()
		*side.s, *side.size = s, s.Size()
	}
	switch {
	case x != nil && y != nil:
		if same, err = equal(c.ctx, x, y); err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		if row.Status = Differ; same {
			row.Status = Match
		}
	case x != nil:
		row.Status = OnlyA
	}
	c.r.Artifacts = append(c.r.Artifacts, row)
	if part := map[string]string{"vmlinuz": "kernel", "initrd": "initrd", "cmdline": "cmdline"}[name]; part != "" && !same {
		c.part(part, name)
	}
	if row.Status == Differ {
		c.volume = strings.HasPrefix(name, "models/")
		c.models = c.models || c.volume
		err = c.explain(name, x, y)
		c.volume = false
	} else if !same {
		if strings.HasPrefix(name, "firmware/") {
			c.part("firmware", name)
		}
		d := Difference{Layer: LayerArtifact, Where: name}
		text := map[bool]string{true: fmt.Sprintf("%d bytes", row.SizeA+row.SizeB)}
		c.add(d, "file", text[row.Status == OnlyA], text[row.Status == OnlyB], map[Status]string{OnlyA: "only in A", OnlyB: "only in B"}[row.Status])
	}
	return same, err
}

// explain takes one artefact apart, by name where the name says what it is.
func (c *comparer) explain(name string, a, b source) error {
	d := Difference{Layer: LayerArtifact, Where: name}
	switch {
	case name == "cmdline":
		c.cmdline(d, a, b)
		return nil
	case name == manifestName:
		c.manifests(d, a, b)
		return nil
	case name == lockName && len(c.r.Inputs) > 0, name == sbomName && len(c.r.Inputs) > 0:
		c.follows(d, "content", sizeText(a), sizeText(b), "inputs that differ")
		return nil
	case name == "reference-values.json":
		c.follows(d, "content", sizeText(a), sizeText(b), "values of artefacts that differ")
		return nil
	case name == sbomName && c.differs("disk.raw"):
		c.follows(d, "content", sizeText(a), sizeText(b), "digest of a disk.raw that differs")
		return nil
	case strings.HasPrefix(name, "disk.") && name != "disk.raw" && c.differs("disk.raw"):
		c.follows(d, "content", sizeText(a), sizeText(b), "another form of disk.raw")
		return nil
	case strings.HasPrefix(name, "firmware/"):
		d.Owner = c.partOwner["firmware."+strings.TrimSuffix(strings.TrimPrefix(name, "firmware/"), ".fd")]
		return c.firmwares(d, a, b)
	}
	return c.container(name, a, b)
}

// differs says whether an artefact compared before differs. disk.raw is compared before what names it.
func (c *comparer) differs(name string) bool {
	return slices.ContainsFunc(c.r.Artifacts, func(r Artifact) bool { return r.Name == name && r.Status == Differ })
}

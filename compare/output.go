package compare

import (
	"context"
	"encoding/json"
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
	valuesName     = "reference-values.json"
	manifestSchema = "tally.manifest/v1"
	lockName       = "image.lock"

	maxJSON  = 64 << 20
	maxFiles = 10000
)

// NoRegister is the note of a report whose differences are all known to move no register. Without it, one without registers may not know.
const NoRegister = "no measured part differs: no register moves"

// An Output is one side of a comparison of outputs: files by their names below OUT.
type Output struct {
	Name  string            // for messages
	Files map[string]string // name in OUT (slash-separated) to the file that holds it
	Gaps  bool              // something that differs is not at hand: Files does not say all
}

func oneOutput(output, other string, why error) string {
	return fmt.Sprintf("%s is the output of a build and %s is none (%v): compared as directory trees", output, other, why)
}

// checkOutput says why a directory is no output of a build. Web projects, too, have a manifest.json.
func checkOutput(dir string) error {
	name := filepath.Join(dir, manifestName)
	b, err := readRegular(name, maxJSON)
	if err != nil {
		return err
	}
	var m struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &m); err != nil || m.Schema != manifestSchema {
		return fmt.Errorf("%s: schema %.64q, want %q", name, m.Schema, manifestSchema)
	}
	return nil
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
var explainFirst = []string{"vmlinuz", "initrd", "cmdline", "uki.efi", "disk.raw", "disk.qcow2", "disk.tar.gz", sbomName, valuesName, manifestName}

// Outputs compares two outputs of builds, file by file.
func Outputs(ctx context.Context, a, b Output, opt Options) (*Report, error) {
	c := newComparer(ctx, a.Name, b.Name, kindOutput, opt)
	c.gaps = a.Gaps || b.Gaps
	c.unsure = c.gaps
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
	switch {
	case same || len(c.parts) > 0:
	case c.unsure:
		c.note("no part that is known to be measured differs, but not all that differs was read: a register may move")
	default:
		c.note(NoRegister)
	}
	return c.finish(same), nil
}

// artifact compares one file of both outputs, either of which may be missing ("").
func (c *comparer) artifact(name, a, b string) (same bool, err error) {
	row := Artifact{Name: name}
	var files [2]source
	sizes := [2]*int64{&row.SizeA, &row.SizeB}
	for i, path := range []string{a, b} {
		if path == "" {
			continue
		}
		s, done, err := openFile(path)
		if err != nil {
			return false, err
		}
		defer done()
		files[i], *sizes[i] = s, s.Size()
	}
	if row.Status, err = c.status(files[0], files[1]); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	c.r.Artifacts = append(c.r.Artifacts, row)
	if row.Status == Match {
		return true, nil
	}
	return false, c.differing(row, files[0], files[1])
}

// differing explains an artefact that differs, and names the parts that are not found inside of it.
func (c *comparer) differing(row Artifact, a, b source) error {
	name, unsure := row.Name, c.unsure
	if name == "vmlinuz" || name == "initrd" || name == "cmdline" {
		c.wholly(name, name)
	}
	if row.Status != Differ {
		c.onlyOne(row)
		return nil
	}
	c.volume = strings.HasPrefix(name, "models/")
	c.models = c.models || c.volume
	defer func() { c.volume = false }()
	c.unread = false
	if err := c.explain(name, a, b); err != nil {
		return err
	}
	if c.volume = false; c.unread {
		c.wholly(name, name+", which was not read")
	}
	if isUnmeasured(name) {
		c.unsure = unsure // whatever was found in it
	} else if !isMeasured(name) {
		c.unsure = true
	}
	return nil
}

// status compares the bytes of two files, either of which may be missing (nil).
func (c *comparer) status(a, b source) (Status, error) {
	switch {
	case a == nil:
		return OnlyB, nil
	case b == nil:
		return OnlyA, nil
	}
	same, err := equal(c.ctx, a, b)
	if same {
		return Match, err
	}
	return Differ, err
}

// onlyOne records a file that one output has.
func (c *comparer) onlyOne(row Artifact) {
	switch {
	case strings.HasPrefix(row.Name, "firmware/"):
		c.part("firmware", row.Name)
	case row.Name == "uki.efi", row.Name == "disk.raw":
		c.wholly(row.Name, row.Name)
	case !isUnmeasured(row.Name):
		c.unsure = true
	}
	d := Difference{Layer: LayerArtifact, Where: row.Name}
	text := fmt.Sprintf("%d bytes", row.SizeA+row.SizeB)
	if row.Status == OnlyA {
		c.add(d, "file", text, "", "only in A")
	} else {
		c.add(d, "file", "", text, "only in B")
	}
}

// explain takes one artefact apart, by name where the name says what it is.
func (c *comparer) explain(name string, a, b source) error {
	d := Difference{Layer: LayerArtifact, Where: name}
	switch {
	case name == "cmdline":
		c.cmdline(d, a, b)
		return nil
	case name == manifestName:
		return c.manifests(d, a, b)
	case name == lockName && len(c.r.Inputs) > 0, name == sbomName && len(c.r.Inputs) > 0:
		c.follows(d, "content", sizeText(a), sizeText(b), "inputs that differ")
		return nil
	case name == valuesName:
		return c.description(d, a, b, "values of artefacts that differ", c.anyDiffers(hasValues))
	case name == sbomName && c.differs("disk.raw"):
		c.follows(d, "content", sizeText(a), sizeText(b), "digest of a disk.raw that differs")
		return nil
	case strings.HasPrefix(name, "disk.") && name != "disk.raw" && c.differs("disk.raw"):
		c.unsure = true // it is not taken apart, so it may be more than that
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

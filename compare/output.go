package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// A manifest is the part of tally.manifest/v1 that says what the image was made of.
type manifest struct {
	Schema  string   `json:"schema"`
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Epoch   int64    `json:"epoch"`
	Layout  int      `json:"layout"`
	Omitted []string `json:"omitted"`
	Steps   []struct {
		Name    string `json:"name"`
		Key     string `json:"key_sha256"` // of all that the outputs may depend on
		Outputs []struct {
			Target string `json:"target"`
			SHA256 string `json:"sha256"`
		} `json:"outputs"`
	} `json:"steps"`
	Inputs []struct {
		Kind    string `json:"kind"`
		Name    string `json:"name"`
		Version string `json:"version"`
		SHA256  string `json:"sha256"`
	} `json:"inputs"`
}

// lock is the part of tally.lock/v1 that says who uses which package.
type lock struct {
	Packages []struct {
		Name    string   `json:"name"`
		Version string   `json:"version"`
		For     []string `json:"for"`
	} `json:"packages"`
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
	if !same {
		c.artifactPart(name)
	}
	if row.Status == Differ {
		c.volume = strings.HasPrefix(name, "models/")
		c.models = c.models || c.volume
		err = c.explain(name, x, y)
		c.volume = false
	} else if !same {
		d := Difference{Layer: LayerArtifact, Where: name}
		text := map[bool]string{true: fmt.Sprintf("%d bytes", row.SizeA+row.SizeB)}
		c.add(d, "file", text[row.Status == OnlyA], text[row.Status == OnlyB], map[Status]string{OnlyA: "only in A", OnlyB: "only in B"}[row.Status])
	}
	return same, err
}

// artifactPart says which measured part an artefact is. Those of uki.efi and disk.raw are found inside them.
func (c *comparer) artifactPart(name string) {
	switch part := map[string]string{"vmlinuz": "kernel", "initrd": "initrd", "cmdline": "cmdline"}[name]; {
	case part != "":
		c.part(part, name)
	case strings.HasPrefix(name, "firmware/"):
		c.part("firmware", name)
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
		return c.content(d, a, b)
	}
	return c.container(name, a, b)
}

// differs says whether an artefact compared before differs. disk.raw is compared before what names it.
func (c *comparer) differs(name string) bool {
	return slices.ContainsFunc(c.r.Artifacts, func(r Artifact) bool { return r.Name == name && r.Status == Differ })
}

// manifests compares what a manifest says beside digests, parameters and inputs: those are compared as such.
func (c *comparer) manifests(d Difference, a, b source) {
	x, errA := readManifest(a)
	y, errB := readManifest(b)
	if err := errors.Join(errA, errB); err != nil {
		c.note("manifest.json: %v: compared as bytes", err)
		c.add(d, "content", sizeText(a), sizeText(b), "other contents")
		return
	}
	before := len(c.all)
	for _, f := range []pairField{
		{"name", x.Name, y.Name, "another name in the spec"}, {"version", x.Version, y.Version, "another version in the spec"},
		{"epoch", fmt.Sprint(x.Epoch), fmt.Sprint(y.Epoch), "another epoch in the spec"}, {"layout", fmt.Sprint(x.Layout), fmt.Sprint(y.Layout), "another layout version"},
	} {
		if f.a != f.b {
			c.add(d, f.name, f.a, f.b, f.cause)
		}
	}
	if !slices.Equal(x.Omitted, y.Omitted) {
		d.Text = lines([]byte(strings.Join(x.Omitted, "\n")), []byte(strings.Join(y.Omitted, "\n")))
		c.add(d, "omitted", fmt.Sprint(len(x.Omitted)), fmt.Sprint(len(y.Omitted)), "other things left out")
		d.Text = ""
	}
	c.steps(d, x, y)
	if len(c.all) == before {
		c.follows(d, "content", sizeText(a), sizeText(b), "digests of artefacts or inputs that differ")
	}
}

// steps compares what the build steps of both manifests made, and of what.
func (c *comparer) steps(d Difference, x, y *manifest) {
	type output struct{ key, sum string }
	was := map[[2]string]output{}
	for _, s := range x.Steps {
		for _, o := range s.Outputs {
			was[[2]string{s.Name, o.Target}] = output{s.Key, o.SHA256}
		}
	}
	for _, s := range y.Steps {
		for _, o := range s.Outputs {
			old, ok := was[[2]string{s.Name, o.Target}]
			if !ok || old.sum == o.SHA256 {
				continue // a step that one side has not is a change of the spec
			}
			cause := "step " + s.Name + " changed: its definition, build root or inputs"
			if old.key == s.Key {
				cause = "step " + s.Name + " makes other bytes of the same inputs: it is not reproducible"
			}
			d.Path = o.Target
			c.add(d, "step output", "sha256:"+old.sum, "sha256:"+o.SHA256, cause)
		}
	}
}

func readManifest(s source) (*manifest, error) {
	b, ok, err := readAll(s, maxJSON)
	if err != nil || !ok {
		return nil, fmt.Errorf("%d bytes: want at most %d", s.Size(), maxJSON)
	}
	m := new(manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, err
	}
	if m.Schema != manifestSchema {
		return nil, fmt.Errorf("schema %.64q, want %q", m.Schema, manifestSchema)
	}
	return m, nil
}

// inputs compares what the two were built from, and finds whose the kernel, the stub and the firmware are.
func (c *comparer) inputs(a, b Output) {
	type key struct{ kind, name string }
	all := map[key][2]string{}
	for i, o := range []Output{a, b} {
		s, done, err := openFile(o.Files[manifestName])
		if err != nil {
			c.note("%s: no manifest.json: inputs were not compared", o.Name)
			return
		}
		m, err := readManifest(s)
		done()
		if err != nil {
			c.note("%s: manifest.json: %v: inputs were not compared", o.Name, err)
			return
		}
		for _, in := range m.Inputs {
			k := key{in.Kind, in.Name}
			v := all[k]
			if v[i] != "" { // several versions of one module
				v[i] += ", "
			}
			v[i] += strings.TrimSpace(in.Version + " sha256:" + in.SHA256)
			all[k] = v
		}
	}
	for k, v := range all {
		if v[0] != v[1] {
			c.r.Inputs = append(c.r.Inputs, Input{Kind: k.kind, Name: k.name, A: v[0], B: v[1]})
		}
	}
	sort.Slice(c.r.Inputs, func(i, j int) bool {
		x, y := c.r.Inputs[i], c.r.Inputs[j]
		return x.Kind+"\x00"+x.Name < y.Kind+"\x00"+y.Name
	})
	for _, in := range c.r.Inputs {
		if in.A != "" && in.B != "" {
			c.changed[in.Kind+" "+in.Name] = inputCauses([]Input{in})[0]
		}
	}
	p, q := usersOf(a.Files[lockName]), usersOf(b.Files[lockName])
	for _, user := range unionKeys(p, q) {
		c.partOwner[user] = change(p[user], q[user])
	}
}

// usersOf reads which package is for what (kernel, stub, firmware.NAME) from a lock; nothing when it cannot.
func usersOf(path string) map[string]string {
	users := map[string]string{}
	data, err := os.ReadFile(path)
	if err != nil || len(data) > maxJSON {
		return users
	}
	var l lock
	if json.Unmarshal(data, &l) != nil {
		return users
	}
	for _, p := range l.Packages {
		for _, user := range p.For {
			users[user] = "package " + p.Name + " " + p.Version
		}
	}
	return users
}

// inputCauses says in words which inputs changed.
func inputCauses(inputs []Input) []string {
	var out []string
	gone, come := map[string]Input{}, map[string]Input{}
	for _, in := range inputs {
		v, w := word(in.A), word(in.B)
		switch {
		case in.A == "":
			come[in.Kind+" "+stem(in.Name)] = in
		case in.B == "":
			gone[in.Kind+" "+stem(in.Name)] = in
		case v == w || strings.HasPrefix(v, "sha256:"):
			out = append(out, fmt.Sprintf("%s %s: other contents", in.Kind, in.Name))
		default:
			out = append(out, fmt.Sprintf("%s %s %s -> %s", in.Kind, in.Name, v, w))
		}
	}
	for k, in := range gone {
		if other, ok := come[k]; ok { // a version in the name: toolchains, kernels, libraries
			out = append(out, fmt.Sprintf("%s %s -> %s", in.Kind, in.Name, other.Name))
			delete(come, k)
		} else {
			out = append(out, fmt.Sprintf("%s %s only in A", in.Kind, in.Name))
		}
	}
	for _, in := range come {
		out = append(out, fmt.Sprintf("%s %s only in B", in.Kind, in.Name))
	}
	sort.Strings(out)
	return out
}

// stem is a name without the numbers in it.
func stem(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, name)
}

package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

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

// manifests compares what a manifest says beside digests, parameters and inputs: those are compared as such.
func (c *comparer) manifests(d Difference, a, b source) error {
	x, errA := readManifest(a)
	y, errB := readManifest(b)
	if err := errors.Join(errA, errB); err != nil {
		c.note("manifest.json: %v: compared as bytes", err)
		c.add(d, "content", sizeText(a), sizeText(b), "other contents")
		return nil
	}
	before := len(c.all) + c.r.Omitted
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
	if len(c.all)+c.r.Omitted > before {
		return nil
	}
	described := func(name string) bool { return name != manifestName && name != valuesName } // values are made after it
	return c.description(d, a, b, "digests of artefacts or inputs that differ", len(c.r.Inputs) > 0 || c.anyDiffers(described))
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
	b, err := readWhole(s, maxJSON)
	if err != nil {
		return nil, err
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

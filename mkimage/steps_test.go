package mkimage

import (
	"bytes"
	"strings"
	"testing"
)

// TestManifestSteps: what a step made is in the manifest, and a manifest without steps has no such key.
func TestManifestSteps(t *testing.T) {
	m := &Manifest{Schema: ManifestSchema, Layout: LayoutVersion, Platforms: []byte("[]")}
	without, err := m.Marshal()
	if err != nil || strings.Contains(string(without), "steps") {
		t.Fatalf("%v\n%s", err, without)
	}
	m.Steps = []Step{{Name: "b", Outputs: []StepOutput{{Target: "x", Kind: "file", SHA256: Digest{1}, Size: 1}}}, {Name: "a", Outputs: []StepOutput{}}}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := again.Marshal(); err != nil || !bytes.Equal(back, data) || again.Steps[0].Name != "b" {
		t.Errorf("%v\n%s", err, back)
	}
	for old, new := range map[string]string{`"file"`: `"socket"`, `"target": "x"`: `"target": "../x"`, `"size": 1`: `"size": -1`, `"name": "a"`: `"name": "b"`, `"name": "b"`: `"name": "B"`} {
		if _, err := ParseManifest(bytes.Replace(data, []byte(old), []byte(new), 1)); err == nil || !strings.Contains(err.Error(), "manifest: step ") {
			t.Errorf("%s: error %v", new, err)
		}
	}
	if _, err := ParseManifest(bytes.Replace(data, []byte(`"kind"`), []byte(`"sort"`), 1)); err == nil {
		t.Error("an unknown key of an output is accepted")
	}
}

package mkimage

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func sample() *Manifest {
	return &Manifest{
		Schema: ManifestSchema, Name: "x", Version: "1", Epoch: 1767225600, Layout: LayoutVersion,
		Artifacts: []Artifact{{Name: "uki.efi", Role: "uki", Size: 2}, {Name: "disk.raw", Role: "disk", Size: 1}},
		Verity:    VerityParams{Algorithm: "sha256", Salt: "-"},
		Cmdline:   "a <b> & c",
		Platforms: json.RawMessage(`[{"name":"p"}]`),
		Inputs:    []Input{{Kind: "package", Name: "b", Verified: "index"}, {Kind: "package", Name: "a", Verified: "index"}},
		Omitted:   []string{"z", "a"},
	}
}

func TestManifestRoundTrip(t *testing.T) {
	data, err := sample().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	if m.Artifacts[0].Name != "disk.raw" || m.Inputs[0].Name != "a" || m.Omitted[0] != "a" {
		t.Errorf("lists are not sorted: %+v", m)
	}
	again, err := m.Marshal()
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("second form differs (%v):\n%s", err, again)
	}
}

func TestManifestRefusals(t *testing.T) {
	data, err := sample().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":     {`"name": "x"`, `"nam": "x"`, "nam"},
		"duplicate key":   {`"name": "x",`, `"name": "y", "name": "x",`, "not in the form"},
		"schema":          {"manifest/v1", "manifest/v2", "schema"},
		"layout":          {`"layout": 1`, `"layout": 2`, "layout 2"},
		"absolute path":   {`"disk.raw"`, `"/disk.raw"`, "clean relative path"},
		"climbing path":   {`"disk.raw"`, `"../disk.raw"`, "clean relative path"},
		"duplicate":       {`"uki.efi"`, `"disk.raw"`, "twice"},
		"negative size":   {`"size": 1`, `"size": -1`, "size -1"},
		"short digest":    {`"sha256": "00`, `"sha256": "0`, "64"},
		"upper-case":      {`"sha256": "00`, `"sha256": "AA`, "lower-case"},
		"trailing data":   {"]\n}\n", "]\n}\n{}", "after the object"},
		"no last newline": {"]\n}\n", "]\n}", "not in the form"},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Fatalf("%s: nothing replaced", name)
		}
		if _, err := ParseManifest([]byte(bad)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	data, _ := sample().Marshal()
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		if again, err := m.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("accepted a second form (%v)", err)
		}
	})
}

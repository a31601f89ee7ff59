package e2e

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"

	"tally/mkimage/lock"
)

// TestSBOM holds the list of a real image against its lock, through the SPDX project's own reader.
func TestSBOM(t *testing.T) {
	l := built(t)
	doc := new(v2_3.Document)
	if err := spdxjson.ReadInto(bytes.NewReader(read(t, filepath.Join(l.out, "sbom.spdx.json"))), doc); err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	k, err := lock.Parse(read(t, l.lock), l.lock)
	if err != nil {
		t.Fatal(err)
	}
	sums, purls := map[string]bool{}, map[string]bool{}
	for _, p := range doc.Packages {
		for _, c := range p.PackageChecksums {
			sums[p.PackageName+" "+c.Value] = true
		}
		for _, r := range p.PackageExternalReferences {
			purls[r.Locator] = true
		}
	}
	for _, p := range k.Packages {
		purl := "pkg:deb/debian/" + strings.ReplaceAll(p.Name+"@"+p.Version, "+", "%2B") + "?arch=" + p.Arch + "&distro=" + p.Suite
		if !sums[p.Name+" "+p.SHA256.String()] || !purls[purl] {
			t.Errorf("package %s %s of the lock is not in the list with its hash and as %s", p.Name, p.Version, purl)
		}
	}
	for _, f := range k.Files {
		if !sums[f.Path+" "+f.SHA256.String()] {
			t.Errorf("file %s of the lock is not in the list with its hash", f.Path)
		}
	}
	if want := 1 + len(k.Packages) + len(k.Files) + len(k.Dirs) + len(k.OCI) + len(k.Models) + len(k.Go) + len(k.Modules) + len(k.Toolchains); len(doc.Packages) != want {
		t.Errorf("%d packages in the list, want the image and %d inputs", len(doc.Packages), want-1)
	}
}

package sbom

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

func fixture() Image {
	return Image{Name: "fixture", Version: "0.1.0", Epoch: 1767225600, Disk: [32]byte{0xd1}, Components: []Component{
		{Kind: "package", Name: "libstdc++6", Version: "1:14.2.0-19+b1~x", SHA256: [32]byte{1}, PURL: DebianPURL("libstdc++6", "1:14.2.0-19+b1~x", "amd64", "trixie"), UsedBy: []string{"kernel", "root.0"}},
		{Kind: "package", Name: "ovmf", Version: "2025.02-8", SHA256: [32]byte{2}, PURL: DebianPURL("ovmf", "2025.02-8", "all", "trixie"), UsedBy: []string{"firmware.ovmf"}},
		{Kind: "file", Name: "a/b c.xz", SHA256: [32]byte{3}},
		{Kind: "dir", Name: "rootfs", SHA256: [32]byte{4}},
		{Kind: "go", Name: "./cmd/init", Version: "go1.26.8", SHA256: [32]byte{5}},
		{Kind: "module", Name: "github.com/Klauspost/compress", Version: "v1.20.3", SHA256: [32]byte{6}, PURL: GoPURL("github.com/Klauspost/compress", "v1.20.3")},
		{Kind: "toolchain", Name: "go1.26.8", Version: "linux-amd64", SHA256: [32]byte{7}, PURL: GoPURL("golang.org/toolchain", "v0.0.1-go1.26.8.linux-amd64")},
		{Kind: "oci", Name: "example/app", SHA256: [32]byte{8}, PURL: OCIPURL("example/app", "registry.example:5000/example/app", [32]byte{8})},
		{Kind: "package", Name: "gcc", Version: "4:14.2.0-1", SHA256: [32]byte{10}, UsedBy: []string{"step.tool"}},
		{Kind: "oci", Name: "example+app", SHA256: [32]byte{9}}, // the same id but for the digest
	}}
}

func marshal(t testing.TB, im Image) []byte {
	t.Helper()
	b, err := Marshal(im)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const golden = "a5d35693b610fae2722e28c68ee64d4fbcf545dad5e55708a5049d23069f571f"

func TestGolden(t *testing.T) {
	im := fixture()
	for range 2 {
		if sum := sha256.Sum256(marshal(t, im)); hex.EncodeToString(sum[:]) != golden {
			t.Errorf("document %x, want %s", sum, golden)
		}
		slices.Reverse(im.Components)
		im.Components = append(im.Components, im.Components[0]) // twice is once
	}
}

func read(t testing.TB, data []byte) *v2_3.Document {
	t.Helper()
	doc := new(v2_3.Document)
	if err := spdxjson.ReadInto(bytes.NewReader(data), doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// The SPDX project's own library must read the document, find it valid, and lose nothing of it.
func TestToolsGolang(t *testing.T) {
	data := marshal(t, fixture())
	doc := read(t, data)
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	ids, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(ids) != 1 || ids[0] != "Image" {
		t.Errorf("the document describes %v, %v", ids, err)
	}
	var again bytes.Buffer
	if err := spdxjson.Write(doc, &again); err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read and written again by tools-golang (-ours +theirs):\n%s", diff)
	}
	// A relationship to nothing must be seen, else the check above proves nothing.
	bad := read(t, bytes.Replace(data, []byte(`"relatedSpdxElement": "SPDXRef-Image"`), []byte(`"relatedSpdxElement": "SPDXRef-Other"`), 1))
	if spdxlib.ValidateDocument(bad) == nil {
		t.Error("tools-golang accepts a relationship to nothing")
	}
}

// What a reader of the document wants to know, by way of tools-golang.
func TestContent(t *testing.T) {
	doc := read(t, marshal(t, fixture()))
	if got := doc.CreationInfo.Created; got != "2026-01-01T00:00:00Z" {
		t.Errorf("created %s, want the epoch", got)
	}
	if !regexp.MustCompile(`^https://spdx\.org/spdxdocs/fixture-0\.1\.0-[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(doc.DocumentNamespace) {
		t.Errorf("namespace %s", doc.DocumentNamespace)
	}
	type seen struct{ Sum, PURL, Comment, Relation string }
	got := map[string]seen{}
	relation := map[string]string{}
	for _, r := range doc.Relationships {
		other := string(r.RefB.ElementRefID)
		if strings.HasPrefix(r.Relationship, "BUILD_") {
			other = string(r.RefA.ElementRefID)
		}
		relation[other] = r.Relationship
	}
	for _, p := range doc.Packages {
		s := seen{Comment: p.PackageComment, Relation: relation[string(p.PackageSPDXIdentifier)]}
		for _, c := range p.PackageChecksums {
			s.Sum = string(c.Algorithm) + " " + c.Value[:2]
		}
		for _, r := range p.PackageExternalReferences {
			s.PURL = r.Locator
		}
		got[p.PackageName] = s
	}
	zeros := strings.Repeat("0", 62)
	if diff := cmp.Diff(map[string]seen{
		"fixture":                       {"SHA256 d1", "", "", "DESCRIBES"},
		"libstdc++6":                    {"SHA256 01", "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19%2Bb1~x?arch=amd64&distro=trixie", "used by kernel, root.0", "CONTAINS"},
		"ovmf":                          {"SHA256 02", "pkg:deb/debian/ovmf@2025.02-8?arch=all&distro=trixie", "used by firmware.ovmf", "GENERATED_FROM"},
		"a/b c.xz":                      {"SHA256 03", "", "", "CONTAINS"},
		"rootfs":                        {"", "", "tree_sha256 04" + zeros, "CONTAINS"},
		"./cmd/init":                    {"", "", "source_sha256 05" + zeros, "GENERATED_FROM"},
		"github.com/Klauspost/compress": {"", "pkg:golang/github.com/klauspost/compress@v1.20.3", "h1:BgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "GENERATED_FROM"},
		"go1.26.8":                      {"", "pkg:golang/golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64", "h1:BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "BUILD_TOOL_OF"},
		"example/app":                   {"SHA256 08", "pkg:oci/app@sha256%3A08" + zeros + "?repository_url=registry.example:5000%2Fexample%2Fapp", "", "CONTAINS"},
		"gcc":                           {"SHA256 0a", "", "used by step.tool", "BUILD_DEPENDENCY_OF"},
		"example+app":                   {"SHA256 09", "", "", "CONTAINS"},
	}, got); diff != "" {
		t.Error(diff)
	}
}

// The namespace names the content: any change moves it.
func TestNamespace(t *testing.T) {
	namespace := func(change func(*Image)) string {
		im := fixture()
		change(&im)
		return read(t, marshal(t, im)).DocumentNamespace
	}
	base := namespace(func(*Image) {})
	for name, change := range map[string]func(*Image){
		"epoch":     func(im *Image) { im.Epoch++ },
		"disk":      func(im *Image) { im.Disk[5]++ },
		"component": func(im *Image) { im.Components[2].SHA256[31]++ },
		"fewer":     func(im *Image) { im.Components = im.Components[1:] },
	} {
		if namespace(change) == base {
			t.Errorf("%s does not move the namespace", name)
		}
	}
}

func TestRefuses(t *testing.T) {
	for want, change := range map[string]func(*Image){
		"want a name":          func(im *Image) { im.Name = "" },
		"a version":            func(im *Image) { im.Version = "" },
		"no time before 1970":  func(im *Image) { im.Epoch = -1 },
		"without kind or name": func(im *Image) { im.Components[0].Name = "" },
	} {
		im := fixture()
		change(&im)
		if _, err := Marshal(im); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

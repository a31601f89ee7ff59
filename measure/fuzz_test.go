package measure

import (
	"encoding/json"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func FuzzParse(f *testing.F) {
	rv, err := Image(f.Context(), out(f, "roothash="+root), nil)
	if err != nil {
		f.Fatal(err)
	}
	rv.Values = rv.Values[:1]
	guests := imageValues(f, withSVSM(f), svsmPlatform, igvmPlatform)
	for _, rv := range []*ReferenceValues{rv, guests} {
		good, err := rv.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(good)
	}
	f.Add([]byte(`{"schema":"tally.reference-values/v1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rv, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := rv.Marshal(); err != nil || string(again) != string(b) {
			t.Errorf("accepted a second form: %v", err)
		}
	})
}

func FuzzParsePlatforms(f *testing.F) {
	f.Add([]byte(`[{"name":"q","tee":"snp","vmm":"QEMU","firmware":"f","kernel-hashes":true,"vcpu-type":"EPYC","vcpus":[1,2],"guest-features":1}]`))
	f.Add([]byte("[" + svsmPlatform + "," + igvmPlatform + "]"))
	f.Add([]byte(`[{"name":"v","tee":"vtpm","bank":"sha256","secure-boot":"empty","firmware":"f","machine":"q35"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, err := ParsePlatforms(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(ps)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParsePlatforms(again); err != nil || !cmp.Equal(ps, back) {
			t.Errorf("%s does not come back: %v", again, err)
		}
	})
}

// FuzzManifest gives Image a hostile manifest over right files.
func FuzzManifest(f *testing.F) {
	fsys := out(f, "roothash="+root)
	f.Add(fsys["manifest.json"].Data)
	f.Add([]byte(`{"schema":"tally.manifest/v1","artifacts":[{"name":"../x","role":"kernel"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys["manifest.json"] = &fstest.MapFile{Data: b}
		rv, err := Image(t.Context(), fsys, nil)
		if err != nil {
			return
		}
		if err := rv.Recompute(); err != nil {
			t.Errorf("wrote values that do not follow: %v", err)
		}
	})
}

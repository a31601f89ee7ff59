package release_test

import (
	"slices"
	"strings"
	"testing"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// The digest of the OCI manifest is a subject that a verification shows, a policy can want and an image is held
// against.
func TestImage(t *testing.T) {
	w := rt.New(t)
	plain := w.Bundle
	if err := sign.WriteOCI(t.Context(), w.Out); err != nil {
		t.Fatal(err)
	}
	named := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	p := *w.Policy
	p.OCIManifest = true
	if _, err := release.Verify(plain, &p, rt.Now); err == nil || reason(t, err) != release.NoImage || !release.NoImage.Policy() {
		t.Errorf("not named: %v", err)
	}
	r, err := release.Verify(named, &p, rt.Now)
	if err != nil {
		t.Fatal(err)
	}
	image, ok := r.Statement.Image()
	if !ok || !slices.ContainsFunc(r.Checks, func(c release.Check) bool { return c.Name == "image" && c.Got == "sha256:"+image.String() }) {
		t.Errorf("not shown: %+v", r.Checks)
	}
	if err := r.CheckImage("host/a:1", image); err != nil {
		t.Error(err)
	}
	other := image
	other[0] ^= 1
	if err := r.CheckImage("host/a:1", other); err == nil || reason(t, err) != release.BadArtifact || r.Checks[len(r.Checks)-1].Status != release.Failed {
		t.Errorf("another image: %v", err)
	}
	if r, err = release.Verify(plain, w.Policy, rt.Now); err != nil {
		t.Fatal(err)
	}
	if err := r.CheckImage("host/a:1", image); err == nil || !strings.Contains(err.Error(), "names no oci-manifest.json") {
		t.Errorf("no image: %v", err)
	}
	if err := new(release.Result).CheckImage("host/a:1", image); err == nil || reason(t, err) != release.BadArtifact {
		t.Errorf("nothing verified: %v", err)
	}
}

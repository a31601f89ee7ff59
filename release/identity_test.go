package release_test

import (
	"strings"
	"testing"

	"tally/release"
)

// A pattern is anchored at both ends and nothing in it but "*" is special.
func TestIdentityPatterns(t *testing.T) {
	certified := func(ref string) *release.Certified {
		return &release.Certified{
			Issuer: "https://i.example", Subject: "https://g.example/a/b/w/r.yml@" + ref, Repository: "https://g.example/a/b", Ref: ref, Commit: "c0ffee",
		}
	}
	id := release.Identity{Issuer: "https://i.example", Repository: "https://g.example/a/b", Workflow: "w/r.yml", Commit: "*"}
	for _, c := range []struct {
		tag, ref string
		want     bool
	}{
		{"v1.2", "refs/tags/v1.2", true},
		{"v1.2", "refs/tags/v1x2", false},
		{"v1.2", "refs/tags/v1.2.3", false},
		{"v1.2", "refs/tags/xv1.2", false},
		{"v*", "refs/tags/v1.2", true},
		{"v*", "refs/tags/v", false},
		{"v*", "refs/tags/v1/2", false},
		{"v*", "refs/tags/v1\n", false},
		{"v*", "refs/heads/v1", false},
		{"*", "refs/tags/anything", true},
		{"*", "refs/heads/anything", false},
		{"v*.*", "refs/tags/v1.2", true},
		{"v*.*", "refs/tags/v12", false},
		{"v[0-9]+", "refs/tags/v1", false},
		{"v.*", "refs/tags/v1", false},
		{"(", "refs/tags/(", true},
	} {
		id.Tag = c.tag
		if err := id.Match(certified(c.ref)); (err == nil) != c.want {
			t.Errorf("tag %q on %q: %v", c.tag, c.ref, err)
		}
	}
	if err := (release.Identity{}).Match(certified("refs/tags/v1")); err == nil {
		t.Error("the zero identity matches")
	}
	id.Tag = "*"
	if err := id.Match(&release.Certified{Issuer: id.Issuer}); err == nil || !strings.Contains(err.Error(), "workflow") {
		t.Errorf("an empty certificate: %v", err)
	}
	if err := (release.Identity{Issuer: id.Issuer, Subject: "*"}).Match(&release.Certified{Issuer: id.Issuer}); err == nil {
		t.Error("an empty subject matches")
	}
}

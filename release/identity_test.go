package release_test

import (
	"strings"
	"testing"
	"time"

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

// A rule says everything, and is about a workflow or an account.
func TestIdentityCheck(t *testing.T) {
	type I = release.Identity
	work := I{Issuer: "https://i.example", Repository: "https://g.example/a/b", Workflow: "w.yml", Tag: "*", Commit: "*"}
	long := strings.Repeat("x", 1024)
	for what, c := range map[string]struct {
		of     I
		change func(*I)
		want   string
	}{
		"workflow":            {work, func(*I) {}, ""},
		"account":             {I{Issuer: "i", Subject: "a@b.example"}, func(*I) {}, ""},
		"longest":             {I{Issuer: long, Subject: long}, func(*I) {}, ""},
		"no issuer":           {work, func(i *I) { i.Issuer = "" }, "want an issuer"},
		"any issuer":          {work, func(i *I) { i.Issuer = "https://*.example" }, "want an issuer"},
		"account's issuer":    {I{Subject: "a"}, func(*I) {}, "want an issuer"},
		"nobody":              {I{Issuer: "i"}, func(*I) {}, "or a subject"},
		"no repository":       {work, func(i *I) { i.Repository = "" }, "or a subject"},
		"no workflow":         {work, func(i *I) { i.Workflow = "" }, "or a subject"},
		"no tag":              {work, func(i *I) { i.Tag = "" }, "or a subject"},
		"no commit":           {work, func(i *I) { i.Commit = "" }, "or a subject"},
		"both":                {work, func(i *I) { i.Subject = "a" }, "either a subject"},
		"account and commit":  {I{Issuer: "i", Subject: "a", Commit: "*"}, func(*I) {}, "either a subject"},
		"too long":            {I{Issuer: "i", Subject: long + "x"}, func(*I) {}, "at most 1024"},
		"escape in issuer":    {I{Issuer: "i\x1b", Subject: "a"}, func(*I) {}, "printable"},
		"line in tag":         {work, func(i *I) { i.Tag = "v\n1" }, "printable"},
		"reordering":          {work, func(i *I) { i.Commit = "\u202e" }, "printable"},
		"begins":              {work, func(i *I) { i.NotBefore = time.Unix(1, 0) }, ""},
		"ends":                {work, func(i *I) { i.NotAfter = time.Unix(1, 0) }, ""},
		"a second":            {work, func(i *I) { i.NotBefore, i.NotAfter = time.Unix(1, 0), time.Unix(2, 0) }, ""},
		"ends as it begins":   {work, func(i *I) { i.NotBefore, i.NotAfter = time.Unix(1, 0), time.Unix(1, 0) }, "ends before"},
		"ends before it does": {work, func(i *I) { i.NotBefore, i.NotAfter = time.Unix(2, 0), time.Unix(1, 0) }, "ends before"},
	} {
		c.change(&c.of)
		err := c.of.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		// Whom the rule is about is said of a rule alone, and of one that is about one.
		k, one := c.of.Signer()
		if one != (err == nil) || k.ID() == (release.Digest{}) {
			t.Errorf("%s: signer %s, %v", what, k.ID(), one)
		}
		for _, field := range []*string{&c.of.Subject, &c.of.Repository, &c.of.Workflow} {
			if many := *field; many != "" && err == nil {
				*field = "*" + many[1:]
				if _, one := c.of.Signer(); one || c.of.Check() != nil {
					t.Errorf("%s: a rule about many names one signer: %s", what, c.of)
				}
				*field = many
			}
		}
	}
}

// The subject of a workflow's certificate is that workflow of the repository at the ref, and what was built.
func TestIdentityWorkflow(t *testing.T) {
	type C = release.Certified
	id := release.Identity{Issuer: "https://i.example", Repository: "https://g.example/a/b", Workflow: "w.yml", Tag: "v1", Commit: "*"}
	for what, c := range map[string]struct {
		change func(*C)
		ok     bool
	}{
		"as it is":            {func(*C) {}, true},
		"built from itself":   {func(c *C) { c.BuildConfig = c.Subject }, true},
		"built from another":  {func(c *C) { c.BuildConfig = "https://g.example/a/b/x.yml@refs/tags/v1" }, false},
		"no repository":       {func(c *C) { c.Repository = "" }, false},
		"no ref":              {func(c *C) { c.Ref, c.Subject = "", "https://g.example/a/b/w.yml@" }, false},
		"subject without ref": {func(c *C) { c.Subject = "https://g.example/a/b/w.yml" }, false},
		"subject at another":  {func(c *C) { c.Subject = "https://g.example/a/b/w.yml@refs/heads/v1" }, false},
		"of another house":    {func(c *C) { c.Subject = "https://g.example/x/b/w.yml@refs/tags/v1" }, false},
		"of a longer name":    {func(c *C) { c.Subject = "https://g.example/a/bw.yml@refs/tags/v1" }, false},
		"the bare workflow":   {func(c *C) { c.Subject = "w.yml@refs/tags/v1" }, false},
	} {
		got := &C{Issuer: id.Issuer, Subject: "https://g.example/a/b/w.yml@refs/tags/v1", Repository: id.Repository, Ref: "refs/tags/v1", Commit: "c0ffee"}
		c.change(got)
		if err := id.Match(got); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "is no workflow of repository") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

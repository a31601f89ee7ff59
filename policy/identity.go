package policy

import (
	"fmt"
	"slices"

	"tally/release"
)

type identityYAML struct {
	Issuer     string `yaml:"issuer,required"`
	Subject    string `yaml:"subject"`
	Repository string `yaml:"repository"`
	Workflow   string `yaml:"workflow"`
	Tag        string `yaml:"tag"`
	Commit     string `yaml:"commit"`
	NotBefore  string `yaml:"not-before"`
	NotAfter   string `yaml:"not-after"`
}

// identities reads whose certificates are accepted, and the trusted root that those need.
func (r *reader) identities(y *releaseYAML) (p release.IdentityPolicy) {
	for i, id := range y.Identities {
		path := fmt.Sprintf("release.identities.%d", i)
		rule := release.Identity{
			Issuer: id.Issuer, Subject: id.Subject, Repository: id.Repository, Workflow: id.Workflow, Tag: id.Tag, Commit: id.Commit,
			NotBefore: r.time(id.NotBefore, path+".not-before"), NotAfter: r.time(id.NotAfter, path+".not-after"),
		}
		if err := rule.Check(); err != nil {
			r.fail(path, "%v", err)
		}
		if slices.ContainsFunc(p.List, func(o release.Identity) bool { return o.Untimed() == rule.Untimed() }) {
			r.fail(path, "the same identity twice")
		}
		p.List = append(p.List, rule)
	}
	switch {
	case len(p.List) > 0 && y.TrustedRoot == "":
		r.fail("release.identities", "want \"trusted-root\" beside them: who gives certificates")
	case len(p.List) == 0 && y.TrustedRoot != "":
		r.fail("release.trusted-root", "nobody is named under \"identities\"")
	}
	if r.err != nil || y.TrustedRoot == "" {
		return p
	}
	root, err := r.read(y.TrustedRoot)
	if err != nil {
		r.fail("release.trusted-root", "%v", err)
	}
	p.TrustedRoot = root
	return p
}

package policy

import (
	"fmt"
	"maps"
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

// identities reads whose certificates are accepted, for what, and the one trusted root that those need.
func (r *reader) identities(y *releaseYAML, p *release.Policy) {
	p.Identities.List = r.rules(y.Identities, "release.identities")
	p.RevokerIdentities.List = r.rules(y.RevokerIdentities, "release.revocation-identities")
	all := map[string]*release.IdentityPolicy{
		"release.identities": &p.Identities, "release.revocation-identities": &p.RevokerIdentities, "release.rebuilders.identities": &p.Rebuilders.Identities,
	}
	n := 0
	for _, path := range slices.Sorted(maps.Keys(all)) {
		n += len(all[path].List)
		if len(all[path].List) > 0 && y.TrustedRoot == "" {
			r.fail(path, "want \"trusted-root\" under release: who gives certificates")
		}
	}
	if n == 0 && y.TrustedRoot != "" {
		r.fail("release.trusted-root", "nobody is named under \"identities\"")
	}
	if r.err != nil || y.TrustedRoot == "" {
		return
	}
	root, err := r.read(y.TrustedRoot)
	if err != nil {
		r.fail("release.trusted-root", "%v", err)
	} else if len(root) == 0 {
		r.fail("release.trusted-root", "%s: the file is empty", y.TrustedRoot)
	}
	for _, ids := range all {
		if len(ids.List) > 0 {
			ids.TrustedRoot = root
		}
	}
}

func (r *reader) rules(list []identityYAML, at string) (out []release.Identity) {
	for i, id := range list {
		path := fmt.Sprintf("%s.%d", at, i)
		rule := release.Identity{
			Issuer: id.Issuer, Subject: id.Subject, Repository: id.Repository, Workflow: id.Workflow, Tag: id.Tag, Commit: id.Commit,
			NotBefore: r.time(id.NotBefore, path+".not-before"), NotAfter: r.time(id.NotAfter, path+".not-after"),
		}
		if err := rule.Check(); err != nil {
			r.fail(path, "%v", err)
		}
		if slices.ContainsFunc(out, func(o release.Identity) bool { return o.Untimed() == rule.Untimed() }) {
			r.fail(path, "the same identity twice")
		}
		out = append(out, rule)
	}
	return out
}

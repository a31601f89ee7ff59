package lock

import (
	"fmt"
	"strings"

	"tally/mkimage/deb"
)

// split are the packages of a kernel of Debian 14, which an empty linux-image-* depends on: the lists of its modules, itself,
// its modules.
var split = []string{"linux-base-", "linux-binary-", "linux-modules-"}

// kernel follows p to the packages that a kernel is in: itself, the one linux-image-* of an exact version that a
// metapackage depends on, or those into which that one is split.
func kernel(all []*deb.Package, p *deb.Package) ([]*deb.Package, error) {
	image, err := dependency(all, p, "linux-image-")
	if err != nil {
		return nil, err
	}
	if image == nil {
		image = p
	}
	var parts []*deb.Package
	for _, prefix := range split {
		q, err := dependency(all, image, prefix)
		if err != nil {
			return nil, err
		}
		if q != nil {
			parts = append(parts, q)
		}
	}
	switch len(parts) {
	case 0:
		return []*deb.Package{image}, nil
	case len(split):
		return parts, nil
	}
	return nil, fmt.Errorf("package %s depends on %d of %s*, want all or none", image.Name, len(parts), strings.Join(split, "*, "))
}

// dependency returns the one package whose name starts with prefix that p depends on, or nil when there is none.
func dependency(all []*deb.Package, p *deb.Package, prefix string) (*deb.Package, error) {
	var found []deb.Relation
	for _, alts := range p.Depends {
		if len(alts) == 1 && strings.HasPrefix(alts[0].Name, prefix) {
			found = append(found, alts[0])
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, fmt.Errorf("package %s depends on %d packages %s*, want one", p.Name, len(found), prefix)
	}
	for _, q := range all {
		if q.Name == found[0].Name && (found[0].Op == "" || found[0].Op == "=" && q.Version.Compare(found[0].Version) == 0) {
			return q, nil
		}
	}
	return nil, fmt.Errorf("package %s depends on %s, which is in none of its suites", p.Name, found[0].String())
}

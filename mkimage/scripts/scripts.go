// Package scripts does what the maintainer scripts of known Debian packages would have done to a freshly
// unpacked tree, without running any: a table names, for each package, the steps that its preinst,
// postinst and config come to on a first installation, and what is left out.
//
// Every step is a pure function of the tree and the epoch: no environment, no clock, no network, no
// chance. A step keeps what is already there (a passwd of an earlier source, an alternative that the
// maintainer chose) and may run twice: the second time changes nothing. Steps run in one fixed order,
// whatever the order of the packages:
//
//	base        directories, /var/run and /var/lock, root's profile (base-files)
//	accounts    passwd, group, subuid, subgid from base-passwd's masters
//	shadow      shadow and gshadow for them; nobody gets a password
//	sysusers    users and groups of sysusers.d(5), in all four files
//	files       etc/shells, nsswitch.conf, machine-id, the list of modules and other single files
//	pam         common-* as pam-auth-update(8) writes them
//	alternatives  the links of update-alternatives(1)
//	certificates  the bundle of update-ca-certificates(8)
//	units         what systemctl enable links
//	tmpfiles      directories and links below /etc of tmpfiles.d(5)
//	owners        of files whose owner only exists once users do
//
// Numbers of users and groups without a fixed one are those that one run of systemd-sysusers(8) over the whole
// tree gives; on a machine where one package is configured after the other they depend on that order.
//
// The table goes by the name of a package. It was read off the scripts of Debian 13; the lock pins which
// version they have.
package scripts

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"tally/mkimage/tree"
)

// A step changes the tree; name stands in error messages and as the source of what it adds.
type step struct {
	name string
	run  func(*work) error
}

// order is the order in which steps run.
var order = []step{
	{"base", base}, {"accounts", accounts}, {"shadow", shadow}, {"sysusers", sysusers}, {"files", files},
	{"pam", pam}, {"alternatives", alternatives}, {"certificates", certificates}, {"units", units}, {"tmpfiles", tmpfiles}, {"owners", owners},
}

// Known says whether the table knows what the scripts of the package called name do.
func Known(name string) bool {
	_, ok := lookUp(name)
	return ok
}

func lookUp(name string) (rule, bool) {
	if strings.HasPrefix(name, "linux-image-") {
		name = "linux-image-*"
	}
	r, ok := table[name]
	return r, ok
}

// Apply does to t what the scripts of packages would have done; each must be Known. Files it adds get the
// time epoch (seconds since 1970), which is also the day of the last password change in etc/shadow. The
// answer says, sorted, what of the scripts was left out: "package NAME: WHAT". On an error t may be
// half changed.
func Apply(ctx context.Context, t *tree.Tree, packages []string, epoch int64) (omitted []string, err error) {
	w := &work{ctx: ctx, t: t, epoch: epoch}
	wanted := map[string]bool{}
	for _, name := range packages {
		r, ok := lookUp(name)
		if !ok {
			return nil, fmt.Errorf("package %s: what its scripts would do is not known", name)
		}
		for _, s := range strings.Fields(r.steps) {
			wanted[s] = true
		}
		w.units = append(w.units, r.units...)
		for _, o := range r.omits {
			omitted = append(omitted, fmt.Sprintf("package %s: %s", name, o))
		}
	}
	sort.Strings(w.units)
	w.units = slices.Compact(w.units)
	for _, s := range order {
		if !wanted[s.name] {
			continue
		}
		w.source = "scripts: " + s.name
		if err := s.run(w); err != nil {
			return nil, fmt.Errorf("scripts: %s: %w", s.name, err)
		}
	}
	sort.Strings(omitted)
	return omitted, nil
}

package scripts

import (
	"path"
	"strings"
)

// An alternative is one call of update-alternatives --install. Links and targets are paths of the tree.
type alternative struct {
	name, link, target string
	priority           int
	slaves             [][3]string // name, link, target
}

// declared lists the alternatives of the table's packages, as their postinst scripts install them. Manual
// pages are slaves that follow only when they are there.
var declared = []alternative{
	{"awk", "usr/bin/awk", "usr/bin/mawk", 5, [][3]string{{"nawk", "usr/bin/nawk", "usr/bin/mawk"}, man("awk", "mawk", "1"), man("nawk", "mawk", "1")}},
	{"builtins.7.gz", "usr/share/man/man7/builtins.7.gz", "usr/share/man/man7/bash-builtins.7.gz", 10, nil},
	{"c++", "usr/bin/c++", "usr/bin/g++", 20, nil},
	{"c89", "usr/bin/c89", "usr/bin/c89-gcc", 20, [][3]string{man("c89", "c89-gcc", "1")}},
	{"c99", "usr/bin/c99", "usr/bin/c99-gcc", 20, [][3]string{man("c99", "c99-gcc", "1")}},
	{"cc", "usr/bin/cc", "usr/bin/gcc", 20, nil},
	{"cpp", "usr/lib/cpp", "usr/bin/cpp", 10, nil},
	{"mt", "usr/bin/mt", "usr/bin/mt-gnu", 10, [][3]string{man("mt", "mt-gnu", "1")}},
	{"pager", "usr/bin/pager", "bin/more", 50, [][3]string{man("pager", "more", "1")}},
	{"rmt", "usr/sbin/rmt", "usr/sbin/rmt-tar", 50, [][3]string{man("rmt", "rmt-tar", "8")}},
	{"which", "usr/bin/which", "usr/bin/which.debianutils", 0, whichPages()},
}

// whichPages are the manual pages of which, with translations.
func whichPages() [][3]string {
	all := [][3]string{man("which", "which.debianutils", "1")}
	for _, l := range []string{"de", "es", "fr", "it", "ja", "pl", "sl"} {
		dir := "usr/share/man/" + l + "/man1/"
		all = append(all, [3]string{"which." + l + "1.gz", dir + "which.1.gz", dir + "which.debianutils.1.gz"})
	}
	return all
}

func man(name, target, section string) [3]string {
	dir := "usr/share/man/man" + section + "/"
	return [3]string{name + "." + section + ".gz", dir + name + "." + section + ".gz", dir + target + "." + section + ".gz"}
}

// alternatives makes LINK -> /etc/alternatives/NAME -> TARGET for the alternative of each name that is
// there and has the highest priority; a link that is there stays. update-alternatives' own database
// (var/lib/dpkg/alternatives) is dpkg's and is not made.
func alternatives(w *work) error {
	best := map[string]alternative{}
	for _, a := range declared {
		if old, ok := best[a.name]; w.exists(a.target) && (!ok || a.priority > old.priority) {
			best[a.name] = a
		}
	}
	for _, a := range declared { // in the order of the table
		if best[a.name].target != a.target {
			continue
		}
		if err := w.alternative(a.name, a.link, a.target); err != nil {
			return err
		}
		for _, s := range a.slaves {
			if !w.exists(s[2]) {
				continue
			}
			if err := w.alternative(s[0], s[1], s[2]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *work) alternative(name, link, target string) error {
	if err := w.link("etc/alternatives/"+name, "/"+target); err != nil {
		return err
	}
	return w.link(link, "/etc/alternatives/"+name)
}

// exists says whether p is there, /bin being a link to /usr/bin where it is.
func (w *work) exists(p string) bool {
	if w.t.Get(p) != nil {
		return true
	}
	top, _, _ := strings.Cut(p, "/")
	e := w.t.Get(top)
	return e != nil && e.Link != "" && w.t.Get(path.Join(e.Link, strings.TrimPrefix(p, top))) != nil
}

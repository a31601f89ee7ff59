package source

import (
	"fmt"
	"slices"
	"strings"

	"tally/mkimage/deb"
	"tally/mkimage/lock"
	"tally/mkimage/scripts"
)

// installScripts are those that run when a package is installed.
var installScripts = []string{"config", "postinst", "preinst"}

// scripts names the packages whose scripts package scripts stands in for. The others are refused, all in
// one error; with ignore, none is looked up and every script stands in the manifest as left out.
func (a *assembler) scripts(ps []lock.Package, archives []*deb.Archive, ignore bool) (known []string, err error) {
	var refused []string
	for i, p := range ps {
		var run []string
		for _, s := range archives[i].Scripts {
			if slices.Contains(installScripts, s) {
				run = append(run, s)
			}
		}
		switch {
		case len(run) == 0:
		case ignore:
			a.in.Omitted = append(a.in.Omitted, fmt.Sprintf("package %s: %s", p.Name, strings.Join(run, ", ")))
		case scripts.Known(p.Name):
			known = append(known, p.Name)
		default:
			refused = append(refused, fmt.Sprintf("%s (%s)", p.Name, strings.Join(run, ", ")))
		}
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("package %s: no script is run, and what these would do is not known: leave them out, or say 'scripts: ignore'", strings.Join(refused, ", "))
	}
	return known, nil
}

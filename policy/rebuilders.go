package policy

import "fmt"

type rebuildersYAML struct {
	Need       int            `yaml:"need,required"`
	Keys       []signerYAML   `yaml:"keys"`
	Identities []identityYAML `yaml:"identities"`
	Logs       []logYAML      `yaml:"logs"`
}

// rebuilders reads who else must have built a release.
func (r *reader) rebuilders(y *rebuildersYAML, path string, p *Policy) {
	if n := len(y.Keys) + len(y.Identities); y.Need < 0 || y.Need > n || n == 0 {
		r.fail(path+".need", "need %d of %d keys and identities: want 0 to their number, and at least one", y.Need, n)
	}
	rp := &p.Release.Rebuilders
	rp.Need, rp.Keys = y.Need, r.signers(y.Keys, path+".keys")
	rp.Identities.List = r.rules(y.Identities, path+".identities")
	for i := range y.Logs {
		rp.Logs = append(rp.Logs, r.log(&y.Logs[i], fmt.Sprintf("%s.logs.%d", path, i)))
		if from := y.Logs[i].From; from != "" {
			p.RebuildsFrom = append(p.RebuildsFrom, from)
		}
	}
}

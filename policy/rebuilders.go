package policy

import "fmt"

type rebuildersYAML struct {
	Need int          `yaml:"need,required"`
	Keys []signerYAML `yaml:"keys,required"`
	Logs []logYAML    `yaml:"logs"`
}

// rebuilders reads who else must have built a release.
func (r *reader) rebuilders(y *rebuildersYAML, path string, p *Policy) {
	if y.Need < 0 || y.Need > len(y.Keys) || len(y.Keys) == 0 {
		r.fail(path+".need", "need %d of %d keys: want 0 to the number of keys, and at least one key", y.Need, len(y.Keys))
	}
	rp := &p.Release.Rebuilders
	rp.Need, rp.Keys = y.Need, r.signers(y.Keys, path+".keys")
	for i := range y.Logs {
		rp.Logs = append(rp.Logs, r.log(&y.Logs[i], fmt.Sprintf("%s.logs.%d", path, i)))
		if from := y.Logs[i].From; from != "" {
			p.RebuildsFrom = append(p.RebuildsFrom, from)
		}
	}
}

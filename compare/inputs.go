package compare

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// lock is the part of tally.lock/v1 that says who uses which package.
type lock struct {
	Packages []struct {
		Name    string   `json:"name"`
		Version string   `json:"version"`
		For     []string `json:"for"`
	} `json:"packages"`
}

// inputs compares what the two were built from, and finds whose the kernel, the stub and the firmware are.
func (c *comparer) inputs(a, b Output) {
	values, ok := c.inputValues(a, b)
	if !ok {
		return
	}
	for k, v := range values {
		if v[0] != v[1] {
			c.r.Inputs = append(c.r.Inputs, Input{Kind: k.kind, Name: k.name, A: v[0], B: v[1]})
		}
	}
	sort.Slice(c.r.Inputs, func(i, j int) bool {
		x, y := c.r.Inputs[i], c.r.Inputs[j]
		return x.Kind+"\x00"+x.Name < y.Kind+"\x00"+y.Name
	})
	all := inputCauses(c.r.Inputs)
	for _, in := range c.r.Inputs {
		if cause := inputCauses([]Input{in})[0]; slices.Contains(all, cause) { // else it is one of a pair
			c.changed[in.Kind+" "+in.Name] = cause
		}
	}
	p, q := usersOf(a.Files[lockName]), usersOf(b.Files[lockName])
	for _, user := range unionKeys(p, q) {
		c.partOwner[user] = change(p[user], q[user])
	}
}

// An inputKey is what an input of one side is found by on the other.
type inputKey struct{ kind, name string }

// inputValues reads versions and hashes of both sides from their manifests, or notes why not.
func (c *comparer) inputValues(a, b Output) (values map[inputKey][2]string, ok bool) {
	values = map[inputKey][2]string{}
	for i, o := range []Output{a, b} {
		s, done, err := openFile(o.Files[manifestName])
		if err != nil {
			c.note("%s: no manifest.json: inputs were not compared", o.Name)
			return nil, false
		}
		m, err := readManifest(s)
		done()
		if err != nil {
			c.note("%s: manifest.json: %v: inputs were not compared", o.Name, err)
			return nil, false
		}
		for _, in := range m.Inputs {
			k := inputKey{in.Kind, in.Name}
			v := values[k]
			if v[i] != "" { // several versions of one module
				v[i] += ", "
			}
			v[i] += strings.TrimSpace(in.Version + " sha256:" + in.SHA256)
			values[k] = v
		}
	}
	return values, true
}

// usersOf reads which package is for what (kernel, stub, firmware.NAME) from a lock; nothing when it cannot.
func usersOf(path string) map[string]string {
	users := map[string]string{}
	data, err := readRegular(path, maxJSON)
	if err != nil {
		return users
	}
	var l lock
	if json.Unmarshal(data, &l) != nil {
		return users
	}
	for _, p := range l.Packages {
		for _, user := range p.For {
			users[user] = "package " + p.Name + " " + p.Version
		}
	}
	return users
}

// inputCauses says in words which inputs changed.
func inputCauses(inputs []Input) []string {
	var out []string
	gone, come := map[string]Input{}, map[string]Input{}
	for _, in := range inputs {
		v, w := word(in.A), word(in.B)
		switch {
		case in.A == "":
			come[in.Kind+" "+stem(in.Name)] = in
		case in.B == "":
			gone[in.Kind+" "+stem(in.Name)] = in
		case v == w || strings.HasPrefix(v, "sha256:"):
			out = append(out, fmt.Sprintf("%s %s: other contents", in.Kind, in.Name))
		default:
			out = append(out, fmt.Sprintf("%s %s %s -> %s", in.Kind, in.Name, v, w))
		}
	}
	for k, in := range gone {
		if other, ok := come[k]; ok { // a version in the name: toolchains, kernels, libraries
			out = append(out, fmt.Sprintf("%s %s -> %s", in.Kind, in.Name, other.Name))
			delete(come, k)
		} else {
			out = append(out, fmt.Sprintf("%s %s only in A", in.Kind, in.Name))
		}
	}
	for _, in := range come {
		out = append(out, fmt.Sprintf("%s %s only in B", in.Kind, in.Name))
	}
	sort.Strings(out)
	return out
}

// stem is a name without the numbers in it.
func stem(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, name)
}

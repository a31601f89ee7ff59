package tdx

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tally/internal/pattern"
	"tally/measure/eventlog"
)

// A who names the rules that a value was computed under; what does not matter is empty.
type who struct{ host, firmware, note string }

// A collector gathers values and puts those together that came out equal.
type collector struct {
	profile   Profile
	registers []Register
	lacks     []Lack
}

func (c *collector) addEvents(w who, register string, events []eventlog.Event, err error) error {
	var lacks errLacks
	if errors.As(err, &lacks) {
		c.lack(w, register, string(lacks))
		return nil
	}
	if err == nil {
		c.add(w, register, Replay(events), events)
	}
	return err
}

func (c *collector) add(w who, register string, d Digest, events []eventlog.Event) {
	i := slices.IndexFunc(c.registers, func(r Register) bool { return r.Register == register && r.Digest == d })
	if i < 0 {
		i = len(c.registers)
		events = slices.Clone(events)
		r := Register{Register: register, Digest: d, Events: events}
		for j := range events {
			events[j].Register = register
			for _, p := range events[j].Covers {
				if !slices.Contains(r.Covers, p) {
					r.Covers = append(r.Covers, p)
				}
			}
		}
		c.registers = append(c.registers, r)
	}
	r := &c.registers[i]
	addTo(&r.Hosts, w.host)
	addTo(&r.Firmwares, w.firmware)
	addTo(&r.Notes, w.note)
}

func (c *collector) lack(w who, register, needs string) {
	i := slices.IndexFunc(c.lacks, func(l Lack) bool { return l.Register == register && l.Needs == needs })
	if i < 0 {
		i = len(c.lacks)
		c.lacks = append(c.lacks, Lack{Register: register, Needs: needs})
	}
	addTo(&c.lacks[i].Hosts, w.host)
	addTo(&c.lacks[i].Firms, w.firmware)
}

func addTo(all *[]string, s string) {
	if s != "" && !slices.Contains(*all, s) {
		*all = append(*all, s)
	}
}

// result labels the alternatives of each register by what tells them apart.
func (c *collector) result() *Result {
	slices.SortStableFunc(c.registers, func(a, b Register) int { return strings.Compare(a.Register, b.Register) })
	byName := map[string][]*Register{}
	for i := range c.registers {
		r := &c.registers[i]
		slices.SortFunc(r.Hosts, func(a, b string) int { return c.place(a) - c.place(b) })
		byName[r.Register] = append(byName[r.Register], r)
	}
	for _, alternatives := range byName {
		if len(alternatives) > 1 {
			label(alternatives)
		}
	}
	return &Result{c.registers, c.lacks}
}

// place is where a host stands in the profile.
func (c *collector) place(host string) int {
	return slices.IndexFunc(c.profile.Hosts, func(h Host) bool { return h.Name == host })
}

// label names hosts, firmwares and notes of each alternative, leaving out a list that all share.
func label(alternatives []*Register) {
	lists := func(r *Register) [][]string { return [][]string{r.Hosts, r.Firmwares, r.Notes} }
	first := lists(alternatives[0])
	for dim := range first {
		if !slices.ContainsFunc(alternatives, func(r *Register) bool { return !slices.Equal(lists(r)[dim], first[dim]) }) {
			continue
		}
		for _, r := range alternatives {
			if s := shorten(lists(r)[dim]); s != "" {
				r.Label = strings.TrimPrefix(r.Label+"/"+s, "/")
			}
		}
	}
}

var generic = pattern.New(`^edk2-([0-9]{6})(-inteltdx)?$`)

// shorten joins names with commas; releases of edk2 that follow one another become FIRST..LAST. Where both
// builds of every release are there, the second build's names are left out.
func shorten(list []string) string {
	const other = "-inteltdx"
	first := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return generic.MatchString(s) && strings.HasSuffix(s, other) })
	if len(list) == 2*len(first) && !slices.ContainsFunc(first, func(s string) bool { return !slices.Contains(list, s+other) }) {
		list = first
	}
	var out []string
	for i := 0; i < len(list); {
		n := run(list[i:])
		if n < 2 {
			out = append(out, list[i])
			i++
			continue
		}
		first, last := generic.FindStringSubmatch(list[i]), generic.FindStringSubmatch(list[i+n-1])
		out = append(out, fmt.Sprintf("edk2-%s..%s%s", first[1], last[1], first[2]))
		i += n
	}
	return strings.Join(out, ",")
}

// run counts the names at the start of list that are consecutive releases of one build.
func run(list []string) int {
	var at []int
	build := ""
	for i, s := range list {
		m := generic.FindStringSubmatch(s)
		if m == nil || i > 0 && m[2] != build {
			break
		}
		build = m[2]
		r := slices.IndexFunc(releases, func(r int) bool { return fmt.Sprint(r) == m[1] })
		if i > 0 && r != at[i-1]+1 {
			break
		}
		at = append(at, r)
	}
	return len(at)
}

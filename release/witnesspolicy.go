package release

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of a policy file.
const (
	// MaxWitnessPolicy is the size in bytes above which a policy file is refused.
	MaxWitnessPolicy = 64 << 10

	maxComponents = 256 // witnesses and groups
	maxMembers    = 64  // of a group
)

// A WitnessPolicy is a C2SP tlog-policy file.
type WitnessPolicy struct {
	Logs   []LogKey          // the logs it is about; empty: any
	Quorum Quorum            // zero: `quorum none`
	URLs   map[string]string // where to ask a witness, by its verifier key; those without URL are absent
}

// ParseWitnessPolicy reads a policy file: name stands in error messages. It is strict: an unknown keyword, a control
// character, a name or key twice, a member of two groups (it would count twice) and a rule that nobody can meet are
// errors. Witness keys of other algorithms than Ed25519 are refused, since leaving them out would change the quorum.
func ParseWitnessPolicy(data []byte, name string) (*WitnessPolicy, error) {
	if len(data) > MaxWitnessPolicy {
		return nil, fmt.Errorf("%s: %d bytes, want at most %d", name, len(data), MaxWitnessPolicy)
	}
	p := &witnessPolicyReader{out: &WitnessPolicy{URLs: map[string]string{}}, named: map[string]Quorum{}, member: map[string]bool{}}
	for n, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
			return nil, fmt.Errorf("%s:%d: control character %q: want tab and newline alone", name, n+1, line[i])
		}
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := p.line(words); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
		}
	}
	if !p.quorum {
		return nil, fmt.Errorf("%s: no quorum line", name)
	}
	return p.out, nil
}

type witnessPolicyReader struct {
	out    *WitnessPolicy
	named  map[string]Quorum
	member map[string]bool // of a group
	keys   []WitnessKey
	quorum bool // has been read
}

func (p *witnessPolicyReader) line(words []string) error {
	verb, args := words[0], words[1:]
	switch {
	case verb == "log" && (len(args) == 1 || len(args) == 2):
		return p.log(args[0])
	case verb == "witness" && (len(args) == 2 || len(args) == 3):
		return p.witness(args)
	case verb == "group" && len(args) >= 3:
		return p.group(args[0], args[1], args[2:])
	case verb == "quorum" && len(args) == 1:
		return p.setQuorum(args[0])
	}
	return fmt.Errorf("line %.200q: want log VKEY [URL], witness NAME VKEY [URL], group NAME all|any|K NAME... or quorum NAME|none", strings.Join(words, " "))
}

func (p *witnessPolicyReader) log(vkey string) error {
	k, err := ParseLogKey(vkey)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(p.out.Logs, func(o LogKey) bool { return o.pub.Equal(k.pub) }) {
		return fmt.Errorf("log %q: the same key twice", k.Origin())
	}
	p.out.Logs = append(p.out.Logs, k)
	return nil
}

func (p *witnessPolicyReader) witness(args []string) error {
	k, err := ParseWitnessKey(args[1])
	if err != nil {
		return err
	}
	if slices.ContainsFunc(p.keys, func(o WitnessKey) bool { return o.pub.Equal(k.pub) }) {
		return fmt.Errorf("witness %.80q: the same key twice", args[0])
	}
	p.keys = append(p.keys, k)
	if len(args) == 3 {
		u, err := url.Parse(args[2])
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("witness %.80q: URL %.200q: want http or https and no query", args[0], args[2])
		}
		p.out.URLs[k.String()] = strings.TrimSuffix(args[2], "/")
	}
	return p.name(args[0], Quorum{witness: &k})
}

func (p *witnessPolicyReader) name(name string, q Quorum) error {
	_, twice := p.named[name]
	if twice || name == "none" || len(name) > 80 || len(p.named) == maxComponents {
		return fmt.Errorf("name %.80q: want at most 80 bytes, once, not \"none\", and at most %d names", name, maxComponents)
	}
	p.named[name] = q
	return nil
}

func (p *witnessPolicyReader) group(name, need string, members []string) error {
	q := Quorum{need: 1}
	if len(members) > maxMembers {
		return fmt.Errorf("group %.80q: %d members, want at most %d", name, len(members), maxMembers)
	}
	for _, m := range members {
		member, ok := p.named[m]
		if !ok || p.member[m] {
			return fmt.Errorf("group %.80q: member %.80q: want names of lines above, each once in all groups", name, m)
		}
		p.member[m] = true
		q.members = append(q.members, member)
	}
	switch need {
	case "any":
	case "all":
		q.need = len(members)
	default:
		n, err := strconv.Atoi(need)
		if err != nil || n < 1 || n > len(members) || strconv.Itoa(n) != need {
			return fmt.Errorf("group %.80q: %.20q of %d members: want all, any or a number from 1 to %d", name, need, len(members), len(members))
		}
		q.need = n
	}
	return p.name(name, q)
}

func (p *witnessPolicyReader) setQuorum(name string) error {
	if p.quorum {
		return fmt.Errorf("quorum %.80q: a second quorum line", name)
	}
	p.quorum = true
	if name == "none" {
		return nil
	}
	q, ok := p.named[name]
	if !ok {
		return fmt.Errorf("quorum %.80q: want none or a name of a line above", name)
	}
	p.out.Quorum = q
	return nil
}

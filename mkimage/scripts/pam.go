package scripts

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// A pamProfile is a file of usr/share/pam-configs (pam-auth-update(8)): fields by name.
type pamProfile struct {
	name     string
	priority int
	fields   map[string]string
}

// pam writes etc/pam.d/common-* from the templates in usr/share/pam and the profiles that are on by default.
func pam(w *work) error {
	profiles, err := w.pamProfiles()
	if err != nil {
		return err
	}
	for _, f := range []struct{ file, variable, kind string }{
		{"common-auth", "auth", "Auth"}, {"common-account", "account", "Account"}, {"common-password", "password", "Password"},
		{"common-session", "session", "Session"}, {"common-session-noninteractive", "session_nonint", "Session"},
	} {
		data, ok, err := w.read("usr/share/pam/" + f.file)
		if err != nil {
			return err
		}
		if !ok || w.t.Get("etc/pam.d/"+f.file) != nil {
			continue
		}
		text := string(data)
		for _, block := range []string{"Primary", "Additional"} {
			variable := "$" + f.variable + "_" + strings.ToLower(block) + "\n"
			if strings.Count(text, variable) != 1 {
				return fmt.Errorf("path %q: want one line %q", "usr/share/pam/"+f.file, variable[:len(variable)-1])
			}
			text = strings.Replace(text, variable, pamBlock(profiles, f.kind, block, f.variable == "session_nonint"), 1)
		}
		if err := w.write("etc/pam.d/"+f.file, 0o644, 0, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// pamProfiles reads the profiles that say "Default: yes", the highest priority first.
func (w *work) pamProfiles() ([]pamProfile, error) {
	var all []pamProfile
	for _, p := range w.below("usr/share/pam-configs", "") {
		data, _, err := w.read(p)
		if err != nil {
			return nil, err
		}
		f, err := pamFields(string(data))
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", p, err)
		}
		n, err := strconv.Atoi(f["Priority"])
		if err != nil {
			return nil, fmt.Errorf("path %q: priority %.20q: want a number", p, f["Priority"])
		}
		if f["Conflicts"] != "" {
			return nil, fmt.Errorf("path %q: field Conflicts is not supported", p)
		}
		if f["Default"] == "yes" {
			all = append(all, pamProfile{name: p, priority: n, fields: f})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].priority > all[j].priority })
	return all, nil
}

// pamFields reads "Name: value" with continuation lines, which begin with white space.
func pamFields(text string) (map[string]string, error) {
	f := map[string]string{}
	key := ""
	for i, line := range strings.Split(text, "\n") {
		switch name, value, ok := strings.Cut(line, ":"); {
		case strings.TrimSpace(line) == "" || line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if key == "" {
				return nil, fmt.Errorf("line %d: continues no field", i+1)
			}
			f[key] += strings.TrimSpace(line) + "\n"
		case !ok:
			return nil, fmt.Errorf("line %d: %.40q: want NAME: VALUE", i+1, line)
		default:
			key = name
			f[key] = strings.TrimSpace(value)
		}
	}
	return f, nil
}

// pamBlock is the text that stands for $TYPE_primary or $TYPE_additional. The first profile uses its
// Initial lines; "end" in a line counts the lines behind it and the fallback, which it jumps over.
func pamBlock(all []pamProfile, kind, block string, noninteractive bool) string {
	var lines []string
	first := true
	for _, p := range all {
		if p.fields[kind+"-Type"] != block || noninteractive && p.fields[kind+"-Interactive-Only"] == "yes" {
			continue
		}
		text, ok := p.fields[kind+"-Initial"]
		if !ok || !first {
			text = p.fields[kind]
		}
		first = false
		for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if l != "" {
				lines = append(lines, strings.ToLower(kind)+"\t"+pamLine(l)+"\n")
			}
		}
	}
	if len(lines) == 0 && block == "Primary" { // or the fallback would deny everybody
		return strings.ToLower(kind) + "\t[default=1]\t\t\tpam_permit.so\n"
	}
	for i, l := range lines {
		lines[i] = strings.ReplaceAll(l, "=end", "="+strconv.Itoa(len(lines)-i))
	}
	return strings.Join(lines, "")
}

// pamLine spaces a line as pam-auth-update does: control and module stay, a space stands behind them, and
// one between arguments.
func pamLine(l string) string {
	end := 0
	if strings.HasPrefix(l, "[") {
		end = strings.IndexByte(l, ']') + 1
	}
	end += strings.IndexAny(l[end:]+" ", " \t")
	for end < len(l) && (l[end] == ' ' || l[end] == '\t') {
		end++
	}
	end += strings.IndexAny(l[end:]+" ", " \t")
	return l[:end] + " " + strings.Join(strings.Fields(l[end:]), " ")
}

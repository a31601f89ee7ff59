package scripts

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Numbers for users and groups that ask for none: the largest that is free (systemd's SYSTEM_ALLOC_UID_MIN
// and SYSTEM_UID_MAX, as Debian sets them). They are a function of the set of sysusers.d files.
const (
	firstID = 100
	lastID  = 999
)

// A sysuser is one line of sysusers.d(5).
type sysuser struct {
	kind, name, id, gecos, home, shell string
	at                                 string // file and line
}

// sysusers is systemd-sysusers(8) for all files of sysusers.d: groups first, then users, then memberships,
// each in the order of the files' names. Users that are there keep what they have.
func sysusers(w *work) error {
	all, err := w.sysusersLines()
	if err != nil || len(all) == 0 {
		return err
	}
	a := &idTable{day: w.day()}
	for _, f := range a.files() {
		if *f.rows, err = w.rows(f.path); err != nil {
			return err
		}
	}
	for _, pass := range []struct {
		kinds string
		do    func(sysuser) error
	}{{"g", a.addGroup}, {"u u!", a.addUser}, {"m", a.addMember}} {
		for _, u := range all {
			if !slices.Contains(strings.Fields(pass.kinds), u.kind) {
				continue
			}
			if err := pass.do(u); err != nil {
				return fmt.Errorf("%s: %w", u.at, err)
			}
		}
	}
	for _, f := range a.files() {
		if err := w.writeRows(f.path, f.mode, f.gid, *f.rows); err != nil {
			return err
		}
	}
	return nil
}

// sysusersLines reads the files in the order of their names; one in /etc hides the one of that name in /usr/lib.
func (w *work) sysusersLines() ([]sysuser, error) {
	var all []sysuser
	for _, p := range w.configs("sysusers.d") {
		data, _, err := w.read(p)
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(string(data), "\n") {
			at := fmt.Sprintf("%s:%d", p, i+1)
			u, err := parseSysuser(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			if u.at = at; u.kind != "" {
				all = append(all, u)
			}
		}
	}
	return all, nil
}

// parseSysuser reads one line; kind is "" for an empty one and for a comment.
func parseSysuser(line string) (sysuser, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return sysuser{}, nil
	}
	f, err := fields(line)
	if err != nil {
		return sysuser{}, err
	}
	if len(f) < 2 || len(f) > 6 {
		return sysuser{}, fmt.Errorf("%d fields, want 2 to 6", len(f))
	}
	if strings.ContainsRune(line, '%') {
		return sysuser{}, fmt.Errorf("line %.80q: specifiers with %% are not supported", line)
	}
	for len(f) < 6 {
		f = append(f, "-")
	}
	for i, s := range f {
		if s == "-" {
			f[i] = ""
		}
		if i != 2 && strings.ContainsAny(s, ":\x00") {
			return sysuser{}, fmt.Errorf("field %.40q: a colon is not allowed", s)
		}
	}
	if !slices.Contains([]string{"g", "u", "u!", "m"}, f[0]) || f[1] == "" {
		return sysuser{}, fmt.Errorf("type %.20q of %.40q: want g, u, u! or m", f[0], f[1])
	}
	return sysuser{kind: f[0], name: f[1], id: f[2], gecos: f[3], home: f[4], shell: f[5]}, nil
}

// fields splits a line at white space; double and single quotes hold a field together.
func fields(line string) ([]string, error) {
	var all []string
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		if q := line[0]; q == '"' || q == '\'' {
			end := strings.IndexByte(line[1:], q)
			if end < 0 {
				return nil, fmt.Errorf("quote without end in %.80q", line)
			}
			all, line = append(all, line[1:1+end]), line[end+2:]
			continue
		}
		end := strings.IndexAny(line, " \t")
		if end < 0 {
			end = len(line)
		}
		all, line = append(all, line[:end]), line[end:]
	}
	return all, nil
}

// An idTable is the four files of users and groups.
type idTable struct {
	passwd, group, shadow, gshadow [][]string
	day                            string
}

type idFile struct {
	path      string
	mode, gid uint32
	rows      *[][]string
}

func (a *idTable) files() []idFile {
	return []idFile{{"etc/passwd", 0o644, 0, &a.passwd}, {"etc/group", 0o644, 0, &a.group},
		{"etc/shadow", 0o640, gidShadow, &a.shadow}, {"etc/gshadow", 0o640, gidShadow, &a.gshadow}}
}

func (a *idTable) taken(id string) bool {
	has := func(rows [][]string) bool {
		return slices.ContainsFunc(rows, func(r []string) bool { return len(r) > 2 && r[2] == id })
	}
	return has(a.passwd) || has(a.group)
}

// number checks a number that a file asks for, or finds one for "".
func (a *idTable) number(id string) (string, error) {
	if id != "" {
		if _, err := strconv.ParseUint(id, 10, 32); err != nil {
			return "", fmt.Errorf("id %.40q: want a number or -", id)
		}
		return id, nil
	}
	for n := lastID; n >= firstID; n-- {
		if s := strconv.Itoa(n); !a.taken(s) {
			return s, nil
		}
	}
	return "", fmt.Errorf("no id from %d to %d is free", firstID, lastID)
}

func (a *idTable) addGroup(u sysuser) error {
	if find(a.group, u.name) != nil {
		return nil
	}
	id, err := a.number(u.id)
	if err != nil {
		return err
	}
	a.group = append(a.group, []string{u.name, "x", id, ""})
	if find(a.gshadow, u.name) == nil {
		a.gshadow = append(a.gshadow, []string{u.name, "!*", "", ""})
	}
	return nil
}

// addUser adds a user and, unless the line names another, a group of the same name and number.
func (a *idTable) addUser(u sysuser) error {
	if find(a.passwd, u.name) != nil {
		return nil
	}
	uid, gid, other := strings.Cut(u.id, ":")
	if uid == "-" {
		uid = ""
	}
	if g := find(a.group, u.name); uid == "" && !other && len(g) > 2 && !slices.ContainsFunc(a.passwd, func(r []string) bool { return len(r) > 2 && r[2] == g[2] }) {
		uid = g[2]
	}
	uid, err := a.number(uid)
	if err != nil {
		return err
	}
	switch g := find(a.group, gid); {
	case !other:
		if err := a.addGroup(sysuser{name: u.name, id: uid}); err != nil {
			return err
		}
		gid = find(a.group, u.name)[2]
	case len(g) > 2:
		gid = g[2]
	default:
		if gid, err = a.number(gid); err != nil {
			return err
		}
	}
	a.append(u, uid, gid)
	return nil
}

// append adds the rows of a user that cannot log in by a password; one of type u! not at all: its account
// has expired.
func (a *idTable) append(u sysuser, uid, gid string) {
	home, shell, expires := u.home, u.shell, ""
	if home == "" {
		home = "/"
	}
	if shell == "" {
		shell = "/usr/sbin/nologin"
	}
	if u.kind == "u!" {
		expires = "1"
	}
	a.passwd = append(a.passwd, []string{u.name, "x", uid, gid, u.gecos, home, shell})
	if find(a.shadow, u.name) == nil {
		a.shadow = append(a.shadow, []string{u.name, "!*", a.day, "", "", "", "", expires, ""})
	}
}

// addMember adds the user u.name to the group u.id; both must be there.
func (a *idTable) addMember(u sysuser) error {
	g := find(a.group, u.id)
	if len(g) < 4 || find(a.passwd, u.name) == nil {
		return fmt.Errorf("member %.40q of group %.40q: want both declared", u.name, u.id)
	}
	for _, r := range [][]string{g, find(a.gshadow, u.id)} {
		if len(r) < 4 {
			continue
		}
		members := strings.FieldsFunc(r[3], func(r rune) bool { return r == ',' })
		if !slices.Contains(members, u.name) {
			r[3] = strings.Join(append(members, u.name), ",")
		}
	}
	return nil
}

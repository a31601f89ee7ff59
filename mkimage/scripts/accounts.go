package scripts

import (
	"fmt"
	"strconv"
	"strings"
)

// accounts is base-passwd's postinst: the masters, with the password fields that shadowconfig(8) leaves.
func accounts(w *work) error {
	for _, f := range []struct{ from, to string }{{"passwd.master", "etc/passwd"}, {"group.master", "etc/group"}} {
		from := "usr/share/base-passwd/" + f.from
		if w.t.Get(f.to) != nil || w.t.Get(from) == nil {
			continue
		}
		rows, err := w.rows(from)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if len(r) < 2 {
				return fmt.Errorf("path %q: row %q: want fields separated by colons", from, strings.Join(r, ":"))
			}
			r[1] = "x"
		}
		if err := w.writeRows(f.to, 0o644, 0, rows); err != nil {
			return err
		}
	}
	for _, p := range []string{"etc/subuid", "etc/subgid"} {
		if err := w.writeNew(p, 0o644, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

// rows reads a table like etc/passwd; a missing file has none.
func (w *work) rows(p string) ([][]string, error) {
	data, _, err := w.read(p)
	if err != nil {
		return nil, err
	}
	var all [][]string
	for _, line := range strings.Split(string(data), "\n") {
		if line != "" {
			all = append(all, strings.Split(line, ":"))
		}
	}
	return all, nil
}

func (w *work) writeRows(p string, mode, gid uint32, rows [][]string) error {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(strings.Join(r, ":") + "\n")
	}
	return w.write(p, mode, gid, []byte(b.String()))
}

func find(rows [][]string, name string) []string {
	for _, r := range rows {
		if r[0] == name {
			return r
		}
	}
	return nil
}

// groupID looks a group up in the tree's etc/group.
func (w *work) groupID(name string) (uint32, error) {
	rows, err := w.rows("etc/group")
	if err != nil {
		return 0, err
	}
	r := find(rows, name)
	if len(r) < 3 {
		return 0, fmt.Errorf("group %q is not in etc/group", name)
	}
	id, err := strconv.ParseUint(r[2], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("group %q: id %.20q: want a number", name, r[2])
	}
	return uint32(id), nil
}

// shadow gives every user and group of etc/passwd and etc/group a row in etc/shadow and etc/gshadow
// (shadow(5), gshadow(5)) unless it has one. "*" is the hash of no password: such a user cannot log in by one.
func shadow(w *work) error {
	day := w.day()
	for _, f := range []struct {
		from, to string
		row      func(r []string) []string
	}{
		{"etc/passwd", "etc/shadow", func(r []string) []string { return []string{r[0], "*", day, "0", "99999", "7", "", "", ""} }},
		{"etc/group", "etc/gshadow", func(r []string) []string { return []string{r[0], "*", "", r[len(r)-1]} }},
	} {
		from, err := w.rows(f.from)
		if err != nil {
			return err
		}
		to, err := w.rows(f.to)
		if err != nil {
			return err
		}
		for _, r := range from {
			if len(r) < 4 {
				return fmt.Errorf("path %q: row of %.40q: want at least 4 fields", f.from, r[0])
			}
			if find(to, r[0]) == nil {
				to = append(to, f.row(r))
			}
		}
		if err := w.writeRows(f.to, 0o640, gidShadow, to); err != nil {
			return err
		}
	}
	return nil
}

// day is the day of the epoch, as shadow(5) counts days.
func (w *work) day() string { return strconv.FormatInt(w.epoch/86400, 10) }

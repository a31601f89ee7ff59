package scripts

import (
	"fmt"
	"path"
	"sort"
	"strconv"
	"strings"

	"tally/mkimage/tree"
)

// A tmpfile is one line of tmpfiles.d(5) that concerns /etc.
type tmpfile struct {
	at, kind, path, mode, arg string
}

// tmpfiles is systemd-tmpfiles(8) --create for directories and links below /etc, which a boot on a
// read-only root cannot make. Lines of other types there take hold of the running machine (credentials, locks
// left behind, copies of factory defaults) and are left to the boot, as is everything elsewhere.
func tmpfiles(w *work) error {
	all, err := w.tmpfilesLines()
	if err != nil {
		return err
	}
	for _, l := range all {
		if err := w.tmpfile(l); err != nil {
			return fmt.Errorf("%s: %w", l.at, err)
		}
	}
	return nil
}

func (w *work) tmpfile(l tmpfile) error {
	if strings.Contains(l.path+l.arg, "%") {
		return fmt.Errorf("line of %q: specifiers with %% are not supported", l.path)
	}
	p := strings.TrimSuffix(l.path[1:], "/")
	if err := tree.CheckPath(p); err != nil {
		return err
	}
	if l.kind == "L" {
		if l.arg == "" {
			l.arg = "/usr/share/factory" + l.path
		}
		return w.link(p, l.arg)
	}
	mode := uint64(0o755)
	if l.mode != "" {
		var err error
		if mode, err = strconv.ParseUint(l.mode, 8, 12); err != nil {
			return fmt.Errorf("mode %.20q of %q: want octal digits", l.mode, l.path)
		}
	}
	e := w.t.Get(p)
	if e == nil {
		return w.dir(p, uint32(mode), 0)
	}
	if e.Kind != tree.Dir {
		return fmt.Errorf("path %q is a %s from %s, want a directory", p, e.Kind, e.Source)
	}
	if l.mode == "" || e.Mode == uint32(mode) {
		return nil
	}
	c := *e
	c.Mode = uint32(mode)
	return w.t.Replace(c)
}

// tmpfilesLines reads the lines of types d and L for /etc, in the order of the files' names and then of the
// paths, as systemd-tmpfiles does; the first line for a path wins.
func (w *work) tmpfilesLines() ([]tmpfile, error) {
	var all []tmpfile
	seen := map[string]bool{}
	for _, p := range w.configs("tmpfiles.d") {
		data, _, err := w.read(p)
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(string(data), "\n") {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			at := fmt.Sprintf("%s:%d", p, i+1)
			f, err := fields(line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			for len(f) < 7 {
				f = append(f, "")
			}
			kind := strings.TrimRight(f[0], "+$")
			if !strings.HasPrefix(f[1], "/etc/") || kind != "d" && kind != "L" || seen[f[1]] {
				continue
			}
			seen[f[1]] = true
			for j := 2; j < 7; j++ {
				if f[j] == "-" {
					f[j] = ""
				}
			}
			if owner := f[3] + f[4]; strings.Trim(owner, "0") != "" && owner != "rootroot" {
				return nil, fmt.Errorf("%s: owner %s:%s of %q: want root", at, f[3], f[4], f[1])
			}
			all = append(all, tmpfile{at, kind, f[1], f[2], f[6]})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].path < all[j].path })
	return all, nil
}

// configs lists the files of a configuration directory of systemd in the order of their names; one in /etc
// hides the one of that name in /usr/lib.
func (w *work) configs(dir string) []string {
	byName := map[string]string{}
	for _, d := range []string{"usr/lib/" + dir, "etc/" + dir} {
		for _, p := range w.below(d, ".conf") {
			byName[path.Base(p)] = p
		}
	}
	names := make([]string, 0, len(byName))
	for n := range byName {
		names = append(names, n)
	}
	sort.Strings(names)
	for i, n := range names {
		names[i] = byName[n]
	}
	return names
}

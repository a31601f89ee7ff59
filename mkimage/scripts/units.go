package scripts

import (
	"fmt"
	"strings"
)

const (
	unitDir  = "usr/lib/systemd/system/"
	unitLink = "etc/systemd/system/"
)

// units is systemctl enable (deb-systemd-helper) for what the table's packages enable: the links that the
// section [Install] of each unit asks for (systemd.unit(5)).
func units(w *work) error {
	for _, u := range w.units {
		if err := w.enable(u, 0); err != nil {
			return fmt.Errorf("unit %q: %w", u, err)
		}
	}
	return nil
}

func (w *work) enable(unit string, depth int) error {
	if depth > 8 {
		return fmt.Errorf("field Also leads in circles")
	}
	file := unit
	if name, rest, ok := strings.Cut(unit, "@"); ok { // an instance of a template
		file = name + "@" + rest[strings.LastIndexByte(rest, '.'):]
	}
	data, ok, err := w.read(unitDir + file)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("path %q is missing", unitDir+file)
	}
	for _, f := range installFields(string(data)) {
		for _, v := range strings.Fields(f[1]) {
			var err error
			switch f[0] {
			case "WantedBy":
				err = w.link(unitLink+v+".wants/"+unit, "/"+unitDir+file)
			case "RequiredBy":
				err = w.link(unitLink+v+".requires/"+unit, "/"+unitDir+file)
			case "Alias":
				err = w.link(unitLink+v, "/"+unitDir+file)
			case "Also":
				err = w.enable(v, depth+1)
			case "DefaultInstance": // only for a template enabled without an instance
			default:
				err = fmt.Errorf("field %.40q of [Install] is not supported", f[0])
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// installFields lists the assignments of the section [Install].
func installFields(text string) (all [][2]string) {
	in := false
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line == "[Install]"
		}
		if name, value, ok := strings.Cut(line, "="); in && ok && line[0] != '#' && line[0] != ';' {
			all = append(all, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return all
}

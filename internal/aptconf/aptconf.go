// Package aptconf reads which Debian mirrors a machine is configured to use: sources.list(5), one-line and
// deb822 style.
package aptconf

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Mirrors returns the http and https base URLs of all enabled entries of type deb, in the order apt
// reads them, without duplicates. etcAPT is /etc/apt. What cannot be read is passed over: apt's own
// configuration is not ours to judge.
func Mirrors(etcAPT fs.FS) []string {
	names := []string{"sources.list"}
	for _, pattern := range []string{"sources.list.d/*.list", "sources.list.d/*.sources"} {
		found, _ := fs.Glob(etcAPT, pattern)
		names = append(names, found...)
	}
	slices.Sort(names[1:])
	var all []string
	for _, name := range names {
		data, err := fs.ReadFile(etcAPT, name)
		if err != nil {
			continue
		}
		uris := oneLine(data)
		if path.Ext(name) == ".sources" {
			uris = deb822(data)
		}
		for _, u := range uris {
			u = strings.TrimRight(u, "/")
			if (strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")) && !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	return all
}

// oneLine reads "deb [options] URI suite component…".
func oneLine(data []byte) []string {
	var uris []string
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) > 0 {
			uris = append(uris, f[0])
		}
	}
	return uris
}

// deb822 reads stanzas of Types, URIs, Enabled.
func deb822(data []byte) []string {
	var uris []string
	stanza := map[string]string{}
	field := ""
	flush := func() {
		if slices.Contains(strings.Fields(stanza["types"]), "deb") && strings.TrimSpace(stanza["enabled"]) != "no" {
			uris = append(uris, strings.Fields(stanza["uris"])...)
		}
		stanza, field = map[string]string{}, ""
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		line := s.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == ' ' || line[0] == '\t':
			stanza[field] += " " + line
		default:
			name, value, _ := strings.Cut(line, ":")
			field = strings.ToLower(name)
			stanza[field] = value
		}
	}
	flush()
	return uris
}

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
	var all []string
	for _, name := range files(etcAPT) {
		all = appendNew(all, read(etcAPT, name))
	}
	return all
}

// Named returns the same URLs of each file sources.list.d/NAME.list or NAME.sources, by NAME.
func Named(etcAPT fs.FS) map[string][]string {
	all := map[string][]string{}
	for _, name := range files(etcAPT)[1:] {
		base := strings.TrimSuffix(path.Base(name), path.Ext(name))
		all[base] = appendNew(all[base], read(etcAPT, name))
	}
	return all
}

// files lists apt's files: sources.list, and those of sources.list.d, sorted.
func files(etcAPT fs.FS) []string {
	names := []string{"sources.list"}
	for _, pattern := range []string{"sources.list.d/*.list", "sources.list.d/*.sources"} {
		found, _ := fs.Glob(etcAPT, pattern)
		names = append(names, found...)
	}
	slices.Sort(names[1:])
	return names
}

func read(etcAPT fs.FS, name string) []string {
	data, err := fs.ReadFile(etcAPT, name)
	if err != nil {
		return nil
	}
	if path.Ext(name) == ".sources" {
		return deb822(data)
	}
	return oneLine(data)
}

// appendNew adds the web addresses among uris that all has not.
func appendNew(all, uris []string) []string {
	for _, u := range uris {
		u = strings.TrimRight(u, "/")
		if (strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")) && !slices.Contains(all, u) {
			all = append(all, u)
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

package deb

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// MaxPackages is the largest number of packages read from one index.
const MaxPackages = 1 << 20

// A Package is one entry of a Packages index.
type Package struct {
	Name      string
	Version   Version
	Arch      string
	Priority  string
	Essential bool
	Important bool         // the field Important or Protected is yes: apt likes it next to the essential ones
	Depends   [][]Relation // Pre-Depends, then Depends
	Conflicts [][]Relation // Conflicts and Breaks
	Provides  []Relation   // Op is "" or "="
	Filename  string       // pool path below the mirror's root
	Size      int64        // bytes of the .deb
	SHA256    [32]byte     // of the .deb
	Suite     string       // set by the caller

	preDepends int       // so many of Depends, the first, are from the field Pre-Depends
	weak       [4]string // Recommends, Suggests, Replaces, Enhances as written: what they name counts for the order of names
	breaks     int       // so many of Conflicts, the last, are from the field Breaks
	multiArch  string    // the field Multi-Arch
	source     string    // the field Source: NAME, or NAME (VERSION); "" is the package's own
}

// Fields of Package.weak.
const (
	recommends = iota
	suggests
	replaces
)

// ParseIndex reads a Packages index (uncompressed).
func ParseIndex(r io.Reader) ([]*Package, error) {
	pr := NewParagraphReader(r)
	var all []*Package
	for {
		para, err := pr.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("package index: %w", err)
		}
		if len(all) >= MaxPackages {
			return nil, fmt.Errorf("package index: more than %d packages", MaxPackages)
		}
		p, err := parsePackage(para)
		if err != nil {
			return nil, fmt.Errorf("package index: package %.80q: %w", para["package"], err)
		}
		all = append(all, p)
	}
}

func parsePackage(para Paragraph) (*Package, error) {
	p := &Package{Name: para["package"], Arch: para["architecture"], Priority: para["priority"], Essential: para["essential"] == "yes", Filename: para["filename"],
		Important: para["important"] == "yes" || para["protected"] == "yes",
		weak:      [4]string{para["recommends"], para["suggests"], para["replaces"], para["enhances"]},
		multiArch: para["multi-arch"], source: para["source"]}
	if err := checkPackageName(p.Name); err != nil {
		return nil, err
	}
	var err error
	if p.Version, err = ParseVersion(para["version"]); err != nil {
		return nil, err
	}
	if p.Filename == "" || path.IsAbs(p.Filename) || path.Clean(p.Filename) != p.Filename || strings.HasPrefix(p.Filename, "..") {
		return nil, fmt.Errorf("filename %.200q: want a clean relative path", p.Filename)
	}
	if p.Size, err = strconv.ParseInt(para["size"], 10, 64); err != nil || p.Size < 0 {
		return nil, fmt.Errorf("size %.40q: want a number of bytes", para["size"])
	}
	if p.SHA256, err = parseSHA256(para["sha256"]); err != nil {
		return nil, err
	}
	return p, p.parseRelations(para)
}

func (p *Package) parseRelations(para Paragraph) error {
	for _, f := range []struct {
		field string
		into  *[][]Relation
	}{{"pre-depends", &p.Depends}, {"depends", &p.Depends}, {"conflicts", &p.Conflicts}, {"breaks", &p.Conflicts}} {
		rs, err := ParseRelations(para[f.field])
		if err != nil {
			return fmt.Errorf("%s: %w", f.field, err)
		}
		*f.into = append(*f.into, rs...)
		switch f.field {
		case "pre-depends":
			p.preDepends = len(rs)
		case "breaks":
			p.breaks = len(rs)
		}
	}
	provides, err := ParseRelations(para["provides"])
	if err != nil {
		return fmt.Errorf("provides: %w", err)
	}
	for _, alts := range provides {
		if len(alts) != 1 || alts[0].Op != "" && alts[0].Op != "=" {
			return fmt.Errorf("provides: %v: want a name, or a name and = version", alts)
		}
		p.Provides = append(p.Provides, alts[0])
	}
	return nil
}

// weakly reads one of the weak fields. Nothing is chosen by it, and what cannot be read is no error.
func (p *Package) weakly(field int) [][]Relation {
	all, err := ParseRelations(p.weak[field])
	if err != nil {
		return nil
	}
	return all
}

// from is the source package p was built from, and its version.
func (p *Package) from() (string, Version) {
	name, rest, _ := strings.Cut(p.source, " ")
	if name == "" {
		name = p.Name
	}
	if _, bound, ok := strings.Cut(rest, "("); ok {
		if version, _, ok := strings.Cut(bound, ")"); ok {
			return name, Version(version)
		}
	}
	return name, p.Version
}

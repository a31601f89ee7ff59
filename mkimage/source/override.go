package source

import (
	"fmt"

	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// A place says where the tree of a source goes.
type place struct {
	target  string // directory of the image; "" is its root
	replace bool   // files may take the place of what earlier sources put there
}

// graft adds the tree of a source, which err says whether there is, to another.
func graft(to, t *tree.Tree, err error, at place, changes []spec.Override) error {
	if err == nil {
		t, err = override(t, changes)
	}
	if err != nil {
		return err
	}
	return addTree(to, t, at)
}

// addTree adds every entry of t but its root to the tree to.
func addTree(to, t *tree.Tree, at place) error {
	linked := map[string]bool{} // files that have other names
	if at.replace {
		for _, e := range to.Entries() {
			if e.Kind == tree.HardLink {
				linked[e.Link] = true
			}
		}
	}
	for _, p := range t.Entries() {
		if p.Path == "" {
			continue
		}
		e := *p
		if at.target != "" {
			e.Path = at.target + "/" + e.Path
			if e.Kind == tree.HardLink {
				e.Link = at.target + "/" + e.Link
			}
		}
		old := to.Get(e.Path)
		var err error
		if old == nil || !at.replace {
			err = to.Add(e)
		} else {
			err = replace(to, old, e, linked[e.Path])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replace puts e in the place of old. A directory that is there stays as it is; a directory and anything else
// do not replace each other, and a file that has other names is not taken from under them.
func replace(to *tree.Tree, old *tree.Entry, e tree.Entry, linked bool) error {
	switch {
	case old.Kind == tree.Dir && e.Kind == tree.Dir:
		return nil
	case old.Kind == tree.Dir || e.Kind == tree.Dir:
		return fmt.Errorf("path %q: a %s from %s cannot replace the %s from %s", e.Path, e.Kind, e.Source, old.Kind, old.Source)
	case linked:
		return fmt.Errorf("path %q: hard links of %s lead to this file: it cannot be replaced", e.Path, old.Source)
	}
	return to.Replace(e)
}

// override changes modes and owners of a tree that nobody else holds yet, as the spec says. Each path must
// be there. A hard link has the attributes of its file, so the file is what must be named.
func override(t *tree.Tree, all []spec.Override) (*tree.Tree, error) {
	if len(all) == 0 {
		return t, nil
	}
	changes := map[string]spec.Override{}
	for _, o := range all {
		e := t.Get(o.Path)
		switch {
		case e == nil:
			return nil, fmt.Errorf("override of %q: the source has no such path", o.Path)
		case e.Kind == tree.HardLink:
			return nil, fmt.Errorf("override of %q: is a hard link: name %q", o.Path, e.Link)
		case e.Kind == tree.Symlink && o.Mode != nil:
			return nil, fmt.Errorf("override of %q: a symbolic link has no mode", o.Path)
		}
		changes[o.Path] = o
	}
	out := tree.New()
	for _, p := range t.Entries() {
		e := *p
		o := changes[e.Path]
		set(&e.Mode, o.Mode)
		set(&e.UID, o.UID)
		set(&e.GID, o.GID)
		if err := out.Replace(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func set(v, to *uint32) {
	if to != nil {
		*v = *to
	}
}

// owned returns t with everything but its root belonging to one owner.
func owned(t *tree.Tree, uid, gid uint32) (*tree.Tree, error) {
	if uid == 0 && gid == 0 {
		return t, nil
	}
	out := tree.New()
	for _, p := range t.Entries() {
		e := *p
		if e.Path != "" {
			e.UID, e.GID = uid, gid
		}
		if err := out.Replace(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

package source

import (
	"fmt"

	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

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

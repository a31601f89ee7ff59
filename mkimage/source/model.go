package source

import (
	"fmt"
	"slices"

	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/mkimage/spec"
	"tally/mkimage/tree"
)

// inStore is a Content: a file of the store. Who reads it checks it against its entry.
type inStore struct {
	onDisk
}

// Location names the file for messages.
func (s inStore) Location() string { return "cached in " + string(s.onDisk) + ": remove it" }

// model describes one volume; its contents stay where they are, and are held against the lock by who reads them
// into the volume.
func (a *assembler) model(user string, m *spec.Model) error {
	t := tree.New()
	for _, f := range m.Files {
		e := tree.Entry{Path: f.Name, Kind: tree.File, Mode: 0o644, MTime: a.Spec.Epoch, Source: "model " + m.Name}
		o := a.lock.ModelFile(user, f.Name)
		switch {
		case f.Path != "":
			i := slices.IndexFunc(a.lock.Files, func(l lock.File) bool { return l.Path == f.Path })
			if i < 0 {
				return &StaleError{What: "file " + f.Path}
			}
			e.Size, e.Digest, e.Data = a.lock.Files[i].Size, a.lock.Files[i].SHA256, onDisk(a.disk(f.Path))
		case o == nil:
			return fmt.Errorf("the lock has no file %q for %s", f.Name, user)
		default:
			e.Size, e.Digest, e.Data = o.Size, o.SHA256, inStore{onDisk(a.store.Path(o.SHA256))}
		}
		if err := t.Add(e); err != nil {
			return err
		}
	}
	a.in.Models = append(a.in.Models, mkimage.ModelInput{Name: m.Name, Mount: m.Target, Tree: t})
	return nil
}

// checkModels holds the model files of the lock against the spec.
func (l *Local) checkModels(k *lock.Lock) error {
	var now lock.Lock
	if err := now.PinModels(l.Spec); err != nil {
		return err
	}
	if e := firstDiff("model file ", now.Models, k.Models, func(m lock.ModelFile) (string, string) {
		return m.For + " " + m.Name, fmt.Sprintf("%s of %d bytes from %s", m.SHA256, m.Size, m.URL)
	}); e != nil {
		return e
	}
	return nil
}

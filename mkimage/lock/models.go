package lock

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tally/mkimage/spec"
)

// A ModelFile is one file of a model that comes from an address.
type ModelFile struct {
	For  string `json:"for"`  // the source, as spec.Spec.SourceName has it: root.N
	Name string `json:"name"` // path in the model's volume
	URL  string `json:"url"`
	Object
}

// PinModels records the files of models that s names by address and hash. Nothing is fetched: the hash is
// the spec's.
func (l *Lock) PinModels(s *spec.Spec) error {
	l.Models = nil
	for name, m := range s.Models() {
		for _, f := range m.Files {
			if f.URL == "" {
				continue
			}
			o := ModelFile{For: name, Name: f.Name, URL: f.URL, Object: Object{Size: f.Size}}
			if err := o.SHA256.UnmarshalText([]byte(f.SHA256)); err != nil {
				return fmt.Errorf("model file %q: %w", f.Name, err)
			}
			l.Models = append(l.Models, o)
		}
	}
	slices.SortFunc(l.Models, func(a, b ModelFile) int { return strings.Compare(a.For+"\x00"+a.Name, b.For+"\x00"+b.Name) })
	return nil
}

// ModelFile returns the file of a source (root.N) that has that name, or nil.
func (l *Lock) ModelFile(user, name string) *ModelFile {
	for i := range l.Models {
		if l.Models[i].For == user && l.Models[i].Name == name {
			return &l.Models[i]
		}
	}
	return nil
}

func (l *Lock) checkModels() error {
	for i, m := range l.Models {
		switch {
		case m.For == "" || m.Name == "" || l.ModelFile(m.For, m.Name) != &l.Models[i]:
			return fmt.Errorf("model file %.200q for %.40q: want a source and a name, once", m.Name, m.For)
		case !spec.CheckURL(m.URL):
			return fmt.Errorf("model file %.200q: url %.200q: want http, https or file", m.Name, m.URL)
		case m.Size < 1:
			return fmt.Errorf("model file %.200q: size %d", m.Name, m.Size)
		}
	}
	return nil
}

// ModelFiles gets every file of a model of l that is not in the store.
func (f *Fetcher) ModelFiles(ctx context.Context, l *Lock) error {
	for _, m := range l.Models {
		if f.Store.Has(m.SHA256, m.Size) {
			continue
		}
		bar := f.bar("fetching "+m.Name, m.Size)
		err := f.locate(ctx, "model file "+m.Name, m.Object, []string{m.URL}, bar)
		bar.End()
		if err != nil {
			return err
		}
	}
	return nil
}

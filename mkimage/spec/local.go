package spec

import (
	"fmt"
	"slices"
)

// What a spec reads from the maintainer's disk.

// SourceName is what locks and messages call source i of the root: root.N, by its place N in the document, from 0.
func (s *Spec) SourceName(i int) string { return fmt.Sprintf("root.%d", s.place(i)) }

func (s *Spec) place(i int) int {
	if s.Places == nil {
		return i
	}
	return s.Places[i]
}

// Programs lists the Go programs of s: the init's first, then those of the root in order.
func (s *Spec) Programs() []*Go {
	var all []*Go
	if s.Init.Go != nil {
		all = append(all, s.Init.Go)
	}
	for _, src := range s.Root {
		if src.Go != nil {
			all = append(all, src.Go)
		}
	}
	return all
}

// sources lists the sources of the root and the inputs of the steps.
func (s *Spec) sources() []Source {
	all := slices.Clone(s.Root)
	for _, step := range s.Steps {
		all = append(all, step.Inputs...)
	}
	return all
}

// Files lists the paths of the single files (archives included) that s reads from the maintainer's disk,
// in order, possibly more than once.
func (s *Spec) Files() []string {
	var all []string
	add := func(f *File) {
		if f != nil {
			all = append(all, f.Path)
		}
	}
	for _, u := range s.Suites {
		if u.Keyring != "" {
			all = append(all, u.Keyring)
		}
	}
	for _, src := range s.sources() {
		add(src.File)
		if src.Tar != nil {
			all = append(all, src.Tar.Path)
		}
		if src.Model != nil {
			for _, f := range src.Model.Files {
				if f.Path != "" {
					all = append(all, f.Path)
				}
			}
		}
	}
	if s.Config != nil {
		all = append(all, s.Config.Path)
	}
	add(s.Init.File)
	add(s.Stub.File)
	for i := range s.Firmware {
		add(s.Firmware[i].File)
	}
	return all
}

// Dirs lists the paths of the directories that s reads from the maintainer's disk, in order.
func (s *Spec) Dirs() []string {
	var all []string
	for _, src := range s.sources() {
		if src.Dir != nil {
			all = append(all, src.Dir.Path)
		}
	}
	return all
}

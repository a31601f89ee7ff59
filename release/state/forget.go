package state

import "slices"

// forget keeps to the bounds: the oldest trees go, first of those that a later one was proved to contain.
func (f *file) forget() {
	n, size := len(f.Trees), 0
	for _, t := range f.Trees {
		size += len(t.Checkpoint)
	}
	for _, all := range []bool{false, true} {
		f.Trees = slices.DeleteFunc(f.Trees, func(t tree) bool {
			out := (n > maxTrees || size > maxNotes) && (all || t.Proved)
			if out {
				n, size = n-1, size-len(t.Checkpoint)
			}
			return out
		})
	}
}

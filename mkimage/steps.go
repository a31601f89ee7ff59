package mkimage

import (
	"fmt"
	"slices"

	"tally/mkimage/tree"
)

// A Step is one build step (mkimage/steps) whose outputs are in the root.
type Step struct {
	Name    string       `json:"name"`
	Key     Digest       `json:"key_sha256"`  // of the definition, the build root and the inputs: all that the outputs may depend on
	Root    Digest       `json:"root_sha256"` // of the locked packages of the build root: see mkimage/source
	Outputs []StepOutput `json:"outputs"`     // in the order of the spec
}

// A StepOutput is one thing a step made.
type StepOutput struct {
	Target string `json:"target"`         // path in the image, or of a module below the kernel's module directory
	Kind   string `json:"kind"`           // file, symlink, directory, module
	SHA256 Digest `json:"sha256"`         // of a file's contents, a link's target, or a directory by mkimage/tree's digest
	Size   int64  `json:"size,omitempty"` // bytes of a file
}

// checkSteps refuses what no build writes.
func (m *Manifest) checkSteps() error {
	seen := map[string]bool{}
	for _, s := range m.Steps {
		if !nameForm.MatchString(s.Name) || seen[s.Name] {
			return fmt.Errorf("manifest: step %.80q: want a plain name, once", s.Name)
		}
		seen[s.Name] = true
		for _, o := range s.Outputs {
			if err := tree.CheckPath(o.Target); err != nil {
				return fmt.Errorf("manifest: step %s: target: %w", s.Name, err)
			}
			if !slices.Contains([]string{"file", "symlink", "directory", "module"}, o.Kind) || o.Size < 0 {
				return fmt.Errorf("manifest: step %s: target %q: a %.40q of %d bytes: want a file, symlink, directory or module", s.Name, o.Target, o.Kind, o.Size)
			}
		}
	}
	return nil
}

// DiffSteps names the outputs of steps that two builds of the same spec made differently: "step NAME: TARGET".
func DiffSteps(a, b *Manifest) []string {
	was := map[string]Digest{}
	for _, s := range a.Steps {
		for _, o := range s.Outputs {
			was[s.Name+"\x00"+o.Target] = o.SHA256
		}
	}
	var all []string
	for _, s := range b.Steps {
		for _, o := range s.Outputs {
			if old, ok := was[s.Name+"\x00"+o.Target]; !ok || old != o.SHA256 {
				all = append(all, fmt.Sprintf("step %s: %s", s.Name, o.Target))
			}
		}
	}
	return all
}

package release

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// check holds the parts of a statement against each other. What it proves is said in SPEC.md, section 2.
func (s *Statement) check() error {
	if s.Type != StatementType || s.PredicateType != PredicateType {
		return fmt.Errorf("type %.80q with predicate %.80q, want %q with %q", s.Type, s.PredicateType, StatementType, PredicateType)
	}
	p := &s.Predicate
	if err := p.Release.check(); err != nil {
		return err
	}
	if err := s.checkSubjects(); err != nil {
		return err
	}
	if got := Digest(sha256.Sum256([]byte(p.Cmdline))); !s.has("cmdline", got) {
		return fmt.Errorf("cmdline has digest %s, which is not its subject's", got)
	}
	if roots := p.roots(); len(roots) != 1 || roots[0] != p.Verity.RootHash.String() {
		return fmt.Errorf("cmdline has %d roothash= words, want one, with the root hash %s", len(roots), p.Verity.RootHash)
	}
	file, err := ReferenceFile(p.ReferenceValues)
	if err != nil {
		return err
	}
	if got := Digest(sha256.Sum256(file)); !s.has(ReferenceValues, got) {
		return fmt.Errorf("referenceValues has digest %s, which is not its subject's", got)
	}
	if err := p.checkClaims(); err != nil {
		return err
	}
	return p.Validity.check()
}

// roots are the values of the command line's roothash= words, which the kernel splits at any white space.
func (p *Predicate) roots() (list []string) {
	for _, w := range strings.Fields(p.Cmdline) {
		if v, ok := strings.CutPrefix(w, "roothash="); ok {
			list = append(list, v)
		}
	}
	return list
}

func (s *Statement) has(name string, d Digest) bool {
	got, ok := s.SubjectDigest(name)
	return ok && got == d
}

func (s *Statement) checkSubjects() error {
	if err := checkSubjectNames(s.Subject); err != nil {
		return err
	}
	if _, ok := s.SubjectDigest(Manifest); !ok {
		return fmt.Errorf("no subject %q", Manifest)
	}
	p := &s.Predicate
	roles := map[string]Digest{}
	for i, a := range p.Artifacts {
		if i > 0 && p.Artifacts[i-1].Name >= a.Name {
			return fmt.Errorf("artifact %.128q: want sorted names, each once", a.Name)
		}
		if !s.has(a.Name, a.SHA256) || a.Size < 0 {
			return fmt.Errorf("artifact %.128q is not a subject with the same digest", a.Name)
		}
		roles[a.Role] = a.SHA256
	}
	// Two subjects are not outputs of the build, the manifest and the reference values, and perhaps a third.
	more := 2
	if _, ok := s.SubjectDigest(OCIManifest); ok {
		more++
	}
	if len(s.Subject) != len(p.Artifacts)+more {
		return fmt.Errorf("%d subjects for %d artifacts, want %d more than artifacts", len(s.Subject), len(p.Artifacts), more)
	}
	for role, want := range map[string]Digest{"spec": p.Inputs.Spec, "lock": p.Inputs.Lock, "sources": p.Inputs.Sources} {
		if got, ok := roles[role]; !ok || got != want {
			return fmt.Errorf("inputs.%s is not the digest of the artifact with that role", role)
		}
	}
	return nil
}

func checkSubjectNames(list []Subject) error {
	if len(list) > maxSubjects {
		return fmt.Errorf("%d subjects, want at most %d", len(list), maxSubjects)
	}
	for i, sub := range list {
		if !cleanName(sub.Name) {
			return fmt.Errorf("subject name %.128q: want a clean relative path", sub.Name)
		}
		if i > 0 && list[i-1].Name >= sub.Name {
			return fmt.Errorf("subject %.128q: want sorted names, each once", sub.Name)
		}
	}
	return nil
}

// cleanName reports whether s can name a file below a directory, and be shown on a terminal.
func cleanName(s string) bool {
	return s != "" && s != "." && path.Clean(s) == s && !path.IsAbs(s) && s != ".." && !strings.HasPrefix(s, "../") &&
		!strings.Contains(s, `\`) && !strings.ContainsFunc(s, control)
}

func (r *Release) check() error {
	if r.Name == "" || r.Version == "" || r.Sequence == 0 {
		return errors.New("release: want a name, a version and a sequence of at least 1")
	}
	for _, s := range []string{r.Name, r.Version, r.SourceRepository, r.SourceCommit} {
		if !printable(s, 1024) {
			return fmt.Errorf("release: %.64q: want at most 1024 printable bytes", s)
		}
	}
	if r.SourceCommit != "" && !isCommit(r.SourceCommit) {
		return fmt.Errorf("release: source commit %.80q: want 40 or 64 lower-case hex digits", r.SourceCommit)
	}
	return nil
}

func (v *Validity) check() error {
	for _, t := range []*time.Time{&v.NotBefore, v.NotAfter} {
		if t != nil && (t.IsZero() || t.Location() != time.UTC || t.Nanosecond() != 0) {
			return fmt.Errorf("validity: %v: want a time in UTC, in whole seconds", t)
		}
	}
	if v.NotAfter != nil && !v.NotAfter.After(v.NotBefore) {
		return errors.New("validity: ends before it begins")
	}
	return nil
}

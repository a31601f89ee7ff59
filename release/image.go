package release

// Image is the digest of the manifest under which registries have the files of s, if s names one: what a registry
// calls the image, and stock tools the subject.
func (s *Statement) Image() (Digest, bool) { return s.SubjectDigest(OCIManifest) }

// Image is [Statement.Image] of a rebuild.
func (b *Rebuild) Image() (Digest, bool) {
	return (&Statement{Subject: b.Subject}).Image()
}

// verifyImage says under which digest registries have the files. Its own files are held against it by the signer:
// the manifest is made from them alone.
func (r *Result) verifyImage(s *Statement, p *Policy) *Error {
	d, ok := s.Image()
	if ok {
		r.ok("image", OCIManifest, "sha256:"+d.String(), "statement")
	} else if p.OCIManifest {
		return refuse(NoImage, "the policy wants a release that registries have, and the statement names no %s", OCIManifest)
	}
	return nil
}

// CheckImage compares an image that somebody is about to use, called name, with the verified release's, and adds the
// step to r.
func (r *Result) CheckImage(name string, got Digest) error {
	if r.Statement == nil {
		return refuse(BadArtifact, "image %.512s: nothing was verified to compare it with", name)
	}
	want, ok := r.Statement.Image()
	var e *Error
	switch {
	case !ok:
		e = refuse(BadArtifact, "image %.512s: the statement names no %s", name, OCIManifest)
	case want != got:
		e = refuse(BadArtifact, "image %.512s is sha256:%s, want sha256:%s", name, got, want)
	default:
		r.ok("image", "sha256:"+want.String(), name, "statement")
		return nil
	}
	r.Checks = append(r.Checks, Check{"image", Failed, "sha256:" + want.String(), "sha256:" + got.String(), "statement"})
	return e
}

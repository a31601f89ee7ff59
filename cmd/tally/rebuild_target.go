package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"tally/internal/cli"
	"tally/mkimage"
	"tally/mkimage/source"
	"tally/release"
	"tally/release/rebuild"
	"tally/release/sign"
)

// A target is what a rebuild is held against.
type target struct {
	subjects            []rebuild.Subject
	spec, lock, sources release.Digest
	open                func(release.Digest) (io.ReadCloser, error)
	manifest            release.Digest
	verified            bool
	statement           *release.Statement // nil for an output directory
	payload             release.Digest     // of the statement
	lockRaw             []byte             // the release's lock, once it was built from: a server may not give it twice
}

// rebuildTarget reads the statement of a bundle, or the manifest of an output directory.
func rebuildTarget(c *cli.Context, e *env) (*target, error) {
	arg := c.Args().First()
	if st, err := os.Stat(arg); err != nil {
		return nil, err
	} else if st.IsDir() {
		return outTarget(c.Context, arg)
	}
	data, err := readBundle(e, arg)
	if err != nil {
		return nil, err
	}
	verified := c.String("policy") != ""
	if verified {
		p, err := loadPolicy(c)
		if err != nil {
			return nil, err
		}
		p.Release.Rebuilders = release.RebuilderPolicy{}
		if r, err := release.Verify(data, &p.Release, time.Now()); err != nil {
			return nil, printVerification(e, r, err)
		}
	}
	s, payload, err := parseStatement(data, arg)
	if err != nil {
		return nil, err
	}
	f, err := newFinder(c.StringSlice("from"), filepath.Dir(arg))
	if err != nil {
		return nil, err
	}
	t := newTarget(s, payload, func(d release.Digest) (io.ReadCloser, error) { return f.open(c.Context, d) })
	t.verified = verified
	return t, nil
}

// newTarget is a release whose files open finds by digest.
func newTarget(s *release.Statement, payload release.Digest, open func(release.Digest) (io.ReadCloser, error)) *target {
	in := s.Predicate.Inputs
	t := &target{statement: s, payload: payload, spec: in.Spec, lock: in.Lock, sources: in.Sources, open: open}
	for _, sub := range s.Subject {
		t.subjects = append(t.subjects, rebuild.Subject{Name: sub.Name, SHA256: sub.Digest.SHA256.String()})
	}
	t.manifest, _ = s.SubjectDigest(release.Manifest)
	return t
}

// outTarget takes the files of an output directory as they are, and those that are gone as its manifest has them.
func outTarget(ctx context.Context, dir string) (*target, error) {
	data, err := readSmall(filepath.Join(dir, "manifest.json"), mkimage.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := mkimage.ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	t := &target{spec: release.Digest(m.Spec.SHA256), lock: release.Digest(m.Lock.SHA256), sources: release.Digest(m.Sources.SHA256)}
	files := map[release.Digest]string{}
	for _, a := range m.Artifacts {
		name := filepath.Join(dir, filepath.FromSlash(a.Name))
		d, _, err := sign.HashFile(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			d, err = release.Digest(a.SHA256), nil
		}
		if err != nil {
			return nil, err
		}
		t.subjects = append(t.subjects, rebuild.Subject{Name: a.Name, SHA256: d.String()})
		files[d] = name
	}
	for _, name := range []string{release.Manifest, release.ReferenceValues, release.OCIManifest} {
		d, _, err := sign.HashFile(ctx, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) && name != release.Manifest {
			continue
		} else if err != nil {
			return nil, err
		}
		t.subjects = append(t.subjects, rebuild.Subject{Name: name, SHA256: d.String()})
		files[d] = filepath.Join(dir, name)
		if name == release.Manifest {
			t.manifest = d
		}
	}
	t.open = func(d release.Digest) (io.ReadCloser, error) { return os.Open(files[d]) }
	return t, nil
}

// get returns a small file by its digest, checked.
func (t *target) get(ctx context.Context, what string, d release.Digest, limit int64) ([]byte, error) {
	var b bytes.Buffer
	err := t.copy(ctx, &b, what, d, limit)
	return b.Bytes(), err
}

// copy writes a file to w and checks it: on error w has taken bytes that must not be used. It has limit bytes at most,
// and where the statement says how many not one more.
func (t *target) copy(ctx context.Context, w io.Writer, what string, d release.Digest, limit int64) error {
	r, err := t.open(d)
	if err != nil {
		return withHint(fmt.Errorf("%s: %w", what, err), "say where the release's files are with --from DIR")
	}
	defer r.Close()
	limit = min(limit, t.size(d))
	most := &io.LimitedReader{R: r, N: limit + 1}
	got, err := sign.HashCopy(ctx, w, most)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case most.N == 0:
		return verdict(exitUnverified, "artifact", "%s: more than %d bytes, want SHA-256 %s", what, limit, d)
	case got != d:
		return verdict(exitUnverified, "artifact", "%s: SHA-256 %s, want %s", what, got, d)
	}
	return nil
}

// size is what the statement says of the artifact with that digest.
func (t *target) size(d release.Digest) int64 {
	if t.statement != nil {
		for _, a := range t.statement.Predicate.Artifacts {
			if a.SHA256 == d {
				return a.Size
			}
		}
	}
	return math.MaxInt64
}

// sourceArchive copies the release's sources.tar, which may be large, to a file in the directory tmp, and returns it open.
// The caller closes it; the file stays.
func (t *target) sourceArchive(ctx context.Context, tmp string) (*os.File, error) {
	f, err := os.CreateTemp(tmp, "sources-*.tar")
	if err != nil {
		return nil, err
	}
	err = t.copy(ctx, f, "sources.tar", t.sources, source.MaxArchive)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

package spec

import (
	"fmt"
	"slices"
	"strings"

	"tally/mkimage/oci"
	"tally/mkimage/tree"
)

// An OCI is a container image, named by digest: exactly one of Image and Layout is set.
type OCI struct {
	Image    string     `yaml:"image"`  // in a registry: HOST[:PORT]/PATH@sha256:HEX
	Layout   string     `yaml:"layout"` // in an OCI image layout, a directory of the maintainer's disk
	Digest   string     `yaml:"digest"` // sha256:HEX of the index or manifest; with Layout, and required there
	Target   string     `yaml:"target"` // default: the root
	Override []Override `yaml:"override"`
	Replace  bool       `yaml:"replace"` // may take the place of files of earlier sources
}

// Reference is the image's repository ("" for a layout) and the digest of its index or manifest. Parse has
// checked both.
func (o *OCI) Reference() (repository string, digest oci.Digest) {
	if o.Image != "" {
		r, _ := oci.ParseReference(o.Image)
		return r.Repository, r.Digest
	}
	digest, _ = oci.ParseDigest(o.Digest)
	return "", digest
}

// An Override changes what a source says about one of its paths. A path that the source has not is an error.
type Override struct {
	Path string  `yaml:"path,required"` // as the source has it, without the target
	Mode *uint32 `yaml:"mode"`          // at most 07777; not of a symbolic link
	UID  *uint32 `yaml:"uid"`
	GID  *uint32 `yaml:"gid"`
}

// maxID is the largest user or group number: all ones means "no change" to the kernel.
const maxID = 1<<32 - 2

// Layouts lists the OCI layouts that s reads from the maintainer's disk, with the digests it wants of them.
func (s *Spec) Layouts() []*OCI {
	var all []*OCI
	for _, src := range s.Root {
		if src.OCI != nil && src.OCI.Layout != "" {
			all = append(all, src.OCI)
		}
	}
	return all
}

func (c checker) oci(at string, o *OCI) error {
	if err := c.one(at, "oci", []string{"image", "layout"}, []bool{o.Image != "", o.Layout != ""}); err != nil {
		return err
	}
	if o.Image != "" {
		if _, err := oci.ParseReference(o.Image); err != nil {
			return c.fail(at+".image", "%v", err)
		}
		if o.Digest != "" {
			return c.fail(at+".digest", "digest: stands in image already")
		}
	} else {
		if err := c.local(at+".layout", o.Layout); err != nil {
			return err
		}
		if _, err := oci.ParseDigest(o.Digest); err != nil {
			return c.fail(at+".digest", "%v", err)
		}
	}
	if err := c.target(at+".target", o.Target, true); err != nil {
		return err
	}
	return c.overrides(at+".override", o.Override)
}

func (c checker) overrides(at string, all []Override) error {
	if len(all) > maxOverrides {
		return c.fail(at, "override: %d paths, want at most %d", len(all), maxOverrides)
	}
	for i, o := range all {
		at := fmt.Sprintf("%s.%d", at, i)
		if err := tree.CheckPath(o.Path); err != nil {
			return c.fail(at+".path", "%v", err)
		}
		if slices.ContainsFunc(all[:i], func(x Override) bool { return x.Path == o.Path }) {
			return c.fail(at+".path", "path %.200q: twice", o.Path)
		}
		if o.Mode == nil && o.UID == nil && o.GID == nil {
			return c.fail(at, "override of %.200q: want mode, uid or gid", o.Path)
		}
		if err := c.attributes(at, o.Mode, o.UID, o.GID); err != nil {
			return err
		}
	}
	return nil
}

// attributes checks a mode and an owner; nil is fine.
func (c checker) attributes(at string, mode, uid, gid *uint32) error {
	if mode != nil && *mode > 0o7777 {
		return c.fail(at+".mode", "mode %#o: want at most 07777", *mode)
	}
	if uid != nil && *uid > maxID {
		return c.fail(at+".uid", "uid %d: want at most %d", *uid, int64(maxID))
	}
	if gid != nil && *gid > maxID {
		return c.fail(at+".gid", "gid %d: want at most %d", *gid, int64(maxID))
	}
	return nil
}

// fileMode refuses two answers to one question.
func (c checker) fileMode(at string, f *File) error {
	if f.Mode != nil && f.Executable {
		return c.fail(at+".executable", "executable: mode says it already")
	}
	return c.attributes(at, f.Mode, &f.UID, &f.GID)
}

// sourceNames are the keys of a source, in the order of messages.
var sourceNames = strings.Fields("debian oci dir file tar go model")

func (src Source) set() []bool {
	return []bool{src.Debian != nil, src.OCI != nil, src.Dir != nil, src.File != nil, src.Tar != nil, src.Go != nil, src.Model != nil}
}

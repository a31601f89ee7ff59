package source

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage"
	"tally/mkimage/lock"
	"tally/mkimage/oci"
	"tally/mkimage/oci/ocitest"
)

// imageLayers are those of the image that the project of these tests uses.
func imageLayers() []ocitest.Layer {
	shadow := ocitest.File("etc/shadow", "root:*")
	shadow.Header.PAXRecords = map[string]string{"SCHILY.xattr.user.k": "v"}
	return []ocitest.Layer{
		ocitest.Packed(ocitest.Tar(ocitest.Dir("etc"), shadow, ocitest.File("etc/gone", "x"), ocitest.File("bin/a", "A")), "gzip"),
		ocitest.Packed(ocitest.Tar(ocitest.File("etc/.wh.gone", ""), ocitest.Link(tar.TypeLink, "bin/b", "bin/a"),
			ocitest.Node(tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3})), "zstd"),
	}
}

// imageProject writes a project with an OCI layout as one of its sources and returns its spec and layout.
func imageProject(t *testing.T, source string) (string, *ocitest.Layout) {
	t.Helper()
	dir := t.TempDir()
	l := ocitest.New(filepath.Join(dir, "images", "app.oci"))
	d := l.Index(l.Image("arm64", imageLayers()[0]), l.Image("amd64", imageLayers()...))
	p := newProject()
	p["images/one/image.yaml"] = strings.Replace(projectSpec, "devices:", fmt.Sprintf("  - oci: {layout: ../app.oci, digest: '%s'%s}\ndevices:", d.Digest, source), 1)
	return p.writeTo(t, dir), l
}

func assembleSpec(t *testing.T, spec string) (mkimage.Inputs, *lock.Lock, error) {
	t.Helper()
	store := lock.NewStore(t.TempDir())
	l := open(t, spec)
	k, raw := pin(t, l, store)
	in, err := l.Assemble(context.Background(), k, raw, store, t.TempDir(), 2)
	return in, k, err
}

func TestImageFromLayout(t *testing.T) {
	spec, layout := imageProject(t, ", override: [{path: etc/shadow, mode: 0640, gid: 42}, {path: bin, uid: 9}]")
	in, k, err := assembleSpec(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range in.Root.Entries() {
		if strings.HasPrefix(e.Source, "image ") {
			got = append(got, fmt.Sprintf("%s %s %04o %d:%d %s %q", e.Kind, e.Path, e.Mode, e.UID, e.GID, e.Link, e.Xattrs["user.k"]))
		}
	}
	want := []string{`directory bin 0755 9:0  ""`, `file bin/a 0644 0:0  ""`, `hard link bin/b 0644 0:0 bin/a ""`, `directory etc 0755 0:0  ""`, `file etc/shadow 0640 0:42  "v"`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(k.OCI) != 1 || len(k.OCI[0].Documents) != 3 || len(k.OCI[0].Layers) != 2 || k.OCI[0].Layout != "../app.oci" || k.OCI[0].For != "root.4" {
		t.Errorf("lock: %+v", k.OCI)
	}
	for _, i := range in.List {
		if i.Kind == "oci" && (i.Name != "../app.oci" || i.SHA256 != mkimage.Digest(k.OCI[0].Digest()) || i.Size == 0) {
			t.Errorf("manifest: %+v", i)
		}
	}
	// The archive has the blobs of the image, and no other: a rebuild elsewhere starts from it.
	all := strings.Join(names(t, read(t, in.Sources)), "\n")
	if n := strings.Count(all, "blobs/sha256/"); n != len(k.OCI[0].Objects()) || !strings.Contains(all, "images/app.oci/oci-layout") {
		t.Errorf("archive with %d blobs, want %d:\n%s", n, len(k.OCI[0].Objects()), all)
	}
	if blobs, err := os.ReadDir(filepath.Join(layout.Dir, "blobs", "sha256")); err != nil || len(blobs) <= len(k.OCI[0].Objects()) {
		t.Errorf("%d blobs in the layout, want more than the image has: %v", len(blobs), err)
	}
	dir := filepath.Join(t.TempDir(), "x")
	copied, err := Extract(context.Background(), bytes.NewReader(read(t, in.Sources)), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, copied).Check(context.Background(), k); err != nil {
		t.Errorf("what was unpacked from the archive: %v", err)
	}
}

func TestImageBelowTarget(t *testing.T) {
	spec, _ := imageProject(t, ", target: opt/app")
	if _, _, err := assembleSpec(t, spec); err == nil || !strings.Contains(err.Error(), `path "dev/null": character device 1:3: only the spec may name devices`) {
		t.Errorf("a device that the spec names elsewhere: %v", err)
	}
}

func TestImageRefusals(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct{ name, source, want string }{
		{"override of nothing", ", override: [{path: etc/gone, mode: 0}]", `root source 4: override of "etc/gone": the source has no such path`},
		{"override of a hard link", ", override: [{path: bin/b, mode: 0}]", `override of "bin/b": is a hard link: name "bin/a"`},
	} {
		spec, _ := imageProject(t, c.source)
		if _, _, err := assembleSpec(t, spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	spec, layout := imageProject(t, "")
	l := open(t, spec)
	k, _ := pin(t, l, lock.NewStore(t.TempDir()))
	blob := oci.Layout(layout.Dir).Path(oci.Digest(k.OCI[0].Layers[1].SHA256))
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func() error
		want   string
	}{
		{func() error { return os.WriteFile(blob, data[1:], 0o644) }, `layout "../app.oci": blob sha256:`},
		{func() error { return os.Remove(blob) }, `no such file`},
		{func() error { return os.Remove(filepath.Join(layout.Dir, oci.LayoutFile)) }, `layout "../app.oci": stat `},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if err := l.Check(ctx, k); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
}

// TestImageStale: a lock that does not go with the spec's images.
func TestImageStale(t *testing.T) {
	spec, _ := imageProject(t, "")
	l := open(t, spec)
	k, _ := pin(t, l, lock.NewStore(t.TempDir()))
	good := k.OCI
	for _, c := range []struct {
		name, want string
		change     func(*lock.OCI)
	}{
		{"other blob", "image ../app.oci is not what the lock pinned", func(o *lock.OCI) { o.Layers = o.Layers[:1] }},
		{"other digest", "is not what the lock pinned: it is sha256:", func(o *lock.OCI) { o.Documents = append([]lock.Object{{}}, o.Documents[1:]...) }},
		{"other layout", "is not what the lock pinned", func(o *lock.OCI) { o.Layout = "x" }},
		{"repository", "is not what the lock pinned", func(o *lock.OCI) { o.Image, o.Layout = "a.b/c", "" }},
		{"other source", "image ../app.oci is not in the lock", func(o *lock.OCI) { o.For = "root.1" }},
	} {
		o := good[0]
		c.change(&o)
		k.OCI = []lock.OCI{o}
		if err := l.Check(context.Background(), k); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	more := good[0]
	more.For = "root.0"
	k.OCI = []lock.OCI{more, good[0]}
	if err := l.Check(context.Background(), k); err == nil || !strings.Contains(err.Error(), "the spec does not name it") {
		t.Errorf("image that the spec does not name: %v", err)
	}
}

// TestOverrides: owners and modes of the other sources.
func TestOverrides(t *testing.T) {
	p := newProject()
	p["images/one/image.yaml"] = strings.NewReplacer(
		"target: srv}", "target: srv, uid: 33, gid: 34, override: [{path: bin/tool, mode: 04755, uid: 0}, {path: link, gid: 5}]}",
		"executable: true}", "mode: 0600, uid: 1, gid: 2}",
		"more.tar, target: opt}", "more.tar, target: opt, override: [{path: bin/a, gid: 0}]}",
		"target: sbin/init}", "target: sbin/init, mode: 0700, uid: 3, gid: 4}").Replace(projectSpec)
	in, err := assemble(t, p)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"srv/bin": "0755 33:34", "srv/bin/tool": "4755 0:34", "srv/link": "0777 33:5", "srv/etc/conf": "0644 33:34",
		"etc/data": "0600 1:2", "opt/bin/a": "0750 7:0", "sbin/init": "0700 3:4",
	} {
		e := in.Root.Get(path)
		if got := fmt.Sprintf("%04o %d:%d", e.Mode, e.UID, e.GID); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	p["images/one/image.yaml"] = strings.Replace(projectSpec, "target: srv}", "target: srv, override: [{path: link, mode: 0}]}", 1)
	if _, err := assemble(t, p); err == nil || !strings.Contains(err.Error(), `override of "link": a symbolic link has no mode`) {
		t.Errorf("mode of a symbolic link: %v", err)
	}
}

// TestReplace: what a later source may do to the files of an earlier one.
func TestReplace(t *testing.T) {
	with := func(replace string, files map[string]string) (mkimage.Inputs, error) {
		spec, _ := imageProject(t, "")
		p := project{"images/one/image.yaml": ""}
		data, err := os.ReadFile(spec)
		if err != nil {
			t.Fatal(err)
		}
		p["images/one/image.yaml"] = strings.Replace(string(data), "devices:", "  - dir: {path: over"+replace+"}\ndevices:", 1)
		for name, text := range files {
			p["images/one/over/"+name] = text
		}
		p.writeTo(t, filepath.Dir(filepath.Dir(filepath.Dir(spec))))
		in, _, err := assembleSpec(t, spec)
		return in, err
	}
	in, err := with(", replace: true", map[string]string{"etc/shadow": "over", "etc/new": "new", "bin/b": "over"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"etc/shadow": "over", "etc/new": "new", "bin/b": "over", "bin/a": "A"} {
		if got, err := contents(context.Background(), in.Root.Get(path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, c := range []struct {
		replace, path, want string
	}{
		{"", "etc/shadow", `path "etc/shadow": file (mode 0644, owner 0:0) from dir over, but image ../app.oci already put a file`},
		{", replace: true", "etc", `path "etc": a file from dir over cannot replace the directory from image ../app.oci`},
		{", replace: true", "etc/shadow/x", `path "etc/shadow": a directory from dir over cannot replace the file from image ../app.oci`},
		{", replace: true", "bin/a", `path "bin/a": hard links of image ../app.oci lead to this file: it cannot be replaced`},
	} {
		if _, err := with(c.replace, map[string]string{c.path: "over"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.path, err, c.want)
		}
	}
}

package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"tally/mkimage/tree"
)

// Limits on a package, in bytes and files.
const (
	MaxPackage  = 4 << 30  // of the .deb
	maxUnpacked = 16 << 30 // of data.tar
	maxControl  = 16 << 20 // of control.tar
	maxFiles    = 1 << 20
)

// An Archive is the content of one .deb (deb(5)).
type Archive struct {
	Control Paragraph    // the control stanza
	Scripts []string     // maintainer scripts found, sorted, e.g. "postinst"; none was run
	Entries []tree.Entry // files in archive order; contents refer to the unpacked data.tar
}

// scriptNames are the control files that dpkg or debconf would run.
var scriptNames = []string{"config", "postinst", "postrm", "preinst", "prerm"}

// members finds the three members a .deb must have, in their order.
func members(r io.ReaderAt, size int64) (control, data member, err error) {
	all, err := readAr(r, size)
	if err != nil {
		return control, data, err
	}
	all = slices.DeleteFunc(all, func(m member) bool { return strings.HasPrefix(m.name, "_") }) // deb(5): to be ignored
	if len(all) != 3 || all[0].name != "debian-binary" || !strings.HasPrefix(all[1].name, "control.tar") || !strings.HasPrefix(all[2].name, "data.tar") {
		var names []string
		for _, m := range all {
			names = append(names, m.name)
		}
		return control, data, fmt.Errorf("members %q, want debian-binary, control.tar*, data.tar*", names)
	}
	version := make([]byte, min(all[0].size, 16))
	if _, err := r.ReadAt(version, all[0].offset); err != nil && !errors.Is(err, io.EOF) {
		return control, data, err
	}
	if !bytes.HasPrefix(version, []byte("2.")) {
		return control, data, fmt.Errorf("format version %q, want 2.0", version)
	}
	return all[1], all[2], nil
}

// readControl reads control.tar: the stanza and which scripts there are.
func readControl(ctx context.Context, r io.Reader, name string) (Paragraph, []string, error) {
	z, err := decompress(name, "control.tar", r)
	if err != nil {
		return nil, nil, err
	}
	defer z.Close()
	tr := tar.NewReader(&position{ctx: ctx, r: z, limit: maxControl})
	var para Paragraph
	var scripts []string
	seen := map[string]bool{}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("control.tar: %w", err)
		}
		file, err := cleanPath(h.Name) // a name in another form must not hide a script
		if err != nil {
			return nil, nil, fmt.Errorf("control.tar: %w", err)
		}
		if file != "" && seen[file] {
			return nil, nil, fmt.Errorf("control.tar: path %q twice", file)
		}
		seen[file] = true
		if slices.Contains(scriptNames, file) {
			scripts = append(scripts, file)
		}
		if file != "control" {
			continue
		}
		if para, err = stanza(tr); err != nil {
			return nil, nil, fmt.Errorf("control: %w", err)
		}
	}
	if para == nil {
		return nil, nil, errors.New("control.tar: no file \"control\"")
	}
	slices.Sort(scripts)
	return para, scripts, nil
}

// stanza reads the file "control": one stanza in UTF-8 (Debian Policy 5.1).
func stanza(r io.Reader) (Paragraph, error) {
	pr := NewParagraphReader(r)
	para, err := pr.Next()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("empty, want one stanza")
	}
	if err != nil {
		return nil, err
	}
	if _, err := pr.Next(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text behind the first stanza, want one stanza")
	}
	for _, name := range slices.Sorted(maps.Keys(para)) {
		if !utf8.ValidString(para[name]) {
			return nil, fmt.Errorf("field %q: not in UTF-8", name)
		}
	}
	return para, nil
}

// position counts what a tar reader has taken, which tells where contents lie.
type position struct {
	ctx   context.Context
	r     io.Reader
	n     int64
	limit int64
}

func (p *position) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	if p.n += int64(n); p.n > p.limit {
		return 0, fmt.Errorf("more than %d bytes", p.limit) // with n, a full read would pass for good
	}
	return n, err
}

// readData reads data.tar from p. contents returns the Content for size bytes at an offset of it.
func readData(p *position, source string, contents func(offset, size int64) tree.Content) ([]tree.Entry, error) {
	tr := tar.NewReader(p)
	var all []tree.Entry
	seen := map[string]bool{}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, p) // padding behind the end belongs to the file
			return all, err
		}
		if err != nil {
			return nil, fmt.Errorf("data.tar: %w", err)
		}
		e, err := entry(h, source)
		if err != nil {
			return nil, fmt.Errorf("data.tar: %w", err)
		}
		if e.Path == "" {
			continue // the root directory is not a package's to define
		}
		if seen[e.Path] {
			return nil, fmt.Errorf("data.tar: path %q twice", e.Path)
		}
		if len(all) >= maxFiles {
			return nil, fmt.Errorf("data.tar: more than %d files", int(maxFiles))
		}
		seen[e.Path] = true
		if e.Kind == tree.File {
			e.Data = contents(p.n, e.Size)
			sum := sha256.New()
			if _, err := io.Copy(sum, tr); err != nil {
				return nil, fmt.Errorf("data.tar: path %q: %w", e.Path, err)
			}
			sum.Sum(e.Digest[:0])
		}
		all = append(all, e)
	}
}

// entry translates a tar header. Owners are taken by number: names are looked up by nobody.
func entry(h *tar.Header, source string) (tree.Entry, error) {
	e := tree.Entry{Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), MTime: h.ModTime.Unix(), Source: source}
	var err error
	if e.Path, err = cleanPath(h.Name); err != nil {
		return e, err
	}
	if h.Mode < 0 || h.Mode > maxMode || h.Uid < 0 || int64(h.Uid) > math.MaxUint32 || h.Gid < 0 || int64(h.Gid) > math.MaxUint32 {
		return e, fmt.Errorf("path %q: mode %#o or owner %d:%d out of range", e.Path, h.Mode, h.Uid, h.Gid)
	}
	if e.Xattrs, err = tree.Xattrs(h.PAXRecords); err != nil {
		return e, fmt.Errorf("path %q: %w", e.Path, err)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Kind, e.Size = tree.File, h.Size
	case tar.TypeDir:
		e.Kind = tree.Dir
	case tar.TypeSymlink:
		e.Kind, e.Link = tree.Symlink, h.Linkname
	case tar.TypeLink:
		e.Kind = tree.HardLink
		if e.Link, err = cleanPath(h.Linkname); err != nil {
			return e, fmt.Errorf("path %q: hard link to %q: outside the image", e.Path, h.Linkname)
		}
	case tar.TypeChar, tar.TypeBlock:
		return e, fmt.Errorf("path %q: device node: only the spec may name devices", e.Path)
	default:
		return e, fmt.Errorf("path %q: entry type %q is not supported", e.Path, h.Typeflag)
	}
	return e, nil
}

// maxMode is the largest mode of a tar header: permission bits and, by some writers, the file type.
const maxMode = 0o177777

// cleanPath turns "./usr/bin/" into "usr/bin" and refuses whatever climbs or is absolute.
func cleanPath(s string) (string, error) {
	p := strings.TrimSuffix(strings.TrimPrefix(s, "./"), "/")
	if p == "" || p == "." {
		return "", nil
	}
	return p, tree.CheckPath(p)
}

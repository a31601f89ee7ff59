package compare

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxWhole is the largest thing read into memory as a whole: a UKI, an initrd, a source archive.
const maxWhole = 1 << 30

// maxDifferences bounds the memory of a comparison; what is beyond is counted.
const maxDifferences = 500_000

// A Tree is one of the trees of an image.
type Tree string

// The trees whose paths have owners.
const (
	Root   Tree = "root" // the root file system, or a directory tree
	Initrd Tree = "initrd"
)

// Options say how to compare. The zero Options are fine.
type Options struct {
	// Owner names the input that a path of a tree comes from, on side A and on side B, e.g. "package libc6 2.41-12":
	// kind and name, as in the manifest, come first. "" is unknown; either may be nil. Paths begin with "/".
	Owner [2]func(tree Tree, path string) string
	// PerCause is how many differences of one kind and cause are listed in full; 0 means 20, less than 0 all.
	PerCause int
	// Ignore names fields of directory trees that do not count: mtime, owner, mode, xattr. Images ignore nothing.
	Ignore map[string]bool
}

// ErrKinds is wrapped by Paths when a directory is to be compared with a file.
var ErrKinds = errors.New("want two directories or two files")

// A comparer is one comparison.
type comparer struct {
	ctx       context.Context
	opt       Options
	r         *Report
	all       []Difference
	pending   []string               // of all: not "": follows from the root file systems if they differ, else has this cause
	rootSeen  bool                   // root file systems were compared and differ
	explained map[[2][32]byte]*found // nested things that were explained already
	volume    bool                   // inside a model volume, which is measured through the root alone
	layer     int                    // of compression
	nested    int                    // containers that hold this one
	models    bool                   // a model volume differs
	isUKI     bool                   // unified kernel images were taken apart
	parts     map[string]string      // measured parts that differ, and why
	changed   map[string]string      // causes of inputs that differ, by "KIND NAME"
	buffers   [2][]byte              // for small files
	partOwner map[string]string      // inputs that kernel, stub and firmware come from

	unread bool // of what is compared now: not taken apart, or a program that is no UKI
	gaps   bool // what differs is not all at hand
	unsure bool // something differs of which nothing here knows whether it is measured
}

func newComparer(ctx context.Context, a, b, kind string, opt Options) *comparer {
	if opt.PerCause == 0 {
		opt.PerCause = 20
	}
	return &comparer{ctx: ctx, opt: opt, explained: map[[2][32]byte]*found{}, parts: map[string]string{}, partOwner: map[string]string{}, changed: map[string]string{},
		r: &Report{Schema: Schema, A: a, B: b, Kind: kind, Artifacts: []Artifact{}, Inputs: []Input{}, Causes: []Cause{}, Differences: []Difference{}, Registers: []Register{}, Notes: []string{}}}
}

// Paths compares two files or two directories; two directories whose manifest.json is a build's are outputs.
// An error means that something could not be read at all.
func Paths(ctx context.Context, a, b string, opt Options) (*Report, error) {
	x, err := os.Stat(a)
	if err != nil {
		return nil, err
	}
	y, err := os.Stat(b)
	if err != nil {
		return nil, err
	}
	switch {
	case x.IsDir() != y.IsDir():
		return nil, fmt.Errorf("%s, %s: a directory and a file: %w", a, b, ErrKinds)
	case !x.IsDir():
		return files(ctx, a, b, opt)
	}
	return dirs(ctx, a, b, opt)
}

// dirs compares two directories: as outputs when both are, for only there may modes, links and owners be left out.
func dirs(ctx context.Context, a, b string, opt Options) (*Report, error) {
	errA, errB := checkOutput(a), checkOutput(b)
	if errA == nil && errB == nil {
		return outputDirs(ctx, a, b, opt)
	}
	r, err := directories(ctx, a, b, opt)
	if err != nil {
		return nil, err
	}
	if errA == nil {
		r.Notes = append(r.Notes, oneOutput(a, b, errB))
	} else if errB == nil {
		r.Notes = append(r.Notes, oneOutput(b, a, errA))
	}
	return r, nil
}

// files compares two files of any kind.
func files(ctx context.Context, a, b string, opt Options) (*Report, error) {
	x, closeX, err := openFile(a)
	if err != nil {
		return nil, err
	}
	defer closeX()
	y, closeY, err := openFile(b)
	if err != nil {
		return nil, err
	}
	defer closeY()
	c := newComparer(ctx, a, b, kindOf(x), opt)
	if kindOf(y) != c.r.Kind {
		c.r.Kind = kindFile
	}
	same, err := equal(ctx, x, y)
	if err != nil {
		return nil, err
	}
	if !same {
		if err := c.container("", x, y); err != nil {
			return nil, err
		}
		c.standalone(x, y)
	}
	return c.finish(same), nil
}

// openFile opens a regular file or a block device. Opening anything else may wait for ever.
func openFile(path string) (source, func(), error) {
	if st, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if m := st.Mode(); !m.IsRegular() && m.Type() != os.ModeDevice {
		return nil, nil, fmt.Errorf("%s: %s: want a regular file or a block device", path, m.Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	size := int64(0)
	if err == nil {
		size = fi.Size()
		if !fi.Mode().IsRegular() { // a block device has no size but its end
			size, err = f.Seek(0, io.SeekEnd)
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return io.NewSectionReader(f, 0, size), func() { f.Close() }, nil
}

// found is where two things were explained, and whether they were left unread.
type found struct {
	where  string
	unread bool
}

// container explains two things whose bytes differ. where is "" for the two arguments themselves.
func (c *comparer) container(where string, a, b source) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	d := Difference{Layer: LayerArtifact, Where: where}
	this := &found{where: where}
	if key, ok := c.key(a, b); ok {
		if first, again := c.explained[key]; again {
			c.follows(d, "content", sizeText(a), sizeText(b), "the same two as in "+orThis(first.where))
			c.unread = c.unread || first.unread
			return nil
		}
		c.explained[key] = this
	}
	before := c.unread
	c.unread = false
	err := c.apart(d, a, b)
	this.unread = c.unread
	c.unread = c.unread || before
	return err
}

// apart takes two things apart that were not explained yet.
func (c *comparer) apart(d Difference, a, b source) error {
	where := d.Where
	if kindOf(a) != kindOf(b) {
		c.unread = true
		c.add(d, "type", kindOf(a), kindOf(b), "another type of file")
		return nil
	}
	if c.nested >= maxNested {
		c.note("%s: within %d others: compared as bytes", orThis(where), c.nested)
		c.unread = true
		return c.content(d, a, b)
	}
	c.nested++
	defer func() { c.nested-- }()
	if done, err := c.compressed(d, a, b, func(x, y source) error { return c.container(within(where, "decompressed"), x, y) }); done || err != nil {
		return err
	}
	before := len(c.all) + c.r.Omitted
	err := c.structure(where, kindOf(a), a, b)
	if errors.Is(err, errNotRead) {
		c.note("%s: %v: compared as bytes", orThis(where), err)
		c.unread, err = true, nil
	}
	if err != nil || len(c.all)+c.r.Omitted > before {
		return err
	}
	c.unread = true
	return c.content(d, a, b)
}

// structure takes two things of one kind apart.
func (c *comparer) structure(where, kind string, a, b source) error {
	switch kind {
	case kindDisk:
		return c.disks(where, a, b)
	case kindUKI:
		return c.ukis(where, a, b)
	case kindCPIO:
		return c.cpios(where, a, b)
	case kindErofs:
		return c.roots(where, a, b)
	case kindTar:
		return c.tars(where, a, b)
	}
	return nil
}

// errNotRead is wrapped when one side cannot be taken apart; its bytes can be compared all the same.
var errNotRead = errors.New("not readable")

// unread says which side could not be taken apart.
func unread(side string, err error) error { return fmt.Errorf("%s: %w: %w", side, errNotRead, err) }

// key identifies two contents, when hashing them is cheap.
func (c *comparer) key(a, b source) (key [2][32]byte, ok bool) {
	if a.Size() > 64<<20 || b.Size() > 64<<20 {
		return key, false
	}
	for i, s := range []source{a, b} {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(s, 0, s.Size())); err != nil {
			return key, false
		}
		h.Sum(key[i][:0])
	}
	return key, true
}

func orThis(where string) string {
	if where == "" {
		return "the two files"
	}
	return where
}

func within(where, inner string) string {
	if where == "" {
		return inner
	}
	return where + ", " + inner
}

func sizeText(s source) string { return fmt.Sprintf("%d bytes", s.Size()) }

func (c *comparer) note(format string, args ...any) {
	c.r.Notes = append(c.r.Notes, fmt.Sprintf(format, args...))
}

package lock

import (
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"tally/internal/atomicfile"
	"tally/internal/flock"
)

// A part is a download under way: HEX.part in the store, and beside it HEX.from with the address it
// comes from and the validator (RFC 9110, 8.8) by which the server knows the file again.
type part struct {
	*os.File
	url, validator string
	private        bool // another process has the shared one; nothing is kept
}

func (p *part) Write(b []byte) (int, error) {
	n, err := p.File.Write(b)
	if err != nil {
		err = localError{err}
	}
	return n, err
}

// openPart opens the part of a file, exclusively; when another process has it, a private one.
func (s *Store) openPart(h Hash) (*part, error) {
	name := s.Path(h) + ".part"
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if flock.Try(f) == nil {
		// The name may have gone to the store between opening and locking.
		if a, err := f.Stat(); err == nil {
			if b, err := os.Stat(name); err == nil && os.SameFile(a, b) {
				return &part{File: f}, nil
			}
		}
	}
	f.Close()
	// Under a name of atomicfile's temporary files, so that sweep removes what a killed process leaves.
	f, err = os.CreateTemp(filepath.Dir(name), "."+h.String()+".part.tmp-")
	return &part{File: f, private: true}, err
}

// start hashes what is there into h and returns its length: 0 unless it came from url and can be
// continued. What came from elsewhere stays until url has an answer of its own: it may have none.
func (p *part) start(h hash.Hash, url string, size int64) (int64, error) {
	if p.url == "" {
		if text, err := os.ReadFile(p.from()); err == nil {
			p.url, p.validator, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
		}
	}
	fi, err := p.Stat()
	if err != nil {
		return 0, err
	}
	if p.url != url || p.validator == "" || fi.Size() >= size {
		return 0, nil
	}
	if _, err := p.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(h, p)
}

func (p *part) from() string { return strings.TrimSuffix(p.Name(), ".part") + ".from" }

func (p *part) reset() error {
	if err := p.Truncate(0); err != nil {
		return err
	}
	_, err := p.Seek(0, io.SeekStart)
	return err
}

// note remembers where the part comes from. A weak validator cannot continue a download.
func (p *part) note(url string, header http.Header) error {
	v := header.Get("ETag")
	if v == "" || strings.HasPrefix(v, "W/") {
		v = header.Get("Last-Modified")
	}
	if strings.ContainsAny(v, "\r\n") {
		v = ""
	}
	if url == p.url && v == p.validator {
		return nil
	}
	p.url, p.validator = url, v
	if p.private {
		return nil
	}
	return atomicfile.WriteFile(p.from(), []byte(url+"\n"+v+"\n"), 0o644)
}

// commit makes the part the file of the store. Its hash has been checked.
func (p *part) commit(path string) error {
	if err := p.Sync(); err != nil {
		return err
	}
	if err := p.Chmod(0o644); err != nil {
		return err
	}
	if err := os.Rename(p.Name(), path); err != nil {
		return err
	}
	os.Remove(p.from())
	return nil
}

// Close closes the part; what a private one holds is not kept.
func (p *part) Close() error {
	err := p.File.Close()
	if p.private {
		os.Remove(p.Name())
	}
	return err
}

// forgottenAfter is how long nobody has written to a part that no lock is likely to ask for again.
const forgottenAfter = 30 * 24 * time.Hour

// partName is the name of a part; HEX.part-N is what versions before this one called a private one.
var partName = regexp.MustCompile(`^[0-9a-f]{64}\.part(-[0-9]+)?$`)

// sweepParts removes the parts of files that no lock asks for any more, or that came in another way: a model's may have
// gigabytes.
func (s *Store) sweepParts(now time.Time) {
	dir := filepath.Join(s.dir, "sha256")
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() && partName.MatchString(e.Name()) {
			removeForgotten(filepath.Join(dir, e.Name()), now)
		}
	}
}

// removeForgotten removes a part, unless it is young or a process has it. It goes with its lock held: who opened it in
// between finds, as in openPart, that the name is not its file's any more.
func removeForgotten(name string, now time.Time) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if flock.Try(f) != nil {
		return
	}
	fi, err := f.Stat()
	if err != nil || now.Sub(fi.ModTime()) < forgottenAfter {
		return
	}
	if there, err := os.Lstat(name); err != nil || !os.SameFile(fi, there) {
		return
	}
	os.Remove((&part{File: f}).from()) // first: once the part is gone, another process may write its own
	os.Remove(name)
}

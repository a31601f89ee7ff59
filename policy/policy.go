package policy

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tally/internal/strictyaml"
	"tally/release"
)

const (
	// Schema is the value of the file's first key.
	Schema = "tally.policy/v1"

	// MaxSize is the size in bytes above which a policy, or a file that it names, is refused unread.
	MaxSize = 1 << 20
)

// A Policy is what the file says.
type Policy struct {
	Release release.Policy
	LogFrom string // where the log can be asked for consistency proofs: a URL or a directory; empty: nowhere

	RebuildsFrom []string // where the rebuilders' own logs are published

	Evidence Evidence
	GPU      *GPU // nil: no GPU is accepted

	// Digest is of the file and of all that it names, as Load has read them: another one may be another policy.
	Digest [sha256.Size]byte
}

// Load reads the policy file at path.
func Load(path string) (*Policy, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	first := sha256.Sum256(data)
	all := first[:]
	p, err := Parse(data, path, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		data, err := readFile(name)
		one := sha256.Sum256(data)
		all = append(all, one[:]...)
		return data, err
	})
	if err != nil {
		return nil, err
	}
	p.Digest = sha256.Sum256(all)
	return p, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%s: larger than %d bytes", path, MaxSize)
	}
	return data, err
}

// The file as it stands.
type fileYAML struct {
	Schema   string        `yaml:"schema,required"`
	Release  *releaseYAML  `yaml:"release"`
	Evidence *evidenceYAML `yaml:"evidence"`
	GPU      *gpuYAML      `yaml:"gpu"`
}

// Parse reads a policy; name stands in error messages, read opens the key files that the policy names.
func Parse(data []byte, name string, read func(name string) ([]byte, error)) (*Policy, error) {
	var f fileYAML
	if err := strictyaml.Unmarshal(data, name, &f); err != nil {
		return nil, err
	}
	at, err := strictyaml.Locate(data, name)
	if err != nil {
		return nil, err
	}
	r := &reader{name: name, at: at, read: read}
	if f.Schema != Schema {
		r.fail("schema", "schema %.64q, want %q", f.Schema, Schema)
	}
	p := new(Policy)
	if f.Release != nil {
		r.release(f.Release, p)
	}
	if f.Evidence != nil {
		p.Evidence = r.evidence(f.Evidence, &p.Release.Log)
	}
	if f.GPU != nil {
		p.GPU = r.gpu(f.GPU, "gpu")
	}
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

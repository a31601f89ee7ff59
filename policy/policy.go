// Package policy reads the file in which a relying party says whom it trusts (tally.policy/v1):
//
//	schema: tally.policy/v1
//	release:
//	  signers:                       # who may sign releases; at least one
//	    - file: cosign.pub           # or  pem: |  with the key itself
//	      not-before: 2026-01-01T00:00:00Z   # optional
//	      not-after: 2027-01-01T00:00:00Z    # optional
//	  log:
//	    vkey: log.example+1234abcd+AbCd…     # or  file: log.vkey
//	    witnesses: none              # must be said; every result then warns
//	evidence:
//	  platforms: [insecure]          # which evidence a client accepts; no default
//
// The reader is strict: an unknown key, a key twice, a second document, an alias or a value of another
// kind is an error with its line and column. Files are taken relative to the policy's directory. What is
// left out is trusted to nobody: an empty policy is valid and rejects everything.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

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
	Release  release.Policy
	Evidence Evidence
}

// Evidence says which evidence of an enclave is accepted.
type Evidence struct {
	Platforms []string // names such as "insecure"; empty: none
}

// Accepts reports whether the policy names the platform.
func (e Evidence) Accepts(platform string) bool {
	for _, p := range e.Platforms {
		if p == platform {
			return true
		}
	}
	return false
}

// Load reads the policy file at path.
func Load(path string) (*Policy, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	p, err := Parse(data, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		return readFile(name)
	})
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
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

// Parse reads a policy; read opens the key files that it names. Errors begin with "LINE:COLUMN: ".
func Parse(data []byte, read func(name string) ([]byte, error)) (*Policy, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("1:1: policy larger than %d bytes", MaxSize)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, syntaxError(err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%d:1: want one document", max(more.Line, 1))
	}
	if len(doc.Content) != 1 {
		return nil, errors.New("1:1: the policy is empty")
	}
	r := &reader{read: read}
	p := new(Policy)
	top := r.mapping(doc.Content[0], "policy", "schema", "release", "evidence")
	if s := r.text(top["schema"]); r.err == nil && s != Schema {
		r.fail(doc.Content[0], "schema %.64q, want %q", s, Schema)
	}
	r.release(top["release"], &p.Release)
	r.evidence(top["evidence"], &p.Evidence)
	return p, r.err
}

// syntaxError puts yaml's "line N:" in front like every other position.
func syntaxError(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("1:1: the policy is empty")
	}
	var line int
	msg := strings.TrimPrefix(strings.SplitN(err.Error(), "\n", 2)[0], "yaml: ")
	if _, scanErr := fmt.Sscanf(msg, "line %d:", &line); scanErr == nil {
		_, msg, _ = strings.Cut(msg, ": ")
		return fmt.Errorf("%d:1: %s", line, msg)
	}
	return fmt.Errorf("1:1: %s", msg)
}

// A reader walks yaml nodes; the first error stays.
type reader struct {
	read func(string) ([]byte, error)
	err  error
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%d:%d: %w", n.Line, n.Column, fmt.Errorf(format, args...))
	}
}

// mapping returns the values of n by key; keys must be among the allowed, each once.
func (r *reader) mapping(n *yaml.Node, what string, allowed ...string) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	if n == nil || r.err != nil {
		return out
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s: want a mapping with the keys %s", what, strings.Join(allowed, ", "))
		return out
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		known := false
		for _, a := range allowed {
			known = known || k.Kind == yaml.ScalarNode && k.Value == a
		}
		switch {
		case !known:
			r.fail(k, "%s: unknown key %.64q, want one of %s", what, k.Value, strings.Join(allowed, ", "))
		case out[k.Value] != nil:
			r.fail(k, "%s: key %q twice", what, k.Value)
		}
		out[k.Value] = v
	}
	return out
}

func (r *reader) sequence(n *yaml.Node, what string) []*yaml.Node {
	if n == nil || r.err != nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "%s: want a list", what)
		return nil
	}
	return n.Content
}

func (r *reader) text(n *yaml.Node) string {
	if n == nil || r.err != nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" && n.Tag != "!!timestamp" || n.Value == "" {
		r.fail(n, "want a text")
		return ""
	}
	return n.Value
}

func (r *reader) time(n *yaml.Node) time.Time {
	s := r.text(n)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.fail(n, "time %.64q: want RFC 3339, such as 2027-01-01T00:00:00Z", s)
	}
	return t
}

// inlineOrFile returns the text under one of two keys, exactly one of which must stand there.
func (r *reader) inlineOrFile(n *yaml.Node, m map[string]*yaml.Node, inline string) string {
	if r.err != nil {
		return ""
	}
	if (m[inline] == nil) == (m["file"] == nil) {
		r.fail(n, "want either %q or \"file\"", inline)
		return ""
	}
	if m[inline] != nil {
		return r.text(m[inline])
	}
	name := r.text(m["file"])
	if r.err != nil {
		return ""
	}
	data, err := r.read(name)
	if err != nil {
		r.fail(m["file"], "%w", err)
	}
	return string(data)
}

func (r *reader) release(n *yaml.Node, p *release.Policy) {
	m := r.mapping(n, "release", "signers", "log")
	for _, s := range r.sequence(m["signers"], "release.signers") {
		sm := r.mapping(s, "release.signers", "pem", "file", "not-before", "not-after")
		text := r.inlineOrFile(s, sm, "pem")
		signer := release.Signer{NotBefore: r.time(sm["not-before"]), NotAfter: r.time(sm["not-after"])}
		if r.err != nil {
			return
		}
		var err error
		if signer.Key, err = release.ParsePublicKey([]byte(text)); err != nil {
			r.fail(s, "%w", err)
		}
		p.Signers = append(p.Signers, signer)
	}
	if m["log"] == nil || r.err != nil {
		return
	}
	lm := r.mapping(m["log"], "release.log", "vkey", "file", "witnesses")
	text := strings.TrimSuffix(r.inlineOrFile(m["log"], lm, "vkey"), "\n")
	if w := r.text(lm["witnesses"]); lm["witnesses"] != nil && r.err == nil && w != "none" {
		r.fail(lm["witnesses"], "witnesses %.64q: only \"none\" can be checked by this version", w)
	}
	p.Log.Unwitnessed = lm["witnesses"] != nil
	if r.err != nil {
		return
	}
	var err error
	if p.Log.Key, err = release.ParseLogKey(text); err != nil {
		r.fail(m["log"], "%w", err)
	}
}

func (r *reader) evidence(n *yaml.Node, e *Evidence) {
	m := r.mapping(n, "evidence", "platforms")
	for _, p := range r.sequence(m["platforms"], "evidence.platforms") {
		name := r.text(p)
		if e.Accepts(name) {
			r.fail(p, "evidence.platforms: %q twice", name)
		}
		e.Platforms = append(e.Platforms, name)
	}
}

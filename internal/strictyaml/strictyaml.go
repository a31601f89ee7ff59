// Package strictyaml reads YAML into Go values and accepts nothing it was not told about: an unknown or
// duplicate key, a wrong type, an anchor, an alias, a tag or a second document is an error that names
// file, line and column.
//
// Struct fields are named by their `yaml` tag; a field tagged `,required` must be present. Supported
// kinds: structs and pointers to them, slices, string, bool, int, int64, uint64, []string, and
// json.RawMessage, which takes any value as JSON.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits on a document.
const (
	MaxSize  = 1 << 20 // bytes
	maxDepth = 32
)

// An Error is a mistake at a place of a file.
type Error struct {
	File         string
	Line, Column int // from 1; 0 when unknown
	Msg          string
}

// Error is the message behind file, line and column; without a line, behind the file.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

type decoder struct {
	file string
	root *yaml.Node
}

// Unmarshal reads the one document of data into v, a pointer. name stands in error messages.
func Unmarshal(data []byte, name string, v any) error {
	d, err := parse(data, name)
	if err != nil {
		return err
	}
	return d.value(d.root, reflect.ValueOf(v).Elem(), "document")
}

func parse(data []byte, name string) (*decoder, error) {
	d := &decoder{file: name}
	if len(data) > MaxSize {
		return nil, &Error{File: name, Msg: fmt.Sprintf("%d bytes, want at most %d", len(data), MaxSize)}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, &Error{File: name, Msg: "empty document"}
	} else if err != nil {
		return nil, &Error{File: name, Msg: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &Error{File: name, Msg: "more than one document"}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &Error{File: name, Msg: "empty document"}
	}
	d.root = doc.Content[0]
	return d, d.plain(d.root, 0)
}

// plain refuses what makes YAML ambiguous, and duplicate keys, anywhere in the document.
func (d *decoder) plain(n *yaml.Node, depth int) error {
	switch {
	case depth > maxDepth:
		return d.errorf(n, "nested deeper than %d", maxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return d.errorf(n, "anchors and aliases are not allowed")
	case n.Style&yaml.TaggedStyle != 0:
		return d.errorf(n, "tags are not allowed")
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]int{}
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str" {
				return d.errorf(k, "key %q: want a plain word", k.Value)
			}
			if line, twice := seen[k.Value]; twice {
				return d.errorf(k, "key %q twice (first on line %d)", k.Value, line)
			}
			seen[k.Value] = k.Line
		}
	}
	for _, c := range n.Content {
		if err := d.plain(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) errorf(n *yaml.Node, format string, args ...any) error {
	return &Error{File: d.file, Line: n.Line, Column: n.Column, Msg: fmt.Sprintf(format, args...)}
}

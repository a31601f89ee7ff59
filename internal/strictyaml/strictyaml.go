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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
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

// Positions are where each key of a document stands, by its dotted path, e.g. "root.0.go.module".
// They let a caller put a place to errors it finds itself.
type Positions map[string][2]int

// Locate returns the position of every value in data.
func Locate(data []byte, name string) (Positions, error) {
	d, err := parse(data, name)
	if err != nil {
		return nil, err
	}
	p := Positions{}
	p.walk(d.root, "")
	return p, nil
}

func (p Positions) walk(n *yaml.Node, path string) {
	p[path] = [2]int{n.Line, n.Column}
	join := func(s string) string { return strings.TrimPrefix(path+"."+s, ".") }
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			p.walk(n.Content[i+1], join(n.Content[i].Value))
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			p.walk(c, join(strconv.Itoa(i)))
		}
	}
}

// Error returns an error at the place of path, or of the nearest enclosing value.
func (p Positions) Error(file, path, format string, args ...any) error {
	e := &Error{File: file, Msg: fmt.Sprintf(format, args...)}
	for {
		if at, ok := p[path]; ok {
			e.Line, e.Column = at[0], at[1]
			return e
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			i = 0
		}
		if path == "" {
			return e
		}
		path = path[:i]
	}
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

var rawMessage = reflect.TypeFor[json.RawMessage]()

func (d *decoder) value(n *yaml.Node, v reflect.Value, what string) error {
	if v.Type() == rawMessage {
		j, err := d.json(n)
		if err != nil {
			return err
		}
		v.SetBytes(j)
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(n, v.Elem(), what)
	case reflect.Struct:
		return d.mapping(n, v, what)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return d.errorf(n, "%s: want a list", what)
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			if err := d.value(c, v.Index(i), fmt.Sprintf("%s[%d]", what, i)); err != nil {
				return err
			}
		}
		return nil
	}
	return d.scalar(n, v, what)
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, what string) error {
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, "%s: want keys and values", what)
	}
	fields := map[string]int{}
	required := map[string]bool{}
	var names []string
	for i := range v.NumField() {
		name, opt, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields[name], required[name] = i, opt == "required"
		names = append(names, name)
	}
	for i := 0; i < len(n.Content); i += 2 {
		k := n.Content[i]
		f, ok := fields[k.Value]
		if !ok {
			return d.errorf(k, "unknown key %q, want one of %s", k.Value, strings.Join(names, ", "))
		}
		delete(required, k.Value)
		if err := d.value(n.Content[i+1], v.Field(f), k.Value); err != nil {
			return err
		}
	}
	for _, name := range names {
		if required[name] {
			return d.errorf(n, "%s: key %q is missing", what, name)
		}
	}
	return nil
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, what string) error {
	tag := n.ShortTag()
	switch {
	case n.Kind != yaml.ScalarNode:
		return d.errorf(n, "%s: want one value", what)
	case v.Kind() == reflect.String:
		if tag != "!!str" {
			return d.errorf(n, "%s: want a string: put %q in quotes", what, n.Value)
		}
		v.SetString(n.Value)
		return nil
	case v.Kind() == reflect.Bool:
		if tag != "!!bool" {
			return d.errorf(n, "%s: want true or false", what)
		}
		v.SetBool(n.Value == "true")
		return nil
	}
	if tag != "!!int" {
		return d.errorf(n, "%s: want a whole number", what)
	}
	if err := setInt(v, n.Value); err != nil {
		return d.errorf(n, "%s: %v", what, err)
	}
	return nil
}

func setInt(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return errors.New("want a whole number within 64 bits")
		}
		v.SetInt(i)
	case reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(text, 0, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("want a whole number within %d bits, not negative", v.Type().Bits())
		}
		v.SetUint(u)
	default:
		return fmt.Errorf("unsupported kind %s", v.Kind())
	}
	return nil
}

// json returns n as JSON: strings, whole numbers, booleans, lists and objects with sorted keys.
func (d *decoder) json(n *yaml.Node) ([]byte, error) {
	v, err := d.generic(n)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (d *decoder) generic(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			v, err := d.generic(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[n.Content[i].Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		l := []any{}
		for _, c := range n.Content {
			v, err := d.generic(c)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		return l, nil
	}
	switch n.ShortTag() {
	case "!!str":
		return n.Value, nil
	case "!!bool":
		return n.Value == "true", nil
	case "!!int":
		u, err := strconv.ParseUint(n.Value, 0, 64)
		if err != nil {
			return nil, d.errorf(n, "%s: want a whole number within 64 bits, not negative", n.Value)
		}
		return u, nil
	}
	return nil, d.errorf(n, "value %q: want a string, whole number, true or false", n.Value)
}

// ToJSON returns the one document of data, of any shape, as JSON.
func ToJSON(data []byte, name string) ([]byte, error) {
	d, err := parse(data, name)
	if err != nil {
		return nil, err
	}
	return d.json(d.root)
}

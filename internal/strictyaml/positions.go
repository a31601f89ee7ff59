package strictyaml

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

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

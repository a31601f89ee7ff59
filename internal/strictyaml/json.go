package strictyaml

import (
	"encoding/json"
	"strconv"

	"go.yaml.in/yaml/v3"
)

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
		if b, ok := boolean(n); ok {
			return b, nil
		}
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

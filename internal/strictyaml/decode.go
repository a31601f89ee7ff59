package strictyaml

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

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
		b, ok := boolean(n)
		if !ok {
			return d.errorf(n, "%s: want true or false", what)
		}
		v.SetBool(b)
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

// boolean reads true or false in the one spelling of each: YAML has True and TRUE too, which must not pass for false.
func boolean(n *yaml.Node) (value, ok bool) {
	return n.Value == "true", n.ShortTag() == "!!bool" && (n.Value == "true" || n.Value == "false")
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

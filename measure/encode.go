package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Marshal returns the one form of rv: indented JSON with a trailing newline.
func (rv *ReferenceValues) Marshal() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(rv); err != nil {
		return nil, fmt.Errorf("reference values: %w", err)
	}
	return b.Bytes(), nil
}

// Parse reads reference values and accepts only what Marshal writes, with values that follow from their
// own inputs.
func Parse(data []byte) (*ReferenceValues, error) {
	if len(data) > maxValues {
		return nil, fmt.Errorf("reference values: %d bytes, want at most %d", len(data), maxValues)
	}
	rv := new(ReferenceValues)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(rv); err != nil {
		return nil, fmt.Errorf("reference values: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reference values: data after the object")
	}
	if rv.Schema != Schema {
		return nil, fmt.Errorf("reference values: schema %.64q, want %q", rv.Schema, Schema)
	}
	if len(rv.Values) == 0 {
		return nil, errors.New("reference values: no values")
	}
	again, err := rv.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("reference values: not in the form tally writes (keys, order or spacing were changed)")
	}
	if err := rv.Recompute(); err != nil {
		return nil, fmt.Errorf("reference values: %w", err)
	}
	return rv, nil
}

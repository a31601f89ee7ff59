package release

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A kind is a kind of statement that is signed.
type kind struct {
	name string // in messages
	typ  string // its predicate type
	max  int    // bytes
}

var (
	releases = kind{"statement", PredicateType, MaxStatement}
	channels = kind{"channel statement", ChannelType, MaxChannel}
	rebuilds = kind{"rebuild statement", RebuildType, MaxRebuild}
)

// A statement knows whether it is in order, and how it is written.
type statement interface {
	check() error
	Marshal() ([]byte, error)
}

// marshal returns the one form of s, whose lists are sorted: compact JSON, no trailing newline.
func (k kind) marshal(s statement) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	b, err := marshalCompact(s)
	if err == nil && len(b) > k.max {
		err = fmt.Errorf("%d bytes, want at most %d", len(b), k.max)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	return b, nil
}

// parse reads data into s and accepts only the bytes that Marshal writes, so that no two readers can understand one
// signed payload differently.
func (k kind) parse(data []byte, s statement) error {
	if len(data) > k.max {
		return fmt.Errorf("%s: %d bytes, want at most %d", k.name, len(data), k.max)
	}
	if err := checkType(data, k.typ); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	if err := unmarshalStrict(data, s); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	again, err := s.Marshal()
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%s: not in the one form that tally writes (keys, order or spacing differ)", k.name)
	}
	return nil
}

// checkType gives a foreign statement its own message before the strict decoder stumbles over its predicate.
func checkType(data []byte, want string) error {
	var head struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if head.Type != StatementType {
		return fmt.Errorf("_type %.80q, want %q", head.Type, StatementType)
	}
	if head.PredicateType != want {
		return fmt.Errorf("predicateType %.80q, want %q", head.PredicateType, want)
	}
	return nil
}

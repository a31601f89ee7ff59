package release

import (
	"slices"
	"strings"
)

const maxWire = 32 // bytes of a name

// wireName reports whether s can name a protocol.
func wireName(s string) bool {
	return s != "" && len(s) <= maxWire && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// verifyWires says by which protocols beside tally/1 the released enclave is reached. What a client of tally/1 has checked of
// it says nothing of what others tell it there, and they have checked less: it is for the policy to want none.
func (r *Result) verifyWires(s *Statement, p *Policy) *Error {
	wires := s.Predicate.Wires
	switch {
	case len(wires) == 0:
		return nil
	case p.RefuseWires:
		return refuse(OtherWires, "the enclave is reached by %s, too, and the policy refuses other wires than tally/1", strings.Join(wires, ", "))
	}
	r.unchecked("wires", "the enclave is reached by "+strings.Join(wires, ", ")+", too: who talks to it there has less to check it with")
	return nil
}

// CheckWires holds what a statement says of wires against the configuration of a rebuild.
func (s *Statement) CheckWires(rebuilt []string) error {
	if slices.Equal(s.Predicate.Wires, rebuilt) {
		return nil
	}
	return refuse(BadStatement, "it says of other wires %q, and the image's configuration has %q", s.Predicate.Wires, rebuilt)
}

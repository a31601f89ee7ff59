package secrets

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// tag separates what is signed here from everything else that a key signs.
const tag = "tally/1 secrets"

// Sizes, in bytes.
const (
	saltSize     = 32
	headSize     = 2 + 32 + 32 + 1
	maxSignature = 72 // of ECDSA on P-256 in DER
	maxContents  = saltSize + 1 + MaxSecrets*(1+MaxName+4) + MaxTotal
)

// Start is how a message and its answer begin. No head of a request or answer has this length (package infer).
var Start = [2]byte{0xff, 0xff}

// Signed is what the operator's key signs (ECDSA on P-256 over its SHA-256): the tag, the session, the static
// key and the SHA-256 of the contents, each with its length in front.
func Signed(s Session, contents []byte) []byte {
	sum := sha256.Sum256(contents)
	b := lp16(nil, []byte(tag))
	b = lp16(b, s.Handshake[:])
	b = lp16(b, s.Static[:])
	return lp16(b, sum[:])
}

func lp16(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// Message makes the message for one session. sign gets Signed's bytes and returns ECDSA over their SHA-256 in
// ASN.1 DER; it learns nothing about the values, which 32 bytes of random salt. The message holds the values:
// whoever has sent it clears it.
func Message(s Session, list []Secret, random io.Reader, sign func(message []byte) ([]byte, error)) ([]byte, error) {
	size, err := check(list)
	if err != nil {
		return nil, err
	}
	list = slices.SortedFunc(slices.Values(list), func(a, b Secret) int { return cmp.Compare(a.Name, b.Name) })
	contents := make([]byte, saltSize, size) // of the final size: growing would leave copies
	defer func() { clear(contents) }()
	if _, err := io.ReadFull(random, contents); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	contents = append(contents, byte(len(list)))
	for i, e := range list {
		if i > 0 && list[i-1].Name == e.Name {
			return nil, fmt.Errorf("secrets: %s twice", e.Name)
		}
		contents = append(append(contents, byte(len(e.Name))), e.Name...)
		contents = append(binary.BigEndian.AppendUint32(contents, uint32(len(e.Value))), e.Value...)
	}
	signature, err := sign(Signed(s, contents))
	if err != nil {
		return nil, fmt.Errorf("secrets: signing: %w", err)
	}
	if len(signature) == 0 || len(signature) > maxSignature {
		return nil, fmt.Errorf("secrets: a signature of %d bytes, want 1 to %d", len(signature), maxSignature)
	}
	return frame(s, signature, contents), nil
}

// check holds the list to the limits and returns the length of the contents.
func check(list []Secret) (size int, err error) {
	if len(list) == 0 || len(list) > MaxSecrets {
		return 0, fmt.Errorf("secrets: %d, want 1 to %d", len(list), MaxSecrets)
	}
	size, total := saltSize+1, 0
	for _, e := range list {
		if err := CheckName(e.Name); err != nil {
			return 0, err
		}
		if len(e.Value) == 0 || len(e.Value) > MaxValue {
			return 0, fmt.Errorf("secret %s: %d bytes, want 1 to %d", e.Name, len(e.Value), MaxValue)
		}
		size += 1 + len(e.Name) + 4 + len(e.Value)
		total += len(e.Value)
	}
	if total > MaxTotal {
		return 0, fmt.Errorf("secrets: %d bytes in all, want at most %d", total, MaxTotal)
	}
	return size, nil
}

func frame(s Session, signature, contents []byte) []byte {
	b := make([]byte, 0, headSize+len(signature)+len(contents))
	b = append(append(append(b, Start[:]...), s.Handshake[:]...), s.Static[:]...)
	b = append(append(b, byte(len(signature))), signature...)
	return append(b, contents...)
}

// An envelope is a message whose contents nobody has looked at. It points into the message.
type envelope struct {
	session             Session
	signature, contents []byte
}

func open(b []byte) (e envelope, ok bool) {
	if len(b) < headSize || !bytes.HasPrefix(b, Start[:]) {
		return e, false
	}
	copy(e.session.Handshake[:], b[2:])
	copy(e.session.Static[:], b[34:])
	n := int(b[headSize-1])
	if n > maxSignature || len(b) < headSize+n {
		return e, false
	}
	e.signature, e.contents = b[headSize:headSize+n], b[headSize+n:]
	return e, true
}

// parse reads contents in the one form that Message writes. The values point into b.
func parse(b []byte) (list []Secret, ok bool) {
	if len(b) < saltSize+1 || len(b) > maxContents {
		return nil, false
	}
	n := int(b[saltSize])
	for b = b[saltSize+1:]; len(list) < n && len(b) > 0; {
		size := int(b[0])
		if b = b[1:]; len(b) < size+4 {
			return nil, false
		}
		name := string(b[:size])
		length := binary.BigEndian.Uint32(b[size:])
		if b = b[size+4:]; uint64(length) > uint64(len(b)) {
			return nil, false
		}
		if len(list) > 0 && list[len(list)-1].Name >= name {
			return nil, false
		}
		list, b = append(list, Secret{name, b[:length:length]}), b[length:]
	}
	if len(b) != 0 || len(list) != n {
		return nil, false
	}
	_, err := check(list)
	return list, err == nil
}

// Answer is how a code travels.
func (c Code) Answer() []byte { return append(Start[:2:2], byte(c)) }

// ReadAnswer returns nil when b says that the secrets were taken, a *RefusedError when it says another code, and
// ErrNotAsked when it is the answer of something else.
func ReadAnswer(b []byte) error {
	if len(b) != len(Start)+1 || !bytes.HasPrefix(b, Start[:]) {
		return ErrNotAsked
	}
	switch c := Code(b[len(Start)]); {
	case c == Taken:
		return nil
	case int(c) < len(words):
		return &RefusedError{c}
	}
	return errors.New("secrets: an answer that this version does not know")
}

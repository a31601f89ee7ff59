package once

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"testing"
)

// TestFeed: every digest is right, and each algorithm and view passes over the bytes once.
func TestFeed(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), smallest/16)
	tail := []byte("tail")
	s := new(Hashes)
	for range 3 {
		h := s.Feed(sha256.New(), "sha256", "", data, func(h hash.Hash) { h.Write(data) })
		h.Write(tail)
		want := sha256.Sum256(append(bytes.Clone(data), tail...))
		if !bytes.Equal(h.Sum(nil), want[:]) {
			t.Error("SHA-256 with a tail is wrong")
		}
		h = s.Feed(sha512.New384(), "sha384", "half", data, func(h hash.Hash) { h.Write(data[:len(data)/2]) })
		half := sha512.Sum384(data[:len(data)/2])
		if !bytes.Equal(h.Sum(nil), half[:]) {
			t.Error("SHA-384 of a view is wrong")
		}
	}
	if s.Fed("sha256") != int64(len(data)) || s.Fed("sha384") != int64(len(data)) {
		t.Errorf("fed %d and %d bytes, want %d each", s.Fed("sha256"), s.Fed("sha384"), len(data))
	}
	for _, s := range []*Hashes{nil, s} {
		h := s.Feed(sha256.New(), "sha256", "", tail, func(h hash.Hash) { h.Write(tail) })
		if want := sha256.Sum256(tail); !bytes.Equal(h.Sum(nil), want[:]) {
			t.Error("SHA-256 of a few bytes is wrong")
		}
	}
}

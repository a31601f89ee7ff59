// Package once passes over large bytes once for each algorithm, whatever number of platforms, shapes and registers
// wants a digest of them.
package once

import (
	"hash"
	"sync"
)

// smallest is the number of bytes from which a pass is worth remembering.
const smallest = 64 << 10

// Hashes are the states that hashes had behind bytes in memory. The bytes must not change while it is in use. A
// nil Hashes remembers nothing.
type Hashes struct {
	mu    sync.Mutex
	known map[key]hash.Cloner
	fed   map[string]int64
}

// A key names bytes by where they lie.
type key struct {
	first     *byte
	size      int
	algorithm string
	view      string
}

// Feed brings h, a hash without data, to the state behind data: by feed, or by what an earlier call computed. algorithm
// names h; view names what of data feed takes, such as "" for all.
func (s *Hashes) Feed(h hash.Hash, algorithm, view string, data []byte, feed func(hash.Hash)) hash.Hash {
	cloner, ok := h.(hash.Cloner)
	if s == nil || !ok || len(data) < smallest {
		feed(h)
		return h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{&data[0], len(data), algorithm, view}
	state := s.known[k]
	if state == nil {
		feed(h)
		state = cloner
		if s.known == nil {
			s.known, s.fed = map[key]hash.Cloner{}, map[string]int64{}
		}
		s.known[k] = state
		s.fed[algorithm] += int64(len(data))
	}
	c, err := state.Clone()
	if err != nil { // no hash of the standard library
		h.Reset()
		feed(h)
		return h
	}
	return c
}

// Fed is the number of large bytes that were passed over with an algorithm.
func (s *Hashes) Fed(algorithm string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fed[algorithm]
}

package deb

import (
	"cmp"
	"math/bits"
	"slices"
)

// sortLikeApt sorts all so that those come first for which less says so, and those between which it does not
// decide in the same order in which apt has them: that in which the sort of its library, GNU libstdc++, which
// is an introsort and not stable, leaves them. Apt takes broken packages of equal score in that order.
func sortLikeApt[T any](all []T, less func(a, b T) bool) {
	s := introsort[T]{all, less}
	if len(all) == 0 {
		return
	}
	s.loop(0, len(all), 2*(bits.Len(uint(len(all)))-1))
	s.insert(0, min(len(all), small))
	for i := small; i < len(all); i++ {
		s.sink(i)
	}
}

// small is the length below which parts are left to the insertion sort at the end.
const small = 16

type introsort[T any] struct {
	all  []T
	less func(a, b T) bool
}

// loop partitions all[from:to], the upper part first, until the parts are small or depth is used up.
func (s introsort[T]) loop(from, to, depth int) {
	for to-from > small {
		if depth == 0 {
			s.heap(s.all[from:to])
			return
		}
		depth--
		cut := s.partition(from, to)
		s.loop(cut, to, depth)
		to = cut
	}
}

// partition puts the median of three in front and splits the rest around it.
func (s introsort[T]) partition(from, to int) int {
	all := s.all
	m := s.median(from+1, from+(to-from)/2, to-1)
	all[from], all[m] = all[m], all[from]
	pivot := all[from]
	low, high := from+1, to
	for {
		for s.less(all[low], pivot) {
			low++
		}
		high--
		for s.less(pivot, all[high]) {
			high--
		}
		if low >= high {
			return low
		}
		all[low], all[high] = all[high], all[low]
		low++
	}
}

func (s introsort[T]) median(a, b, c int) int {
	less := func(i, j int) bool { return s.less(s.all[i], s.all[j]) }
	if less(a, b) {
		if less(b, c) {
			return b
		}
		if less(a, c) {
			return c
		}
		return a
	}
	if less(a, c) {
		return a
	}
	if less(b, c) {
		return c
	}
	return b
}

// insert sorts all[from:to] by insertion.
func (s introsort[T]) insert(from, to int) {
	for i := from + 1; i < to; i++ {
		if v := s.all[i]; s.less(v, s.all[from]) {
			copy(s.all[from+1:i+1], s.all[from:i])
			s.all[from] = v
		} else {
			s.sink(i)
		}
	}
}

// sink moves all[i] down to its place; something before it is not greater.
func (s introsort[T]) sink(i int) {
	v := s.all[i]
	for ; s.less(v, s.all[i-1]); i-- {
		s.all[i] = s.all[i-1]
	}
	s.all[i] = v
}

// heap sorts a part on a heap.
func (s introsort[T]) heap(part []T) {
	s.heapify(part)
	for end := len(part) - 1; end > 0; end-- {
		v := part[end]
		part[end] = part[0]
		s.adjust(part[:end], 0, v)
	}
}

// heapify makes part a heap.
func (s introsort[T]) heapify(part []T) {
	for parent := (len(part) - 2) / 2; parent >= 0 && len(part) > 1; parent-- {
		s.adjust(part, parent, part[parent])
	}
}

// adjust fills the hole in a heap with v: down along the greater children to the bottom, then up again.
func (s introsort[T]) adjust(part []T, hole int, v T) {
	top, child := hole, hole
	for child < (len(part)-1)/2 {
		child = 2 * (child + 1)
		if s.less(part[child], part[child-1]) {
			child--
		}
		part[hole] = part[child]
		hole = child
	}
	if len(part)%2 == 0 && child == (len(part)-2)/2 {
		child = 2*child + 1
		part[hole] = part[child]
		hole = child
	}
	s.rise(part, hole, top, v)
}

// rise fills the hole with v, or one above it up to top.
func (s introsort[T]) rise(part []T, hole, top int, v T) {
	for parent := (hole - 1) / 2; hole > top && s.less(part[parent], v); parent = (hole - 1) / 2 {
		part[hole] = part[parent]
		hole = parent
	}
	part[hole] = v
}

// tableOrder sorts names as apt's table has them.
func tableOrder(names []*name) []*name {
	type place struct {
		hash uint32
		*name
	}
	all := make([]place, len(names))
	for i, n := range names {
		all[i] = place{tableHash(n.text), n}
	}
	slices.SortFunc(all, func(a, b place) int {
		if c := cmp.Compare(a.hash, b.hash); c != 0 {
			return c
		}
		return hashOrder(a.name, b.name)
	})
	sorted := make([]*name, len(names))
	for i, p := range all {
		sorted[i] = p.name
	}
	return sorted
}

// hashOrder compares two names as apt's table of them has them: by hash, then by length and text.
func hashOrder(a, b *name) int {
	return cmp.Or(cmp.Compare(tableHash(a.text), tableHash(b.text)), cmp.Compare(len(a.text), len(b.text)), cmp.Compare(a.text, b.text), cmp.Compare(a.id, b.id))
}

// tableHash is the place of a name in apt's table, of 196,613 lists.
func tableHash(text string) uint32 {
	h := uint32(5381)
	for i := range len(text) {
		h = 33*h + uint32(text[i]|0x20)
	}
	return h % 196613
}

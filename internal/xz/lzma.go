package xz

// The numbers of LZMA: states, lengths and the classes that probabilities are kept for.
const (
	states      = 12
	positions   = 16 // classes of positions, 1<<pb at most
	minMatch    = 2
	litStates   = 7 // states below follow a literal
	lenLow      = 8 // lengths with 3 bits, by position
	lenHigh     = 256
	lenClasses  = 4 // lengths 2, 3, 4 and more choose distances differently
	slots       = 64
	firstDirect = 4  // slots from here have extra bits
	firstAlign  = 14 // slots from here have aligned bits
	litSize     = 0x300
)

// A decoder decodes LZMA into a window.
type decoder struct {
	window []byte
	pos    int // where the next byte goes
	first  int // where the history begins
	far    int // how far back a match may reach

	lc             uint
	lpMask, pbMask uint32
	state          uint32
	rep            [4]uint32 // the last distances, less 1

	isMatch, isLong  [states][positions]prob
	isRep, isRep0    [states]prob
	isRep1, isRep2   [states]prob
	slot             [lenClasses][slots]prob
	special          [128]prob
	align            [16]prob
	matchLen, repLen lengths
	literals         [litSize << 4]prob
	rc               rangeDecoder
}

// lengths are the probabilities for the length of a match.
type lengths struct {
	choice, choice2 prob
	low, mid        [positions][lenLow]prob
	high            [lenHigh]prob
}

// properties takes lc, lp and pb; false when they are not possible.
func (d *decoder) properties(b byte) bool {
	lc, lp, pb := uint(b%9), uint(b/9%5), uint(b/45)
	if pb > 4 || lc+lp > 4 {
		return false
	}
	d.lc, d.lpMask, d.pbMask = lc, 1<<lp-1, 1<<pb-1
	return true
}

func (l *lengths) reset() {
	l.choice, l.choice2 = half, half
	for i := range l.low {
		fill(l.low[i][:])
		fill(l.mid[i][:])
	}
	fill(l.high[:])
}

func (d *decoder) resetState() {
	d.state, d.rep = 0, [4]uint32{}
	for i := range d.isMatch {
		fill(d.isMatch[i][:])
		fill(d.isLong[i][:])
	}
	for _, p := range []*[states]prob{&d.isRep, &d.isRep0, &d.isRep1, &d.isRep2} {
		fill(p[:])
	}
	for i := range d.slot {
		fill(d.slot[i][:])
	}
	fill(d.special[:])
	fill(d.align[:])
	d.matchLen.reset()
	d.repLen.reset()
	fill(d.literals[:litSize<<(d.lc+uint(popcount(d.lpMask)))])
}

func popcount(v uint32) (n int) {
	for ; v != 0; v &= v - 1 {
		n++
	}
	return n
}

// decode decodes size bytes of contents from the first n bytes of in; false when they are corrupt.
func (d *decoder) decode(in *[inSize]byte, n, size int) bool {
	if n < 5 || in[0] != 0 {
		return false
	}
	rc := &d.rc
	rc.start(in)
	for end := d.pos + size; d.pos < end; {
		if rc.ip > uint32(n) {
			return false // has read the zeros behind the chunk
		}
		position := uint32(d.pos-d.first) & d.pbMask
		if rc.bit(&d.isMatch[d.state][position%positions]) == 0 {
			d.literal()
			continue
		}
		length := d.match(position)
		if length == 0 || !d.copyMatch(length, end) {
			return false
		}
	}
	rc.normalize()
	return rc.ip == uint32(n) && rc.code == 0
}

// literal decodes one byte.
func (d *decoder) literal() {
	var before byte
	if d.pos > d.first {
		before = d.window[d.pos-1]
	}
	class := (uint32(d.pos-d.first)&d.lpMask)<<d.lc + uint32(before)>>(8-d.lc)
	p := (*[litSize]prob)(d.literals[class*litSize:])
	if d.state < litStates {
		d.window[d.pos] = d.rc.literal(p)
	} else { // after a match: what stands where the match would go on is no guess, so it helps
		d.window[d.pos] = d.rc.unlike(p, d.window[d.pos-int(d.rep[0])-1])
	}
	d.pos++
	switch {
	case d.state < 4:
		d.state = 0
	case d.state < 10:
		d.state -= 3
	default:
		d.state -= 6
	}
}

// match decodes what a match is: its distance goes to rep[0], its length is returned.
func (d *decoder) match(position uint32) int {
	position %= positions
	rc, literalBefore := &d.rc, d.state < litStates
	if rc.bit(&d.isRep[d.state]) == 0 {
		length := rc.length(&d.matchLen, position)
		d.rep = [4]uint32{d.distance(length), d.rep[0], d.rep[1], d.rep[2]}
		d.state = after(literalBefore, 7, 10)
		return length
	}
	if rc.bit(&d.isRep0[d.state]) == 0 {
		if rc.bit(&d.isLong[d.state][position]) == 0 {
			d.state = after(literalBefore, 9, 11)
			return 1
		}
	} else if rc.bit(&d.isRep1[d.state]) == 0 {
		d.rep = [4]uint32{d.rep[1], d.rep[0], d.rep[2], d.rep[3]}
	} else if rc.bit(&d.isRep2[d.state]) == 0 {
		d.rep = [4]uint32{d.rep[2], d.rep[0], d.rep[1], d.rep[3]}
	} else {
		d.rep = [4]uint32{d.rep[3], d.rep[0], d.rep[1], d.rep[2]}
	}
	length := rc.length(&d.repLen, position)
	d.state = after(literalBefore, 8, 11)
	return length
}

func after(literalBefore bool, yes, no uint32) uint32 {
	if literalBefore {
		return yes
	}
	return no
}

func (rc *rangeDecoder) length(l *lengths, position uint32) int {
	if rc.bit(&l.choice) == 0 {
		return minMatch + int(rc.tree(l.low[position][:], 3))
	}
	if rc.bit(&l.choice2) == 0 {
		return minMatch + lenLow + int(rc.tree(l.mid[position][:], 3))
	}
	return minMatch + 2*lenLow + int(rc.tree(l.high[:], 8))
}

// distance decodes a distance, less 1.
func (d *decoder) distance(length int) uint32 {
	slot := d.rc.tree(d.slot[min(length-minMatch, lenClasses-1)][:], 6)
	if slot < firstDirect {
		return slot
	}
	bits := uint(slot>>1 - 1)
	base := (2 | slot&1) << bits
	if slot < firstAlign {
		return base + d.rc.reverse(d.special[base-slot:], bits)
	}
	return base + d.rc.direct(bits-4)<<4 + d.rc.reverse(d.align[:], 4)
}

// copyMatch repeats length bytes from rep[0]+1 bytes back; false when that is not in the history or goes over the
// end of the chunk.
func (d *decoder) copyMatch(length, end int) bool {
	if d.rep[0] >= uint32(min(d.far, d.pos-d.first)) || length > end-d.pos {
		return false
	}
	distance := int(d.rep[0]) + 1
	to, from := d.window[d.pos:d.pos+length], d.window[d.pos-distance:]
	if distance >= length {
		copy(to, from[:length])
	} else {
		for i := range to {
			to[i] = from[i]
		}
	}
	d.pos += length
	return true
}

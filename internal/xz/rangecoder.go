package xz

// A prob is the probability, of 2048, that a bit is 0.
type prob uint16

const (
	probBits = 11
	half     = prob(1 << probBits / 2)
	moves    = 5       // how slowly probabilities follow
	top      = 1 << 24 // the range is kept at least this wide

	pull = 1<<32 + 1<<moves - 1 - 1<<probBits // as uint32, 31 - 2048: see bit

	inSize = 1 << 17 // a power of two over maxPacked + margin: masked indexes need no check
	margin = 64      // zeros behind a chunk: more than one symbol reads
)

func fill(p []prob) {
	for i := range p {
		p[i] = half
	}
}

// A rangeDecoder decodes bits. Its methods work on copies of rng and code: they stay in registers.
type rangeDecoder struct {
	rng, code, ip uint32
	in            *[inSize]byte
}

// start reads the first five bytes, of which the first is 0.
func (rc *rangeDecoder) start(in *[inSize]byte) {
	rc.in, rc.ip, rc.rng = in, 5, 1<<32-1
	rc.code = uint32(in[1])<<24 | uint32(in[2])<<16 | uint32(in[3])<<8 | uint32(in[4])
}

func (rc *rangeDecoder) normalize() {
	if rc.rng < top {
		rc.rng <<= 8
		rc.code = rc.code<<8 | uint32(rc.in[rc.ip%inSize])
		rc.ip++
	}
}

// bit decodes one bit.
func (rc *rangeDecoder) bit(p *prob) uint32 {
	rng, code := rc.rng, rc.code
	if rng < top {
		rng <<= 8
		code = code<<8 | uint32(rc.in[rc.ip%inSize])
		rc.ip++
	}
	v := uint32(*p)
	bound := rng >> probBits * v
	if code < bound {
		rc.rng, rc.code = bound, code
		*p = prob(v + (1<<probBits-v)>>moves)
		return 0
	}
	rc.rng, rc.code = rng-bound, code-bound
	*p = prob(v - v>>moves)
	return 1
}

// literal decodes eight bits, the highest first.
func (rc *rangeDecoder) literal(p *[litSize]prob) byte {
	rng, code, ip := rc.rng, rc.code, rc.ip
	symbol := uint32(1)
	for symbol < 0x100 {
		if rng < top {
			rng <<= 8
			code = code<<8 | uint32(rc.in[ip%inSize])
			ip++
		}
		v := uint32(p[symbol])
		bound := rng >> probBits * v
		zero := uint32((int64(code) - int64(bound)) >> 63) // all ones when the bit is 0
		rng -= bound
		rng += zero & (bound - rng)
		code -= bound &^ zero
		p[symbol] = prob(v - uint32(int32(v+zero&pull)>>moves))
		symbol = symbol<<1 + 1 + zero
	}
	rc.rng, rc.code, rc.ip = rng, code, ip
	return byte(symbol)
}

// unlike decodes eight bits with other probabilities as long as they are those of guess.
func (rc *rangeDecoder) unlike(p *[litSize]prob, guess byte) byte {
	rng, code, ip := rc.rng, rc.code, rc.ip
	symbol, offset, g := uint32(1), uint32(0x100), uint32(guess)
	for symbol < 0x100 {
		if rng < top {
			rng <<= 8
			code = code<<8 | uint32(rc.in[ip%inSize])
			ip++
		}
		g <<= 1
		bit := g & offset
		i := offset + bit + symbol
		v := uint32(p[i])
		bound := rng >> probBits * v
		zero := uint32((int64(code) - int64(bound)) >> 63)
		rng -= bound
		rng += zero & (bound - rng)
		code -= bound &^ zero
		p[i] = prob(v - uint32(int32(v+zero&pull)>>moves))
		symbol = symbol<<1 + 1 + zero
		offset &= bit ^ zero
	}
	rc.rng, rc.code, rc.ip = rng, code, ip
	return byte(symbol)
}

// tree decodes a number of that many bits, the highest first.
func (rc *rangeDecoder) tree(p []prob, bits uint) uint32 {
	rng, code, ip := rc.rng, rc.code, rc.ip
	m := uint32(1)
	for range bits {
		if rng < top {
			rng <<= 8
			code = code<<8 | uint32(rc.in[ip%inSize])
			ip++
		}
		v := uint32(p[m])
		bound := rng >> probBits * v
		zero := uint32((int64(code) - int64(bound)) >> 63)
		rng -= bound
		rng += zero & (bound - rng)
		code -= bound &^ zero
		p[m] = prob(v - uint32(int32(v+zero&pull)>>moves))
		m = m<<1 + 1 + zero
	}
	rc.rng, rc.code, rc.ip = rng, code, ip
	return m - 1<<bits
}

// reverse decodes a number of that many bits, the lowest first.
func (rc *rangeDecoder) reverse(p []prob, bits uint) (v uint32) {
	m := uint32(1)
	for i := range bits {
		b := rc.bit(&p[m])
		m = m<<1 | b
		v |= b << i
	}
	return v
}

// direct decodes a number of that many even bits, the highest first.
func (rc *rangeDecoder) direct(bits uint) (v uint32) {
	for range bits {
		rc.normalize()
		rc.rng >>= 1
		rc.code -= rc.rng
		t := -(rc.code >> 31) // all ones when the bit is 0
		rc.code += rc.rng & t
		v = v<<1 + t + 1
	}
	return v
}

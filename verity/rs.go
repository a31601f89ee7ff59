package verity

import (
	"encoding/binary"
	"errors"
)

// The code of dm-verity's error correction: Reed-Solomon RS(255, 255-roots) over GF(2^8) with the
// polynomial x^8+x^4+x^3+x^2+1, whose generator has the roots α^0 … α^(roots-1). The first byte of a
// codeword is the coefficient of x^254, the parity is its last bytes.
const rsLength = 255

// gf are the powers of α, twice over, so that a sum of two logarithms needs no modulus, and the
// logarithms; the logarithm of 0 is not used.
var gf = func() (t struct {
	exp [2 * rsLength]byte
	log [256]int
}) {
	x := 1
	for i := range rsLength {
		t.exp[i], t.exp[i+rsLength] = byte(x), byte(x)
		t.log[x] = i
		if x <<= 1; x > 255 {
			x ^= 0x11d
		}
	}
	return t
}()

func gfMul(a, b byte) byte {
	if a == 0 || b == 0 {
		return 0
	}
	return gf.exp[gf.log[a]+gf.log[b]]
}

// gfDiv wants b other than 0.
func gfDiv(a, b byte) byte {
	if a == 0 {
		return 0
	}
	return gf.exp[gf.log[a]+rsLength-gf.log[b]]
}

// polyEval evaluates p, lowest coefficient first, at x.
func polyEval(p []byte, x byte) (y byte) {
	for i := len(p) - 1; i >= 0; i-- {
		y = gfMul(y, x) ^ p[i]
	}
	return y
}

// polyMul multiplies two polynomials, lowest coefficient first, and keeps the first n coefficients.
func polyMul(a, b []byte, n int) []byte {
	out := make([]byte, n)
	for i, x := range a {
		for j, y := range b {
			if i+j < n {
				out[i+j] ^= gfMul(x, y)
			}
		}
	}
	return out
}

// A rsEncoder divides by the generator, many codewords side by side. The remainder of one codeword is up
// to three words of eight bytes, the next byte to leave on top; table[w][b] is what a leaving byte b adds
// to word w.
type rsEncoder struct {
	roots, words int
	table        [3][256]uint64
}

func newRSEncoder(roots int) *rsEncoder {
	g := []byte{1} // of the generator, highest coefficient first
	for i := range roots {
		next := append(g, 0)
		for j := len(g); j > 0; j-- {
			next[j] ^= gfMul(next[j-1], gf.exp[i])
		}
		g = next
	}
	e := &rsEncoder{roots: roots, words: (roots + 7) / 8}
	for b := range 256 {
		var row [24]byte
		for j := range roots {
			row[j] = gfMul(byte(b), g[j+1])
		}
		for w := range e.words {
			e.table[w][b] = binary.BigEndian.Uint64(row[8*w:])
		}
	}
	return e
}

// add takes the next byte of len(row) codewords; state has e.words words for each.
func (e *rsEncoder) add(state []uint64, row []byte) {
	switch t := &e.table; e.words {
	case 1:
		state = state[:len(row)]
		for i, b := range row {
			s := state[i]
			state[i] = s<<8 ^ t[0][b^byte(s>>56)]
		}
	case 2:
		for i, b := range row {
			s := state[2*i:][:2]
			k := b ^ byte(s[0]>>56)
			s[0] = s[0]<<8 ^ s[1]>>56 ^ t[0][k]
			s[1] = s[1]<<8 ^ t[1][k]
		}
	default:
		for i, b := range row {
			s := state[3*i:][:3]
			k := b ^ byte(s[0]>>56)
			s[0] = s[0]<<8 ^ s[1]>>56 ^ t[0][k]
			s[1] = s[1]<<8 ^ s[2]>>56 ^ t[1][k]
			s[2] = s[2]<<8 ^ t[2][k]
		}
	}
}

// parity appends the parity of each codeword to dst.
func (e *rsEncoder) parity(dst []byte, state []uint64) []byte {
	var b [24]byte
	for ; len(state) > 0; state = state[e.words:] {
		for w := range e.words {
			binary.BigEndian.PutUint64(b[8*w:], state[w])
		}
		dst = append(dst, b[:e.roots]...)
	}
	return dst
}

// errTooManyErrors means that no codeword is near enough.
var errTooManyErrors = errors.New("more errors than the parity can correct")

// An rsError is a byte of a codeword that is wrong, and what to add to it.
type rsError struct {
	at  int // 0 is the first byte
	add byte
}

// rsSyndromes are those of a word whose parity differs by diff from that of its data: the data with its
// own parity is a codeword and adds nothing.
func rsSyndromes(diff []byte) []byte {
	s := make([]byte, len(diff))
	for j := range s {
		for _, d := range diff {
			s[j] = gfMul(s[j], gf.exp[j]) ^ d
		}
	}
	return s
}

// rsDecode finds the errors behind syndromes that are not all zero. Errors are allowed at the erasures
// (byte numbers), and at half as many more places as there are syndromes left over. The method
// is Berlekamp and Massey's, started with the erasures, then Forney's.
func rsDecode(s []byte, erasures []int) ([]rsError, error) {
	roots, known := len(s), len(erasures)
	if known > roots {
		return nil, errTooManyErrors
	}
	locator := make([]byte, roots+1)
	locator[0] = 1
	for _, at := range erasures {
		x := gf.exp[rsLength-1-at]
		for j := roots; j > 0; j-- {
			locator[j] ^= gfMul(locator[j-1], x)
		}
	}
	locator, length := rsLocator(locator, s, known)
	if 2*(length-known) > roots-known {
		return nil, errTooManyErrors
	}
	found, places := rsValues(s, locator)
	if places != length || !rsExplains(s, found) {
		return nil, errTooManyErrors
	}
	return found, nil
}

// rsValues finds the places that the locator names, counts them, and works out what is wrong at each.
func rsValues(s, locator []byte) (found []rsError, places int) {
	values := polyMul(s, locator, len(s))
	var slope []byte // the derivative: in characteristic 2 the odd coefficients stay
	for j := 1; j < len(locator); j += 2 {
		slope = append(slope, locator[j], 0)
	}
	for at := range rsLength {
		x := gf.exp[rsLength-1-at]
		inverse := gf.exp[at+1] // α^-(254-at)
		if polyEval(locator, inverse) != 0 {
			continue
		}
		places++
		d := polyEval(slope, inverse)
		if d == 0 {
			return nil, 0 // a double root: no locator
		}
		if e := gfMul(x, gfDiv(polyEval(values, inverse), d)); e != 0 {
			found = append(found, rsError{at, e})
		}
	}
	return found, places
}

// rsLocator extends the erasures' locator to the shortest one that generates s, and says its length.
func rsLocator(locator, s []byte, known int) ([]byte, int) {
	length := known
	b := append([]byte(nil), locator...)
	for r := known + 1; r <= len(s); r++ {
		var discrepancy byte
		for j := range r {
			discrepancy ^= gfMul(locator[j], s[r-1-j])
		}
		copy(b[1:], b) // b·x
		b[0] = 0
		if discrepancy == 0 {
			continue
		}
		old := append([]byte(nil), locator...)
		for j := range locator {
			locator[j] ^= gfMul(discrepancy, b[j])
		}
		if 2*length <= r+known-1 {
			length = r + known - length
			for j := range b {
				b[j] = gfDiv(old[j], discrepancy)
			}
		}
	}
	return locator, length
}

// rsExplains says whether the errors have exactly these syndromes.
func rsExplains(s []byte, errs []rsError) bool {
	for j := range s {
		var sum byte
		for _, e := range errs {
			sum ^= gfMul(e.add, gf.exp[(rsLength-1-e.at)*j%rsLength])
		}
		if sum != s[j] {
			return false
		}
	}
	return true
}

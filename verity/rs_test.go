package verity

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRSDecode corrupts codewords within what the code can correct, at known and unknown places, and
// beyond it.
func TestRSDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(*propertySeed, 2))
	for range 3000 {
		roots := MinFECRoots + r.IntN(MaxFECRoots-MinFECRoots+1)
		enc := newRSEncoder(roots)
		word := make([]byte, rsLength-roots)
		state := make([]uint64, enc.words)
		for i := range word {
			word[i] = byte(r.Uint32())
			enc.add(state, word[i:i+1])
		}
		word = enc.parity(word, state)
		bad := bytes.Clone(word)
		erased := r.IntN(roots + 1)
		unknown := (roots - erased) / 2
		places := r.Perm(rsLength)[:erased+unknown]
		for _, at := range places {
			bad[at] ^= byte(r.Uint32()) // at a known place it may be right
		}
		got, err := correct(enc, bad, places[:erased])
		if err != nil || !bytes.Equal(got, word) {
			t.Fatalf("%d roots, %d known and %d unknown errors: not corrected (%v)", roots, erased, unknown, err)
		}
	}
}

// correct decodes a word as repairer.columns does.
func correct(enc *rsEncoder, word []byte, erasures []int) ([]byte, error) {
	n := rsLength - enc.roots
	state := make([]uint64, enc.words)
	for i := range word[:n] {
		enc.add(state, word[i:i+1])
	}
	diff := enc.parity(nil, state)
	for i := range diff {
		diff[i] ^= word[n+i]
	}
	if allZero(diff) {
		return word, nil
	}
	errs, err := rsDecode(rsSyndromes(diff), erasures)
	out := bytes.Clone(word)
	for _, e := range errs {
		out[e.at] ^= e.add
	}
	return out, err
}

// TestRSBeyondReach: with more errors than it can correct the decoder says so, or finds another
// codeword, but never something that is none.
func TestRSBeyondReach(t *testing.T) {
	r := rand.New(rand.NewPCG(*propertySeed, 3))
	refused := 0
	for range 500 {
		roots := MinFECRoots + r.IntN(MaxFECRoots-MinFECRoots+1)
		enc := newRSEncoder(roots)
		word := make([]byte, rsLength) // a codeword
		places := r.Perm(rsLength)[:roots/2+1+r.IntN(roots)]
		for _, at := range places {
			word[at] = 1 + byte(r.IntN(255))
		}
		got, err := correct(enc, word, nil)
		if err != nil {
			refused++
		} else if again, err := correct(enc, got, nil); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%d roots: corrected to no codeword", roots)
		}
	}
	if refused < 250 {
		t.Errorf("refused %d of 500", refused)
	}
	if _, err := rsDecode([]byte{1, 2}, []int{0, 1, 2}); err != errTooManyErrors {
		t.Errorf("three erasures for two syndromes: %v", err)
	}
}

func FuzzRSDecode(f *testing.F) {
	f.Add([]byte{1, 2}, []byte{3})
	f.Add(make([]byte, 24), []byte{0, 254, 7})
	f.Fuzz(func(t *testing.T, s, at []byte) {
		if len(s) < MinFECRoots || len(s) > MaxFECRoots {
			return
		}
		var erasures []int
		for _, a := range at {
			if int(a) < rsLength && !slices.Contains(erasures, int(a)) {
				erasures = append(erasures, int(a))
			}
		}
		errs, err := rsDecode(s, erasures)
		if err == nil && !rsExplains(s, errs) {
			t.Error("errors that do not explain the syndromes")
		}
	})
}

package release_test

import (
	"testing"

	"tally/release"
	rt "tally/release/releasetest"
)

// BenchmarkVerify is one bundle, checked as a client does.
func BenchmarkVerify(b *testing.B) {
	w := rt.New(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := release.Verify(w.Bundle, w.Policy, rt.Now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyRebuilders is a release with a channel statement and three rebuilds, of which the policy wants two.
func BenchmarkVerifyRebuilders(b *testing.B) {
	w, _, _ := channelWorld(b)
	file := join(w.Bundle, w.Channel(b, w.Key, w.Predicate(b, 1, w.Bundle)))
	w.Policy.Rebuilders.Need = 2
	for range 3 {
		k := rt.Key(b)
		file = join(file, w.Rebuild(b, k, w.Bundle, nil))
		w.Policy.Rebuilders.Keys = append(w.Policy.Rebuilders.Keys, release.Signer{Key: k.Public()})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := release.Verify(file, w.Policy, rt.Now); err != nil {
			b.Fatal(err)
		}
	}
}

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

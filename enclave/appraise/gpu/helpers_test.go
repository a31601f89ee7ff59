package gpu_test

import (
	"os"
	"testing"

	. "tally/enclave/appraise/gpu"
)

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/" + name)
	fatal(t, err)
	return b
}

func vectorRIM(t testing.TB, name string) *RIM {
	t.Helper()
	r, err := ParseRIM(vector(t, name))
	fatal(t, err)
	return r
}

func vectorEvidence(t testing.TB, report, chain string) []Device {
	t.Helper()
	all, err := ParseEvidence(vector(t, report), vector(t, chain))
	fatal(t, err)
	return all
}

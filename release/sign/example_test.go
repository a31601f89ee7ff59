package sign_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// The worked example beside package release is about the small output of the tests, image included: its digests are
// those of bytes that can be made again.
func TestExample(t *testing.T) {
	dir := rt.Out(t)
	if err := sign.WriteOCI(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	out, err := sign.ReadOut(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	made, err := out.Statement(sign.Options{Sequence: 3})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../statement.example.json")
	if err != nil {
		t.Fatal(err)
	}
	var example release.Statement
	if err := json.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(made.Subject, func(a, b release.Subject) int { return strings.Compare(a.Name, b.Name) })
	if d := cmp.Diff(made.Subject, example.Subject); d != "" {
		t.Errorf("subjects made (-) and in the example (+):\n%s", d)
	}
	if d := cmp.Diff(made.Predicate.Artifacts, example.Predicate.Artifacts); d != "" {
		t.Errorf("artifacts made (-) and in the example (+):\n%s", d)
	}
}

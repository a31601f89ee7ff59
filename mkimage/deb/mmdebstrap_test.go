package deb

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMmdebstrap103 holds our choice against a recorded one of mmdebstrap: see SOURCE beside it.
func TestMmdebstrap103(t *testing.T) {
	const dir = "testdata/vectors/mmdebstrap103/"
	index, err := os.ReadFile(dir + "Packages")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(dir + "packages.txt")
	if err != nil {
		t.Fatal(err)
	}
	ps, err := ParseIndex(bytes.NewReader(index))
	if err != nil {
		t.Fatal(err)
	}
	r := NewResolver(ps, "amd64", level)
	got, err := r.Resolve(slices.Concat(r.Base(), []string{"apt", "systemd", "systemd-sysv", "dbus", "linux-image-cloud-amd64"}))
	if err != nil {
		t.Fatal(err)
	}
	closed(t, got)
	want := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(list), " ", "=")), "\n")
	slices.Sort(want)
	if d := cmp.Diff(want, render(got)); d != "" || len(want) != 103 {
		t.Errorf("%d packages (-mmdebstrap +tally):\n%s", len(want), d)
	}
}

package lock

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	a, b := sample(), sample()
	if d := Diff(a, b); d != nil {
		t.Errorf("equal locks: %+v", d)
	}
	b.Packages[0].Version = "1:3"
	b.Packages[0].SHA256 = Hash{0xff}
	b.Packages[1].Name = "new"
	b.Dirs = nil
	sum, zeros := Hash{0xff}.String(), Hash{4}.String()
	want := []Change{
		{"package", "new amd64", "added", []Field{{"version", "", "3"}, {"suite", "", "trixie"}, {"path", "", "pool/main/s/stub.deb"}, {"sha256", "", Hash{5}.String()}, {"size", "", "50"}, {"for", "", "stub"}}},
		{"package", "ovmf all", "changed", []Field{{"version", "1:2", "1:3"}, {"sha256", zeros, sum}}},
		{"package", "stub amd64", "removed", []Field{{"version", "3", ""}, {"suite", "trixie", ""}, {"path", "pool/main/s/stub.deb", ""}, {"sha256", Hash{5}.String(), ""}, {"size", "50", ""}, {"for", "stub", ""}}},
		{"dir", "rootfs", "removed", []Field{{"tree_sha256", Hash{7}.String(), ""}, {"entries", "2", ""}}},
	}
	if d := cmp.Diff(want, Diff(a, b)); d != "" {
		t.Error(d)
	}
	// Two versions of one package in one lock.
	b = sample()
	b.Packages = append(b.Packages, b.Packages[1])
	b.Packages[2].Version = "4"
	if d := Diff(a, b); len(d) != 1 || d[0].How != "added" || d[0].Fields[0].B != "4" {
		t.Errorf("second version: %+v", d)
	}
}

// TestDiffSeesEveryField changes every field of a lock in turn, however deep: none may go unseen.
func TestDiffSeesEveryField(t *testing.T) {
	n := 0
	full := func() *Lock {
		l := sample()
		s := &l.Suites[0]
		s.Dist, s.Keyring, s.Priority, s.Policy, s.ValidUntil = "stable", &Object{Hash{1}, 1}, 500, "enforce", "2026-09-12T10:00:00Z"
		return l
	}
	leaves(reflect.ValueOf(full()).Elem(), nil, func(path []int) {
		l := full()
		v := at(reflect.ValueOf(l).Elem(), path)
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Int, reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Uint8:
			v.SetUint(v.Uint() ^ 1)
		default:
			t.Fatalf("kind %s", v.Kind())
		}
		if n++; len(Diff(full(), l)) == 0 {
			t.Errorf("field %v: a change goes unseen", path)
		}
	})
	if n < 40 {
		t.Errorf("only %d fields", n)
	}
}

// leaves calls f with the path of every value below v: field and element numbers. Schema and digest, which
// every lock has by its content, are left out, and all but the first byte of a hash.
func leaves(v reflect.Value, path []int, f func(path []int)) {
	sub := func(i int) []int { return append(append([]int{}, path...), i) }
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Schema" && name != "Digest" {
				leaves(v.Field(i), sub(i), f)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			leaves(v.Index(i), sub(i), f)
		}
	case reflect.Array:
		leaves(v.Index(0), sub(0), f)
	case reflect.Pointer:
		leaves(v.Elem(), sub(0), f)
	default:
		f(path)
	}
}

func at(v reflect.Value, path []int) reflect.Value {
	for _, i := range path {
		switch v.Kind() {
		case reflect.Struct:
			v = v.Field(i)
		case reflect.Slice, reflect.Array:
			v = v.Index(i)
		case reflect.Pointer:
			v = v.Elem()
		}
	}
	return v
}

package deb

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestArRefusals: headers that are none, members without end and too many.
func TestArRefusals(t *testing.T) {
	good := arFile("a", []byte("odd"), "b", []byte("even"))
	if all, err := readAr(bytes.NewReader(good), int64(len(good))); err != nil || len(all) != 2 || all[0] != (member{"a", 68, 3}) || all[1] != (member{"b", 132, 4}) {
		t.Fatalf("%+v, %v", all, err)
	}
	var many []any
	for range maxMembers {
		many = append(many, "x", []byte{})
	}
	if all, err := readAr(bytes.NewReader(arFile(many...)), int64(len(arFile(many...)))); err != nil || len(all) != maxMembers {
		t.Errorf("%d members: %d, %v", maxMembers, len(all), err)
	}
	put := func(off int, text string) []byte { c := bytes.Clone(good); copy(c[off:], text); return c }
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"magic":     {put(0, "!<arck>"), "starts with"},
		"end":       {put(8+58, "x"), "malformed header at byte 8"},
		"end, half": {put(8+59, "x"), "malformed header at byte 8"},
		"negative":  {put(8+48, "-1"), "malformed header at byte 8"},
		"plus":      {put(8+48, "+3"), "malformed header at byte 8"},
		"hex":       {put(8+48, "0x3"), "malformed header at byte 8"},
		"huge":      {put(8+48, "9999999999"), "has 9999999999 bytes, 68 are there"},
		"by one":    {good[:len(good)-1], "has 4 bytes, 3 are there"},
		"header":    {good[:130], "truncated in the header at byte 72"},
		"many":      {arFile(append(many, "x", []byte{})...), "more than 16 members"},
	} {
		if all, err := readAr(bytes.NewReader(c.b), int64(len(c.b))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, all, err, c.want)
		}
	}
}

// TestStaleCache: a list that another reader wrote, or whose digest is cut, is made again, whatever its own sum says.
func TestStaleCache(t *testing.T) {
	path, sum := save(t, debFile(t, tarFile(t, sampleContents, sampleHeaders...)))
	cache := t.TempDir()
	if _, err := Unpack(t.Context(), path, sum, cache); err != nil {
		t.Fatal(err)
	}
	file := cached{cache, hex.EncodeToString(sum[:])}.list()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("hello"))
	for name, edit := range map[string][2]string{
		"version":  {fmt.Sprintf(`"Version":%d`, storedVersion), `"Version":1`},
		"digest":   {`"Digest":"` + base64.StdEncoding.EncodeToString(digest[:]), `"Digest":"` + base64.StdEncoding.EncodeToString(digest[:31])},
		"tar size": {`"TarSize":`, `"TarSize":1`},
	} {
		line, _, _ := strings.Cut(string(good), "\n")
		edited := strings.Replace(line, edit[0], edit[1], 1)
		if edited == line {
			t.Fatalf("%s: nothing to replace", name)
		}
		if err := os.WriteFile(file, fmt.Appendf(nil, "%s\n%x\n", edited, sha256.Sum256([]byte(edited))), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Cached(sum, cache); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want none", name, err)
		}
		a, err := Unpack(t.Context(), path, sum, cache)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(sampleList, list(t, a)); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
		if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, good) {
			t.Errorf("%s: the list was not made again (%v)", name, err)
		}
	}
}

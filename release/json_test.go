package release

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestStrictPlaces holds what messages say of the place, and that a long key above many values costs its length once:
// whoever is asked for a statement would otherwise keep a client busy for hours before any signature is looked at.
func TestStrictPlaces(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"a":2}`:                                     `key "a" twice`,
		`{"a":{"b":[1,{"c":1,"c":2}]}}`:                     `a.b[1]: key "c" twice`,
		`[[{"c":1,"c":2}]]`:                                 `[0][0]: key "c" twice`,
		`{"":{"c":1,"c":2}}`:                                `"": key "c" twice`,
		`{"a":{"\u001b[1m":[{"":1,"":2}]}}`:                 `a."\x1b[1m"[0]: key "" twice`,
		`{"` + strings.Repeat("k", 65) + `":{"c":1,"c":2}}`: `"` + strings.Repeat("k", 64) + `": key "c" twice`,
	} {
		var v json.RawMessage
		if err := unmarshalStrict([]byte(text), &v); err == nil || err.Error() != want {
			t.Errorf("%.80s: %v, want %s", text, err, want)
		}
	}
	doc := []byte(`{"` + strings.Repeat("k", 1<<16) + `":[0` + strings.Repeat(",0", 1<<12) + `]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var v json.RawMessage
	err := unmarshalStrict(doc, &v)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; err != nil || got > 64<<20 {
		t.Errorf("a key of 64 KiB above 4097 values: %v, %d bytes of memory", err, got)
	}
}

// A message is a line, however long the value is that it is about.
func TestStrictMessages(t *testing.T) {
	var v struct {
		N uint64    `json:"n"`
		T time.Time `json:"t"`
		D Digest    `json:"d"`
	}
	long := strings.Repeat("9", 1<<16)
	for text, want := range map[string]string{
		`{"n":` + long + `}`:   "n: a number 999999",
		`{"n":"` + long + `"}`: "n: a string is not a value here",
		`{"t":"` + long + `"}`: `parsing time "999`,
		`{"d":"` + long + `"}`: `digest "999`,
		`{"t":"1"}`:            `cannot parse`,
	} {
		if err := unmarshalStrict([]byte(text), &v); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 600 || strings.Contains(err.Error(), "…") != strings.Contains(want, `time "999`) {
			t.Errorf("%.20s: %.700v, want %s", text, err, want)
		}
	}
}

package log_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
)

// What Rekor has already is read from its tiles, where it says, or the error says why not. Its leaf is the envelope's
// and no other, whatever index is named.
func TestRekorHasIt(t *testing.T) {
	w := rt.New(t)
	b, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	status, index, answer := http.StatusConflict, "0", ""
	mux := http.NewServeMux()
	mux.Handle("GET /api/v2/", http.StripPrefix("/api/v2", log.Handler(w.LogDir)))
	mux.HandleFunc("POST /api/v2/log/entries", func(rw http.ResponseWriter, _ *http.Request) {
		if index != "" {
			rw.Header().Set("X-Log-Index", index)
		}
		rw.WriteHeader(status)
		io.WriteString(rw, answer)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	add := func(key release.LogKey) (*release.Entry, error) {
		t.Helper()
		r, err := log.OpenRekor(srv.URL, key, srv.Client())
		if err != nil {
			t.Fatal(err)
		}
		return r.Add(t.Context(), &b.Envelope, w.Key.Public())
	}
	refused := func(key release.LogKey, want string) {
		t.Helper()
		if e, err := add(key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("index %q: %+v, %v, want %q", index, e, err, want)
		}
	}
	w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
	if e, err := add(w.Log); err != nil || e.Index != 0 || e.TreeSize != 2 || len(e.Proof) != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	for at, want := range map[string]string{
		"": `says at index ""`, "x": `says at index "x"`, "-1": `says at index "-1"`, "9223372036854775808": `says at index "9223372036854775808"`,
		strings.Repeat("x", 50): `says at index "` + strings.Repeat("x", 40) + `"`,
		"1":                     " at index 1: invalid transparency proof", "2": "at index 2 of 2", "3": "at index 3 of 2",
	} {
		index = at
		refused(w.Log, want)
	}
	index = "0"
	refused(rt.New(t).Log, "verif") // another log's checkpoint
	for _, gone := range []string{"tile/0/000.p/2", log.CheckpointFile} {
		if err := os.Remove(filepath.Join(w.LogDir, filepath.FromSlash(gone))); err != nil {
			t.Fatal(err)
		}
		refused(w.Log, gone)
	}
	status, answer = http.StatusCreated, strings.Repeat(" ", 1<<20+1)
	refused(w.Log, "larger than 1048576 bytes")
	answer = answer[1:]
	refused(w.Log, "log entry: ")
}

// Rekor is asked at http and https URLs.
func TestOpenRekor(t *testing.T) {
	key := rt.New(t).Log
	for _, place := range []string{"http://rekor.example", "https://rekor.example/v2/"} {
		if r, err := log.OpenRekor(place, key, nil); err != nil || r.Key().String() != key.String() {
			t.Errorf("%s: %v", place, err)
		}
	}
}

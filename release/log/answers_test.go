package log

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAnswerOfAWitness: what a witness says is read up to a limit, also when it comes packed.
func TestAnswerOfAWitness(t *testing.T) {
	for name, c := range map[string]struct {
		size   int
		packed bool
		ok     bool
	}{
		"empty": {0, false, true}, "at the limit": {maxAnswer, false, true}, "packed, at the limit": {maxAnswer, true, true},
		"too long": {maxAnswer + 1, false, false}, "packed, too long": {64 * maxAnswer, true, false},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			text := strings.Repeat("\x00", c.size)
			if !c.packed {
				io.WriteString(w, text)
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, text)
			z.Close()
		}))
		a := new(answers)
		n := 0
		resp, err := (&http.Client{Transport: a}).Get(srv.URL)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			n = len(body)
		}
		if (err == nil) != c.ok || c.ok && n != c.size {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if want := map[bool]string{true: "HTTP status 200", false: "longer than 65536 bytes"}[c.ok]; !strings.Contains(a.String(), want) {
			t.Errorf("%s: %q, want %q in it", name, a, want)
		}
		srv.Close()
	}
}

// TestAnswersOfOneHost: two witnesses at one host are told apart.
func TestAnswersOfOneHost(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := map[string]int{"/a/add-checkpoint": http.StatusUnprocessableEntity, "/b/add-checkpoint": http.StatusServiceUnavailable}[r.URL.Path]
		w.WriteHeader(status)
	}))
	defer srv.Close()
	a := new(answers)
	for _, name := range []string{"a", "b"} {
		resp, err := (&http.Client{Transport: a}).Get(srv.URL + "/" + name + "/add-checkpoint")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	host := strings.TrimPrefix(srv.URL, "http://")
	if got, want := a.String(), host+"/a: HTTP status 422; "+host+"/b: HTTP status 503"; got != want || !a.another(0) {
		t.Errorf("%q, want %q", got, want)
	}
}

package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tally/enclave/evidence"
)

func TestBeaconFrom(t *testing.T) {
	if beaconFrom("") != nil {
		t.Error("a beacon from nowhere")
	}
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	answer := func(w http.ResponseWriter) {}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Error("asked for something compressed")
		}
		answer(w)
	}))
	defer s.Close()
	fetch := beaconFrom(s.URL + "/checkpoint")
	text := strings.Repeat("x", evidence.MaxBeacon)
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		want   string // "": an error
	}{
		"note":     {func(w http.ResponseWriter) { w.Write([]byte("log.example\n")) }, "log.example\n"},
		"largest":  {func(w http.ResponseWriter) { w.Write([]byte(text)) }, text},
		"too long": {func(w http.ResponseWriter) { w.Write([]byte(text + "x")) }, ""},
		"absent":   {func(w http.ResponseWriter) { w.WriteHeader(404); w.Write([]byte("log.example\n")) }, ""},
		"moved":    {func(w http.ResponseWriter) { w.Header().Set("Location", other.URL); w.WriteHeader(302) }, ""},
		"cut":      {func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); w.Write([]byte("log")) }, ""},
	} {
		answer = c.answer
		got, err := fetch(t.Context())
		if (err == nil) != (c.want != "") || err == nil && string(got) != c.want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if elsewhere != 0 {
		t.Error("another host was asked")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	answer = func(http.ResponseWriter) { time.Sleep(100 * time.Millisecond) }
	if _, err := fetch(ctx); err == nil {
		t.Error("a host that does not answer")
	}
}

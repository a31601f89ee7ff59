package main

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"tally/internal/cli"
	"tally/mkimage/lock"
)

// TestPlaces: flags come before the user's settings, and these before apt's files; each archive has its own.
func TestPlaces(t *testing.T) {
	args, err := cli.Parse(fetchFlags(), []string{"--mirror", "http://flag.example/debian?a=b", "--mirror", "acme=http://flag.example/acme", "--mirror", "debian=http://named.example/debian", "--snapshot", "http://snap.example"})
	if err != nil {
		t.Fatal(err)
	}
	s := settings{Mirrors: []string{"http://user.example/debian"}, Snapshots: []string{"http://user.example/snap"},
		Archives: []archive{{"acme", []string{"http://user.example/acme"}}, {"other", []string{"http://user.example/other"}}}}
	etc := fstest.MapFS{
		"sources.list":                {Data: []byte("deb http://apt.example/debian trixie main\n")},
		"sources.list.d/acme.sources": {Data: []byte("Types: deb\nURIs: http://apt.example/acme\n")},
	}
	want := lock.Places{
		Mirrors: []string{"http://flag.example/debian?a=b", "http://named.example/debian", "http://user.example/debian", "http://apt.example/debian", "http://apt.example/acme"},
		Archives: map[string][]string{
			"acme": {"http://flag.example/acme", "http://user.example/acme", "http://apt.example/acme"}, "other": {"http://user.example/other"},
		},
		Snapshots: []string{"http://snap.example", "http://user.example/snap"},
	}
	if d := cmp.Diff(want, places(args, s, etc)); d != "" {
		t.Error(d)
	}
}

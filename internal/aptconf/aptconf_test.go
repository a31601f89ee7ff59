package aptconf

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestMirrors(t *testing.T) {
	fsys := fstest.MapFS{
		"sources.list":             {Data: []byte("# deb http://commented.example/debian x\ndeb [arch=amd64 signed-by=/k] http://a.example/debian/ trixie main # why\ndeb-src http://src.example/debian trixie main\ndeb cdrom:[x]/ trixie\ndebug\n")},
		"sources.list.d/b.sources": {Data: []byte("# head\nTypes: deb deb-src\nURIs: https://b.example/debian\n https://c.example/debian\nSuites: trixie\n\nTypes: deb\nURIs: http://off.example/debian\nEnabled: no\n\nTypes: deb-src\nURIs: http://src.example/debian\n\nTypes: deb\nURIs: http://a.example/debian\n")},
		"sources.list.d/a.list":    {Data: []byte("deb\thttp://d.example/debian-security trixie-security main\n")},
		"sources.list.d/x.save":    {Data: []byte("deb http://no.example/debian x\n")},
	}
	want := []string{"http://a.example/debian", "http://d.example/debian-security", "https://b.example/debian", "https://c.example/debian"}
	if d := cmp.Diff(want, Mirrors(fsys)); d != "" {
		t.Error(d)
	}
	named := map[string][]string{"b": {"https://b.example/debian", "https://c.example/debian", "http://a.example/debian"}, "a": {"http://d.example/debian-security"}}
	if d := cmp.Diff(named, Named(fsys)); d != "" {
		t.Error(d)
	}
	if got := Mirrors(fstest.MapFS{}); len(got) != 0 {
		t.Errorf("no configuration: %q", got)
	}
}

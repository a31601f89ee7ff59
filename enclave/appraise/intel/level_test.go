package intel

import (
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/pcs"
)

// level is one that wants v of every component.
func level(status pcs.TcbComponentStatus, v byte, pce uint16) pcs.TcbLevel {
	l := pcs.TcbLevel{TcbStatus: status}
	l.Tcb.Pcesvn = pce
	for range 16 {
		l.Tcb.SgxTcbcomponents = append(l.Tcb.SgxTcbcomponents, pcs.TcbComponent{Svn: v})
		l.Tcb.TdxTcbcomponents = append(l.Tcb.TdxTcbcomponents, pcs.TcbComponent{Svn: v})
	}
	return l
}

// machineAt is a platform with v in every component.
func machineAt(v byte, pce uint16) (*pcs.PckExtensions, []byte) {
	p := &pcs.PckExtensions{}
	p.TCB.PCESvn = pce
	svn := make([]byte, 16)
	for i := range svn {
		svn[i] = v
		p.TCB.CPUSvnComponents = append(p.TCB.CPUSvnComponents, v)
	}
	return p, svn
}

// TestPlatformLevel: a platform is as current as its oldest component.
func TestPlatformLevel(t *testing.T) {
	const old = pcs.TcbComponentStatus("OutOfDate")
	levels := []pcs.TcbLevel{level(pcs.TcbComponentStatusUpToDate, 5, 11), level(old, 3, 10)}
	check := func(name string, p *pcs.PckExtensions, svn []byte, want pcs.TcbComponentStatus) {
		t.Helper()
		l, err := platformLevel(levels, p, svn)
		if want == "" {
			if err == nil {
				t.Errorf("%s: %s, want no level", name, l.TcbStatus)
			}
			return
		}
		if err != nil || l.TcbStatus != want {
			t.Errorf("%s: %+v, %v; want %s", name, l, err, want)
		}
	}
	p, svn := machineAt(5, 11)
	check("all in order", p, svn, pcs.TcbComponentStatusUpToDate)
	p, svn = machineAt(5, 10)
	check("an old PCE", p, svn, old)
	p, svn = machineAt(2, 11)
	check("below every level", p, svn, "")
	for i := range 16 {
		p, svn = machineAt(5, 11)
		p.TCB.CPUSvnComponents[i] = 4
		check("an old component of the processor", p, svn, old)
		p, svn = machineAt(5, 11)
		svn[i] = 4
		want := old
		if i < 2 { // of the module, whose own list is go-tdx-guest's to check
			want = pcs.TcbComponentStatusUpToDate
		}
		check("an old component of TDX", p, svn, want)
	}
	p, svn = machineAt(5, 11)
	svn[0], svn[1] = 4, 0 // a module of version 0 has no list of its own
	levels[0].Tcb.TdxTcbcomponents[1].Svn, levels[1].Tcb.TdxTcbcomponents[1].Svn = 0, 0
	check("an old module of version 0", p, svn, old)
}

// TestPlatformLevelShort: a statement that leaves components out says nothing.
func TestPlatformLevelShort(t *testing.T) {
	for name, change := range map[string]func(l *pcs.TcbLevel, p *pcs.PckExtensions){
		"processor":   func(l *pcs.TcbLevel, _ *pcs.PckExtensions) { l.Tcb.SgxTcbcomponents = l.Tcb.SgxTcbcomponents[:15] },
		"TDX":         func(l *pcs.TcbLevel, _ *pcs.PckExtensions) { l.Tcb.TdxTcbcomponents = nil },
		"certificate": func(_ *pcs.TcbLevel, p *pcs.PckExtensions) { p.TCB.CPUSvnComponents = p.TCB.CPUSvnComponents[:1] },
	} {
		l := level(pcs.TcbComponentStatusUpToDate, 5, 11)
		p, svn := machineAt(5, 11)
		change(&l, p)
		if _, err := platformLevel([]pcs.TcbLevel{l}, p, svn); err == nil || !strings.Contains(err.Error(), "16 components") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnmarshalOnce: what is signed and what is read are one thing.
func TestUnmarshalOnce(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for text, want := range map[string]string{
		`{"a":1,"b":{"a":1}}`:    "",
		deep(maxDepth):           "",
		deep(maxDepth + 2):       "levels",
		`{"a":1,"A":2}`:          "twice",
		`[{"x":[{"k":1,"k":1}]}`: "twice",
		`{"a":`:                  "EOF",
		`{"a":1`:                 "EOF",
		"":                       "EOF",
	} {
		var v any
		err := unmarshalOnce([]byte(text), &v)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

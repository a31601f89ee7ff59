package pattern

import "testing"

func TestPattern(t *testing.T) {
	p := New(`^[a-z]+=`)
	for range 2 {
		if !p.MatchString("ab=c") || p.MatchString("=c") || p.FindString("ab=c") != "ab=" {
			t.Error("matches other than its text says")
		}
	}
}

// TestLazy: a text is looked at when it is used, not before.
func TestLazy(t *testing.T) {
	p := New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("a text that is no regular expression matched")
		}
	}()
	p.MatchString("")
}

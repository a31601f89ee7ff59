package oidc

import (
	"strings"
	"testing"
)

// A token goes to its CA over TLS, or to this machine.
func TestOptions(t *testing.T) {
	const token = "a.b.c"
	for _, c := range []struct{ token, ca, want string }{
		{token, "https://ca.example", ""},
		{token, "http://localhost:5555", ""},
		{token, "http://127.0.0.1", ""},
		{token, "http://[::1]:1/", ""},
		{token, "http://ca.example", "want an https URL"},
		{token, "http://10.0.0.1", "want an https URL"},
		{token, "http://localhost.example", "want an https URL"},
		{token, "ftp://127.0.0.1", "want an https URL"},
		{token, "https:///x", "want an https URL"},
		{token, "", "want an https URL"},
		{"a.b", "https://ca.example", "want a JWT"},
		{token + "\n", "https://ca.example", "want a JWT"},
		{"a.b." + strings.Repeat("c", maxToken-4), "https://ca.example", ""},
		{"a.b." + strings.Repeat("c", maxToken-3), "https://ca.example", "want a JWT"},
	} {
		for i, o := range []Options{{c.token, c.ca, "https://tsa.example", []byte{1}, nil}, {c.token, "https://ca.example", c.ca, []byte{1}, nil}} {
			if i == 1 && strings.HasPrefix(c.ca, "http://") {
				c.want = "" // what an authority says is signed, and it gets no token
			}
			if err := o.check(); (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), token)) {
				t.Errorf("%.20s, %s and %s: %v, want %q", c.token, o.FulcioURL, o.TSAURL, err, c.want)
			}
		}
	}
	if err := (&Options{Token: token, FulcioURL: "https://ca.example", TSAURL: "https://tsa.example"}).check(); err == nil || !strings.Contains(err.Error(), "trusted root") {
		t.Errorf("without a trusted root: %v", err)
	}
}

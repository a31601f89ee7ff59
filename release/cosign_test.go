package release_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	rt "tally/release/releasetest"
)

func TestWitnessNames(t *testing.T) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"": false, "w": true, strings.Repeat("w", 253): true, strings.Repeat("w", 254): false, "a b": false, "a+b": false, "é": false, "a\x7f": false, "~!": true, "a\tb": false,
	} {
		if _, err := release.NewWitnessKey(name, pub); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, n := range []int{31, 33} {
		if _, err := release.NewWitnessKey("w", make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes", n)
		}
	}
	k := must(release.NewWitnessKey("w", pub))
	if _, err := k.Cosign([]byte("x\n"), private, time.Unix(0, 0)); err == nil {
		t.Error("cosigned before time began")
	}
	if _, err := k.Cosign([]byte("x\n"), private, time.Unix(1, 0)); err != nil {
		t.Error(err)
	}
	if _, err := k.Cosign([]byte("x\n"), newCosigner(t, "v").private, rt.Now); err == nil {
		t.Error("cosigned with another's key")
	}
}

// line is a cosignature at any time, as a witness of ours would not make it; more are bytes after it.
func (c cosigner) line(text string, at uint64, more ...byte) string {
	vkey := strings.Split(c.key.String(), "+")
	raw := binary.BigEndian.AppendUint32(nil, uint32(must(parseHex(vkey[1]))))
	raw = binary.BigEndian.AppendUint64(raw, at)
	raw = append(raw, ed25519.Sign(c.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))...)
	return "— " + c.key.Name() + " " + base64.StdEncoding.EncodeToString(append(raw, more...)) + "\n"
}

func parseHex(s string) (n uint64, err error) {
	_, err = fmt.Sscanf(s, "%x", &n)
	return n, err
}

func TestCosignatures(t *testing.T) {
	l := newBareLog(t, "log.example")
	a, b, c := newCosigner(t, "a"), newCosigner(t, "b"), newCosigner(t, "c")
	namesake := newCosigner(t, "a")
	one := quorum(t, "witness a %s\nquorum a\n", a.key)
	both := quorum(t, "witness a %s\nwitness b %s\nwitness c %s\ngroup x any a b\ngroup g all x c\nquorum g\n", a.key, b.key, c.key)
	text := "log.example\n1\n" + tlog.Hash{}.String() + "\n"
	at := uint64(rt.Epoch)
	for name, tt := range map[string]struct {
		q     release.Quorum
		lines string
		want  string
		since uint64
	}{
		"good":                   {one, a.line(text, at), "", at},
		"first second":           {one, a.line(text, 1), "", 1},
		"last second":            {one, a.line(text, math.MaxInt64), "", math.MaxInt64},
		"no time":                {one, a.line(text, 0), "does not verify", 0},
		"beyond time":            {one, a.line(text, math.MaxInt64+1), "does not verify", 0},
		"of another text":        {one, a.line(text+"x\n", at), "does not verify", 0},
		"twice, the newest last": {one, a.line(text, at-9) + a.line(text, at), "", at},
		"twice, it comes first":  {one, a.line(text, at) + a.line(text, at-9), "", at},
		"one of them broken":     {one, a.line(text, at) + a.line(text+"x\n", at-9), "does not verify", 0},
		"too long":               {one, a.line(text, at, 0), "want 76 bytes", 0},
		"a namesake":             {one, namesake.line(text, at), "cosigned by 0", 0},
		"its ID, another name":   {one, strings.Replace(a.line(text+"x\n", at), "— a ", "— b ", 1) + a.line(text, at), "", at},
		"a namesake beside":      {one, namesake.line(text, at) + a.line(text, at), "", at},
		"one in each group":      {both, a.line(text, at) + c.line(text, at), "", at},
		"one in one group":       {both, b.line(text, at), "(b), want 2 of (1 of (a, b), c)", 0},
	} {
		since, err := tt.q.Met([]byte(l.sign(text) + tt.lines))
		if tt.want == "" && (err != nil || uint64(since.Unix()) != tt.since) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %s, %v, want %q", name, since, err, tt.want)
		}
	}
	if got := both.Witnesses(); len(got) != 3 || (release.Quorum{}).String() != "nobody" {
		t.Errorf("%d witnesses, nobody is %q", len(got), release.Quorum{})
	}
	sized := func(n int) []byte { // a checkpoint of n bytes with a's cosignature
		long := text + strings.Repeat("x", n-len(l.sign(text))-len(a.line(text, at))-1) + "\n"
		return []byte(l.sign(long) + a.line(long, at))
	}
	if _, err := one.Met(sized(64 << 10)); err != nil {
		t.Errorf("the largest checkpoint: %v", err)
	}
	large := string(sized(64<<10 + 1))
	for name, bad := range map[string]string{"no note": "x", "large": large, "cut": l.sign(text) + "— a A\n"} {
		if _, err := one.Met([]byte(bad)); err == nil {
			t.Errorf("%s: met", name)
		}
	}
}

// TestWitnessPolicyLimits goes to each limit of a policy and one further.
func TestWitnessPolicyLimits(t *testing.T) {
	k := newCosigner(t, "a").key.String()
	members := func(n int) (text string) {
		list := ""
		for i := range n {
			text += fmt.Sprintf("witness w%d %s\n", i, newCosigner(t, "a").key)
			list += fmt.Sprintf(" w%d", i)
		}
		return text + fmt.Sprintf("group g %d%s\nquorum g\n", n, list)
	}
	names := func(n int) string {
		text, last := "witness a "+k+"\n", "a"
		for i := range n - 1 {
			text += fmt.Sprintf("group g%d any %s\n", i, last)
			last = fmt.Sprintf("g%d", i)
		}
		return text + "quorum " + last + "\n"
	}
	log := newBareLog(t, "log.example").key.String()
	const url = "want http or https and no query"
	for name, tt := range map[string]struct{ text, want string }{
		"http": {"witness a " + k + " http://a.example/w\nquorum a\n", ""}, "https": {"witness a " + k + " https://a.example\nquorum a\n", ""},
		"ftp": {"witness a " + k + " ftp://a.example\nquorum a\n", url}, "no host": {"witness a " + k + " https:///w\nquorum a\n", url}, "no URL": {"witness a " + k + " https://%\nquorum a\n", url},
		"query": {"witness a " + k + " https://a.example/?q\nquorum a\n", url}, "fragment": {"witness a " + k + " https://a.example/#f\nquorum a\n", url},
		"witness and more": {"witness a " + k + " https://a.example x\nquorum a\n", "want log VKEY"}, "witness and less": {"witness a\nquorum none\n", "want log VKEY"},
		"log and more": {"log " + log + " https://a.example x\nquorum none\n", "want log VKEY"}, "no log": {"log\nquorum none\n", "want log VKEY"}, "bad log": {"log x\nquorum none\n", "log key"},
		"group of nobody": {"witness a " + k + "\ngroup g any\nquorum g\n", "want log VKEY"}, "quorum and more": {"quorum none none\n", "want log VKEY"}, "verb": {"groups g any a\nquorum none\n", "want log VKEY"},
		"long name": {"witness " + strings.Repeat("a", 80) + " " + k + "\nquorum none\n", ""}, "longer name": {"witness " + strings.Repeat("a", 81) + " " + k + "\nquorum none\n", "at most 80 bytes"},
		"one of one": {"witness a " + k + "\ngroup g 1 a\nquorum g\n", ""}, "members": {members(64), ""}, "more members": {members(65), "at most 64"},
		"names": {names(256), ""}, "more names": {names(257), "at most 256 names"},
		"largest": {"quorum none\n" + strings.Repeat("#", release.MaxWitnessPolicy-12), ""}, "larger": {"quorum none\n" + strings.Repeat("#", release.MaxWitnessPolicy-11), "want at most"},
	} {
		if _, err := release.ParseWitnessPolicy([]byte(tt.text), "p"); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

//go:build linux && amd64

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	testRoot = strings.Repeat("0123456789abcdef", 4)
	testSalt = strings.Repeat("22", 32)
	// goodWords is what mkimage writes, with words of a spec and one a host's firmware adds.
	goodWords = "roothash=" + testRoot + " tally.verity=1,sha256,4096,4096,954,1," + testSalt + " tally.scrub=1 panic=-1 console=ttyS0 quiet initrd=initrd"
)

func TestParseCmdline(t *testing.T) {
	want := cmdline{RootHash: testRoot, DataBlocks: 954, HashStart: 1, Salt: testSalt, Scrub: true}
	for _, s := range []string{goodWords, goodWords + "\n", "  " + goodWords + " ", "quiet tally.scrub=1 tally.verity=1,sha256,4096,4096,954,1," + testSalt + " roothash=" + testRoot} {
		if c, err := parseCmdline(s); err != nil || c != want {
			t.Errorf("%q: %+v, %v", s, c, err)
		}
	}
	c, err := parseCmdline("tally.scrub=0 roothash=" + testRoot + " tally.verity=1,sha256,4096,4096,1,0,-")
	if err != nil || c != (cmdline{RootHash: testRoot, DataBlocks: 1, Salt: "-"}) {
		t.Errorf("without salt: %+v, %v", c, err)
	}
}

func TestParseCmdlineRefuses(t *testing.T) {
	verity := func(s string) string {
		return "roothash=" + testRoot + " tally.scrub=1 tally.verity=" + s
	}
	for s, want := range map[string]string{
		"":     "no roothash=",
		"\n":   "no roothash=",
		"root": "no roothash=",
		strings.Replace(goodWords, "roothash=", "Roothash=", 1):       "no roothash=",
		strings.Replace(goodWords, "tally.scrub=1 ", "", 1):           "no tally.scrub=",
		strings.Replace(goodWords, "tally.verity=", "x=", 1):          "no tally.verity=",
		goodWords + " roothash=" + testRoot:                           "more than once",
		goodWords + " roothash=":                                      "more than once",
		goodWords + " roothash":                                       "more than once",
		goodWords + " tally.scrub=0":                                  "more than once",
		goodWords + " tally.verity=1":                                 "more than once",
		goodWords + " tally.x=1":                                      `unknown word "tally.x"`,
		goodWords + " tally.":                                         "unknown word",
		goodWords + ` x="a b"`:                                        "byte 0x22",
		goodWords + "\x00":                                            "byte 0x00",
		goodWords + "\n\n":                                            "byte 0x0a",
		goodWords + "\tquiet":                                         "byte 0x09",
		goodWords + " é":                                              "byte 0xc3",
		goodWords + strings.Repeat(" ", 2048):                         "at most 2047",
		strings.Replace(goodWords, testRoot, testRoot[1:], 1):         "64 lower-case hex",
		strings.Replace(goodWords, testRoot, testRoot+"0", 1):         "64 lower-case hex",
		strings.Replace(goodWords, testRoot, "A"+testRoot[1:], 1):     "64 lower-case hex",
		strings.Replace(goodWords, testRoot, "g"+testRoot[1:], 1):     "64 lower-case hex",
		strings.Replace(goodWords, "tally.scrub=1", "tally.scrub", 1): "want 0 or 1",
		strings.Replace(goodWords, "scrub=1", "scrub=01", 1):          "want 0 or 1",
		verity(""):                                                       "1 fields",
		verity("1,sha256,4096,4096,1,1"):                                 "6 fields",
		verity("1,sha256,4096,4096,1,1,-,"):                              "8 fields",
		verity("0,sha256,4096,4096,1,1,-"):                               "want 1,sha256",
		verity("1,sha1,4096,4096,1,1,-"):                                 "want 1,sha256",
		verity("1,sha256,512,4096,1,1,-"):                                "want 1,sha256",
		verity("1,sha256,4096,4096,0,1,-"):                               "data blocks: 0",
		verity("1,sha256,4096,4096,01,1,-"):                              "plain decimal",
		verity("1,sha256,4096,4096,+1,1,-"):                              "plain decimal",
		verity("1,sha256,4096,4096,-1,1,-"):                              "plain decimal",
		verity("1,sha256,4096,4096,0x1,1,-"):                             "plain decimal",
		verity("1,sha256,4096,4096,1,,-"):                                "hash start: \"\"",
		verity("1,sha256,4096,4096,1,1,"):                                "salt",
		verity("1,sha256,4096,4096,1,1,0"):                               "salt",
		verity("1,sha256,4096,4096,1,1,AA"):                              "salt",
		verity("1,sha256,4096,4096,1,1,--"):                              "salt",
		verity("1,sha256,4096,4096,1,1,zz"):                              "salt",
		verity("1,sha256,4096,4096,1,1,- " + ""):                         "",
		verity("1,sha256,4096,4096,2251799813685248,1,-"):                "want 1 to 2251799813685247",
		verity("1,sha256,4096,4096,1,99999999999999999999,-"):            "plain decimal",
		verity("1,sha256,4096,4096,1,1," + strings.Repeat("00", 256)):    "",
		verity("1,sha256,4096,4096,1,1," + strings.Repeat("00", 257)):    "salt",
		verity("1,sha256,4096,4096,1,1,-,panic_on_corruption"):           "8 fields",
		verity("1,sha256,4096,4096,1,1,- tally.verity.x=ignore_errors"):  "unknown word",
		verity("1,sha256,4096,4096,1,1,- tally.scrub=1"):                 "more than once",
		verity("1,sha256,4096,4096,1,1,- roothash=" + testRoot + " x=y"): "more than once",
	} {
		c, err := parseCmdline(s)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", s, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error %v, want %q", s, err, want)
		case want != "" && c != cmdline{}:
			t.Errorf("%q: an error and still %+v", s, c)
		}
	}
}

func TestReadCmdline(t *testing.T) {
	p := filepath.Join(t.TempDir(), "cmdline")
	for text, ok := range map[string]bool{goodWords + "\n": true, goodWords + strings.Repeat(" x", 2000): false} {
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readCmdline(p); (err == nil) != ok {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	if _, err := readCmdline(p + "x"); err == nil {
		t.Error("no file: no error")
	}
}

func TestTable(t *testing.T) {
	c, err := parseCmdline(goodWords)
	if err != nil {
		t.Fatal(err)
	}
	// The line of FACTS: verity.rst's <version> <dev> <hash_dev> <data_block_size> <hash_block_size>
	// <num_data_blocks> <hash_start_block> <algorithm> <digest> <salt> [<#opt_params> <opt_params>].
	want := "1 254:2 254:3 4096 4096 954 1 sha256 " + testRoot + " " + testSalt
	if got := c.table("254:2", "254:3"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := c.table("254:2", "254:3", "panic_on_corruption", "panic_on_error"); got != want+" 2 panic_on_corruption panic_on_error" {
		t.Errorf("got %s", got)
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine("a\nb\x1b[31mc\xff"); strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) || !strings.HasPrefix(got, "a b") {
		t.Errorf("%q", got)
	}
	if n := len(oneLine(strings.Repeat("x", 5000))); n != 1000 {
		t.Errorf("%d bytes", n)
	}
}

func FuzzCmdline(f *testing.F) {
	for _, s := range []string{goodWords, goodWords + "\n", "", "roothash=" + testRoot, goodWords + " tally.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCmdline(s)
		if err != nil {
			return
		}
		// What is accepted holds each word once, and says the same when written out again.
		for _, key := range []string{"roothash=", "tally.verity=", "tally.scrub="} {
			n := 0
			for _, w := range strings.Fields(s) {
				if strings.HasPrefix(w, key) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%q: %d times %s", s, n, key)
			}
		}
		scrub := map[bool]string{false: "0", true: "1"}[c.Scrub]
		table := strings.Fields(c.table("D", "H"))
		again := "roothash=" + c.RootHash + " tally.verity=1,sha256,4096,4096," + table[5] + "," + table[6] + "," + c.Salt + " tally.scrub=" + scrub
		if c2, err := parseCmdline(again); err != nil || c2 != c {
			t.Errorf("%q: %+v, again %+v, %v", s, c, c2, err)
		}
	})
}

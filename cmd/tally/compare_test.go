package main

import (
	"bytes"
	"os"
	"testing"
)

// TestColourIsForTerminals asks a real terminal, a buffer and a file.
func TestColourIsForTerminals(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: no pseudo-terminal here: %v", err)
	}
	defer tty.Close()
	file, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	env := func(kv ...string) func(string) string {
		return func(name string) string {
			if len(kv) == 2 && kv[0] == name {
				return kv[1]
			}
			return ""
		}
	}
	if !wantColour(tty, env()) {
		t.Error("no colour on a terminal")
	}
	if wantColour(tty, env("NO_COLOR", "1")) || wantColour(tty, env("TERM", "dumb")) {
		t.Error("colour although the environment says no")
	}
	if wantColour(file, env()) || wantColour(new(bytes.Buffer), env()) {
		t.Error("colour in a file")
	}
	if got := painter(true).red("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("red: %q", got)
	}
	if got := plain("a\x1b[31m\nb\u202e\xff"); got != "a\\x1b[31m\\x0ab\\x202e\uFFFD" {
		t.Errorf("plain: %q", got)
	}
}

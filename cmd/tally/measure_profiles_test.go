package main

import (
	"os"
	"strings"
	"testing"
)

// TestProfilesPage holds docs/profiles.md to the command's answer.
func TestProfilesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, "measure", "profiles")
	if code != exitOK || out == "" {
		t.Fatalf("code %d: %s", code, errs)
	}
	if !strings.Contains(string(page), "\n```\n"+out+"```\n") {
		t.Errorf("docs/profiles.md is not what `tally measure profiles` prints:\n%s", out)
	}
}

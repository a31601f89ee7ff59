package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/cli"
)

// leaves calls f for every command that does something.
func leaves(cs []*cli.Command, prefix string, f func(name string, c *cli.Command)) {
	for _, c := range cs {
		switch {
		case len(c.Subcommands) > 0:
			leaves(c.Subcommands, prefix+"-"+c.Name, f)
		default:
			f(prefix+"-"+c.Name, c)
		}
	}
}

func TestEveryCommandHasAManPageWithItsFlags(t *testing.T) {
	dir := t.TempDir()
	if code, _, stderr := run(t, "man", dir); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	leaves(newApp(&env{}, nil).Commands, "tally", func(name string, c *cli.Command) {
		page, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		if c.Usage == "" || c.Description == "" {
			t.Errorf("%s: usage %q, description of %d bytes: want both", name, c.Usage, len(c.Description))
		}
		for _, f := range c.Flags {
			if long := `\-\-` + roff(f.Names()[0]); len(f.Names()[0]) > 1 && !strings.Contains(string(page), long) {
				t.Errorf("%s.1 does not name %s", name, long)
			}
		}
	})
}

func TestRoffKeepsLeadingDotsAndBackslashes(t *testing.T) {
	if got, want := roff(".x \\ -y\n'z"), "\\&.x \\e \\-y\n\\&'z"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCompletionKnowsItsShells(t *testing.T) {
	if code, out, _ := run(t, "completion", "bash"); code != 0 || out == "" {
		t.Errorf("bash: exit %d, %d bytes", code, len(out))
	}
	if code, _, _ := run(t, "completion", "tcsh"); code != exitUsage {
		t.Errorf("unknown shell: exit %d, want %d", code, exitUsage)
	}
}

// TestManPagesAllOrNone: when the last cannot be written, none is there.
func TestManPagesAllOrNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tally.1", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run(t, "man", dir); code != exitFailed || !strings.Contains(stderr, "tally.1") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d entries are left, want the one in the way (%v)", len(left), err)
	}
}

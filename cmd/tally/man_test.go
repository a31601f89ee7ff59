package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/cli"
	"tally/internal/testtool"
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
	if got, want := roff(".x \\ -y…\n'z"), "\\&.x \\e \\-y\\[u2026]\n\\&'z"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestManPagesRender: groff, which shows them, has nothing to say against any, and a page's synopsis is what is typed.
func TestManPagesRender(t *testing.T) {
	groff, dir := testtool.Need(t, "groff"), t.TempDir()
	code, out, stderr := run(t, "man", "--json", dir)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || !strings.Contains(out, fmt.Sprintf(`"pages": %d`, len(pages))) {
		t.Errorf("%d pages, and the answer is %s (%v)", len(pages), out, err)
	}
	for _, page := range pages {
		if out, err := exec.Command(groff, "-ww", "-man", "-z", page).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", filepath.Base(page), err, out)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "tally-measure-snp-id-block.1"))
	if want := roff("tally measure snp-id-block"); err != nil || !strings.Contains(string(page), ".B "+want+"\n") {
		t.Errorf("the synopsis is not %s (%v)", want, err)
	}
	for _, name := range []string{"tally.1", "tally-build.1"} {
		if page, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(page), roff("--help, -h")) {
			t.Errorf("%s does not name --help (%v)", name, err)
		}
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

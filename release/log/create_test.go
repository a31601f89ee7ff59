package log_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tally/release"
	"tally/release/log"
)

func TestCreateRefuses(t *testing.T) {
	dir, key := create(t)
	base := t.TempDir()
	full := filepath.Join(base, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ dir, key, want string }{
		"existing log":      {dir, filepath.Join(base, "k"), "is not empty"},
		"existing key":      {filepath.Join(base, "new"), key, "exists"},
		"key in directory":  {filepath.Join(base, "new"), filepath.Join(base, "new", "k"), "is served"},
		"key is directory":  {filepath.Join(base, "new"), filepath.Join(base, "new"), "is served"},
		"foreign directory": {full, filepath.Join(base, "k"), "is not empty"},
		"no key file":       {filepath.Join(base, "new"), "", "no file"},
		"key unwritable":    {filepath.Join(base, "new"), filepath.Join(base, "absent", "k"), "no such file"},
	} {
		if _, err := log.Create(t.Context(), c.dir, options(c.key)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	for _, origin := range []string{"", "log example", "log+example", "log.example\n"} {
		o := options(filepath.Join(base, "k"))
		o.Origin = origin
		if _, err := log.Create(t.Context(), filepath.Join(base, "new"), o); err == nil {
			t.Errorf("origin %q: created", origin)
		}
	}
	left, err := os.ReadDir(base)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Create(t.Context(), file, options(filepath.Join(base, "k"))); err == nil {
		t.Error("created in the place of a file")
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "x" {
		t.Errorf("the file is %q, %v", data, err)
	}
	empty := t.TempDir()
	if _, err := log.Create(t.Context(), empty, options(filepath.Join(base, "k"))); err != nil {
		t.Errorf("in an empty directory: %v", err)
	}
	if st, err := os.Stat(filepath.Join(base, "k")); err != nil || st.Mode() != 0o600 {
		t.Errorf("key file: %v, %v", st.Mode(), err)
	}
}

// A log directory has one key, on one line.
func TestReadKey(t *testing.T) {
	dir, _ := create(t)
	key, err := log.ReadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	text := key.String()
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"its line": {text + "\n", true}, "no end of line": {text, true}, "empty": {"", false}, "an empty line": {"\n", false}, "two lines": {text + "\n" + text + "\n", false},
		"an empty line more": {text + "\n\n", false}, "CRLF": {text + "\r\n", false}, "too long": {text + strings.Repeat(" ", 4096), false},
	} {
		if err := os.WriteFile(filepath.Join(dir, log.VKeyFile), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := log.ReadKey(dir); (err == nil) != c.ok || c.ok && got.String() != text {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := log.ReadKey(t.TempDir()); err == nil {
		t.Error("a directory that is no log has a key")
	}
}

// TestCreateAtOnce: of many who make a log in one directory at once, one says that it did, and its log and key are there.
func TestCreateAtOnce(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "pub")
	const n = 4
	var keys [n]release.LogKey
	var errs [n]error
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			keys[i], errs[i] = log.Create(t.Context(), dir, options(filepath.Join(base, fmt.Sprint("key", i))))
		})
	}
	wg.Wait()
	there, err := log.ReadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	won := 0
	for i, err := range errs {
		_, kerr := os.Stat(filepath.Join(base, fmt.Sprint("key", i)))
		switch {
		case err != nil && (!strings.Contains(err.Error(), "is not empty") || kerr == nil):
			t.Errorf("%v; its key: %v", err, kerr)
		case err == nil:
			won++
			if kerr != nil || keys[i].String() != there.String() {
				t.Errorf("a log was made and is gone (%v)", kerr)
			}
		}
	}
	if left, err := os.ReadDir(base); won != 1 || err != nil || len(left) != 2 {
		t.Errorf("%d made; left: %v, %v", won, left, err)
	}
}

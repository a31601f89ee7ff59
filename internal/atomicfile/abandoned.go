package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// abandonedAfter is how long nobody has touched what a killed process left. One that lives writes more often.
const abandonedAfter = 24 * time.Hour

// SweepAbandoned removes the temporary files and directories in dir, of the destination called base or, when that is "", of
// all, that killed processes left a day ago or longer. What cannot be removed stays: it is in nobody's way.
func SweepAbandoned(dir, base string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if of, ok := destinationOf(e.Name()); ok && (base == "" || of == base) && (e.IsDir() || e.Type().IsRegular()) {
			if path := filepath.Join(dir, e.Name()); abandoned(path) {
				os.RemoveAll(path)
			}
		}
	}
}

// temporaryOf returns the base name of the destination of the temporary file or directory called name.
func temporaryOf(name string) (string, bool) {
	i := strings.LastIndex(name, tmpMark)
	if i < 1 || name[0] != '.' {
		return "", false
	}
	digits := name[i+len(tmpMark):]
	return name[1:i], digits != "" && strings.Trim(digits, "0123456789") == ""
}

// destinationOf is temporaryOf for one that was itself to become a temporary, too.
func destinationOf(name string) (base string, ok bool) {
	for inner, is := temporaryOf(name); is; inner, is = temporaryOf(inner) {
		base, ok = inner, true
	}
	return base, ok
}

// abandoned says whether path, and all in it, was last written long ago. Clocks that cannot be right say no.
func abandoned(path string) bool {
	old := true
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if old = time.Since(fi.ModTime()) > abandonedAfter; !old {
			return fs.SkipAll
		}
		return nil
	})
	return err == nil && old
}

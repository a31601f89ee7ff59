package testtool

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Sample reads a file that another project published and a testdata directory of ours keeps, and wants it to be the one whose
// SHA-256 stands in the file SOURCE beside it.
func Sample(t testing.TB, dir, name string) []byte {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(dir, "SOURCE"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(source), fmt.Sprintf("%x  %s\n", sha256.Sum256(b), name)) {
		t.Fatalf("%s is not the file of SOURCE", filepath.Join(dir, name))
	}
	return b
}

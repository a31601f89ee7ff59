package witness

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tally/release"
)

// TestCreateAtOnce: of many who make a witness in one directory at once, one says that it did, and its key is there.
func TestCreateAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	const n = 16
	var keys [n]release.WitnessKey
	var errs [n]error
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { keys[i], errs[i] = Create(dir, "witness.example", rand.Reader) })
	}
	wg.Wait()
	there, _, err := readKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	won := 0
	for i, err := range errs {
		switch {
		case err != nil && strings.Contains(err.Error(), "is not empty"):
		case err != nil:
			t.Error(err)
		default:
			won++
			if keys[i].String() != there.String() {
				t.Error("a witness was made and its key is gone")
			}
		}
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); won != 1 || err != nil || len(left) != 1 {
		t.Errorf("%d made; left: %v, %v", won, left, err)
	}
}

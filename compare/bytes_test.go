package compare

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// TestTooLarge: what is above a reader's cap is refused unread, in words.
func TestTooLarge(t *testing.T) {
	large := func(limit int64) source { return io.NewSectionReader(bytes.NewReader(nil), 0, limit+1) }
	_, _, errPE := readPE(large(maxWhole))
	_, errCPIO := readCPIO(large(maxWhole))
	_, errManifest := readManifest(large(maxJSON))
	const above = "1073741825 bytes: want at most 1073741824"
	for _, c := range []struct {
		err  error
		want string
	}{{errPE, above}, {errCPIO, above}, {errManifest, "67108865 bytes: want at most 67108864"}} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%v, want %q", c.err, c.want)
		}
	}
	if _, err := readWhole(large(10), 11); err == nil || strings.Contains(err.Error(), "want") {
		t.Errorf("a file cut off while it is read: %v", err)
	}
}

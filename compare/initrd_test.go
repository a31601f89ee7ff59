package compare_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/internal/testtool"
)

// TestEarlyAndMain: what is compressed behind an uncompressed archive, as in Debian's initrds, is looked into.
func TestEarlyAndMain(t *testing.T) {
	pack := func(name, text string) []byte {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), time.Unix(1600000000, 0), time.Unix(1600000000, 0)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(testtool.Need(t, "cpio"), "--quiet", "-o", "-H", "newc", "--reproducible", "--renumber-inodes")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(name+"\n")
		b, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	initrd := func(text, program string, options ...string) []byte {
		cmd := exec.Command(testtool.Need(t, program), append(options, "-c")...)
		cmd.Stdin = bytes.NewReader(pack("conf", text))
		b, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return append(pack("microcode", "early"), b...)
	}
	for _, program := range []string{"gzip", "xz"} {
		r := files(t, initrd("one\ntwo\n", program), initrd("one\nthree\n", program))
		if len(r.Differences) != 1 || r.Differences[0].Where != "behind the archive, decompressed" || r.Differences[0].Path != "/conf" || r.Differences[0].Text != "@@ -1,2 +1,2 @@\n one\n-two\n+three\n" {
			t.Errorf("%s: %+v", program, r.Differences)
		}
		if r.Kind != "cpio" || len(r.Registers) == 0 || r.Equal {
			t.Errorf("%s: kind %s, registers %+v, equal %v", program, r.Kind, r.Registers, r.Equal)
		}
	}
	same := strings.Repeat("some text that can be compressed\n", 3000)
	wantCauses(t, files(t, initrd(same, "gzip", "-n", "-1"), initrd(same, "gzip", "-n", "-9")), "equal contents, compressed in another way")
	wantCauses(t, files(t, initrd(same, "gzip"), initrd(same, "xz")), "an appended part that is not read here")
}

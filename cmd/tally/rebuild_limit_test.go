package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"tally/release"
)

// zeros never end; read counts them.
type zeros struct{ read int64 }

func (z *zeros) Read(b []byte) (int, error) {
	clear(b)
	z.read += int64(len(b))
	return len(b), nil
}

func (*zeros) Close() error { return nil }

// A place that sends without end is read as far as the file can go: to the size that the statement says, or the limit.
func TestTargetLimits(t *testing.T) {
	const size = 3 << 20
	d := release.Digest(sha256.Sum256(make([]byte, size)))
	stated := &release.Statement{Predicate: release.Predicate{Artifacts: []release.Artifact{{SHA256: release.Digest{1}, Size: 1}, {SHA256: d, Size: size}}}}
	for name, c := range map[string]struct {
		statement *release.Statement
		sent      int64 // -1: without end
		limit     int64
		want      string
		most      int64
	}{
		"stated":        {stated, size, 1 << 40, "", size + 1<<20},
		"endless":       {stated, -1, 1 << 40, fmt.Sprintf("file: more than %d bytes, want SHA-256 %s", size, d), size + 1<<20},
		"short":         {stated, size - 1, 1 << 40, "file: SHA-256 ", size},
		"the limit":     {nil, size, size, "", size + 1<<20},
		"over it":       {nil, size, size - 1, fmt.Sprintf("file: more than %d bytes", size-1), size + 1<<20},
		"stated, large": {stated, size, 1 << 20, fmt.Sprintf("file: more than %d bytes", 1<<20), 2<<20 + 1},
	} {
		z := new(zeros)
		tg := &target{statement: c.statement, open: func(release.Digest) (io.ReadCloser, error) {
			if c.sent < 0 {
				return z, nil
			}
			return io.NopCloser(io.LimitReader(z, c.sent)), nil
		}}
		got, err := tg.get(t.Context(), "file", d, c.limit)
		if c.want == "" {
			if err != nil || len(got) != size {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) || exitCode(err) != exitUnverified {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if z.read > c.most {
			t.Errorf("%s: %d bytes read", name, z.read)
		}
	}
}

// The source archive goes to a file, which is given out only when it is the one.
func TestSourceArchive(t *testing.T) {
	want := bytes.Repeat([]byte("source"), 1<<10)
	tg := &target{sources: sha256.Sum256(want), open: func(release.Digest) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(want)), nil }}
	tmp := t.TempDir()
	f, err := tg.sourceArchive(t.Context(), tmp)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	tg.sources = release.Digest{1}
	if f, err := tg.sourceArchive(t.Context(), tmp); err == nil || f != nil || exitCode(err) != exitUnverified {
		t.Errorf("another: %v, %v", f, err)
	}
}

// What a place sends as rebuilds is taken apart at its values, not at its lines: a hostile one may send millions of those.
func TestAppendNew(t *testing.T) {
	for _, c := range []struct{ data, more, want string }{
		{"{}", "", "{}"},
		{`{"a":1}`, `{"b":1}` + "\n" + `{"c":1}`, `{"a":1}` + "\n" + `{"b":1}` + "\n" + `{"c":1}` + "\n"},
		{`{"a":1}` + "\n", `{"a":1}` + "\n" + `{"c":1}`, `{"a":1}` + "\n" + `{"c":1}` + "\n"},
		{`{"a":1}`, "{\n\"b\":1}", `{"a":1}` + "\n{\n\"b\":1}\n"},
		{`{"a":1}`, "x\ny", `{"a":1}` + "\nx\ny\n"},
		{`{"a":1}`, strings.Repeat("1\n", 65), `{"a":1}` + "\n" + strings.Repeat("1\n", 65) + "\n"},
	} {
		if got := appendNew([]byte(c.data), []byte(c.more)); string(got) != c.want {
			t.Errorf("%q and %q: %q, want %q", c.data, c.more, got, c.want)
		}
	}
}

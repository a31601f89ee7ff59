package steps

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func outputsTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func someStep() *Step {
	return &Step{Name: "s", Command: []string{"x"}, Dir: "b", Epoch: 1767225600, Timeout: time.Minute, Disk: 1 << 20,
		Outputs: []Output{{Path: "b/a", Target: "a", Mode: 0o755}, {Path: "b/d", Target: "d"}}}
}

// TestReadOutputsRefuses reads what the inside of a step never sends.
func TestReadOutputsRefuses(t *testing.T) {
	a, d := tar.Header{Name: "0", Typeflag: tar.TypeReg, Size: 3}, tar.Header{Name: "1/", Typeflag: tar.TypeDir}
	for _, c := range []struct {
		headers []tar.Header
		want    string
	}{
		{[]tar.Header{a}, `output "b/d": missing`},
		{[]tar.Header{a, d, a}, `output "0": twice`},
		{[]tar.Header{a, d, {Name: "2", Typeflag: tar.TypeReg}}, `output "2": not one of the step's`},
		{[]tar.Header{a, d, {Name: "1/../x", Typeflag: tar.TypeReg}}, `not one of the step's`},
		{[]tar.Header{a, d, {Name: "/etc/passwd", Typeflag: tar.TypeReg}}, `not one of the step's`},
		{[]tar.Header{a, d, {Name: "01", Typeflag: tar.TypeReg}}, `not one of the step's`},
		{[]tar.Header{a, d, {Name: "1/x", Typeflag: tar.TypeChar}}, `entry type '3', want files`},
		{[]tar.Header{a, d, {Name: "1/x", Typeflag: tar.TypeLink, Linkname: "0"}}, `entry type '1', want files`},
		{[]tar.Header{{Name: "0/", Typeflag: tar.TypeDir}, d}, `is a directory: only a file can be given a mode`},
	} {
		file := filepath.Join(t.TempDir(), "outputs.tar")
		if err := os.WriteFile(file, outputsTar(t, c.headers...), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readOutputs(context.Background(), someStep(), file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// FuzzReadOutputs: whatever is in the file, nothing but the step's targets comes out.
func FuzzReadOutputs(f *testing.F) {
	f.Add(outputsTar(f, tar.Header{Name: "0", Typeflag: tar.TypeReg, Size: 3}, tar.Header{Name: "1/", Typeflag: tar.TypeDir}, tar.Header{Name: "1/x", Typeflag: tar.TypeSymlink, Linkname: "y"}))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(dir, "outputs.tar")
		os.Remove(file) // to write over it would wait for the disk
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s := someStep()
		out, err := readOutputs(context.Background(), s, file)
		if err != nil {
			return
		}
		for _, e := range out.Entries() {
			if e.Path != "" && e.Path != "a" && e.Path != "d" && !strings.HasPrefix(e.Path, "d/") || e.Time(s.Epoch) > s.Epoch {
				t.Errorf("entry %q", e.Path)
			}
		}
	})
}

// FuzzMessage: a message that can be read has bounded length.
func FuzzMessage(f *testing.F) {
	var b bytes.Buffer
	if err := writeMessage(&b, report{Status: 1}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r report
		if err := readMessage(bytes.NewReader(data), &r); err == nil && len(data) < 4 {
			t.Error("a message of nothing")
		}
	})
}

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tally/internal/testtool"
)

func somePoints() []point {
	s := func(f float64) measured {
		return measured{wall: time.Duration(f * float64(time.Second)), cpu: time.Duration(f / 2 * float64(time.Second)), rss: 2048}
	}
	return []point{{1, s(0.5), s(0.4), 1e6, 2e6}, {100, s(2), s(0.9), 3e6, 4e6}, {1000, s(19), s(6), 5e6, 6e6}}
}

// The drawing is XML, has a dot for every value, higher up for more seconds, and all inside the frame.
func TestDrawGrowth(t *testing.T) {
	svg := drawGrowth(somePoints())
	var xs, ys []float64
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
		e, ok := tok.(xml.StartElement)
		if !ok || e.Name.Local != "circle" {
			continue
		}
		for _, a := range e.Attr {
			v, _ := strconv.ParseFloat(a.Value, 64)
			switch a.Name.Local {
			case "cx":
				xs = append(xs, v)
			case "cy":
				ys = append(ys, v)
			}
		}
	}
	if len(xs) != 12 || len(ys) != 12 {
		t.Fatalf("%d dots, want 12", len(xs))
	}
	for i := range xs {
		if xs[i] < left || xs[i] > width-right || ys[i] < top || ys[i] > height-bottom {
			t.Errorf("dot %d at %.1f,%.1f is outside the frame", i, xs[i], ys[i])
		}
		if i%3 > 0 && (xs[i] <= xs[i-1] || ys[i] >= ys[i-1]) {
			t.Errorf("dot %d at %.1f,%.1f is not right of and above %.1f,%.1f", i, xs[i], ys[i], xs[i-1], ys[i-1])
		}
	}
}

func TestDescribeGrowth(t *testing.T) {
	md := string(describeGrowth(somePoints(), "x.svg", 3))
	for _, want := range []string{"](x.svg)", "| 1000 | 5.0 | 6.0 | 19.00 | 9.50 | 2 | 6.00 | 3.00 | 2 |", "median of 3 runs", time.Now().UTC().Format("2006-01-")} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
}

// dpkg-deb reads what stands for a Debian package.
func TestSyntheticDeb(t *testing.T) {
	dpkg := testtool.Need(t, "dpkg-deb")
	testtool.Need(t, "xz")
	b := &bench{ctx: t.Context(), dir: t.TempDir()}
	data, err := b.deb("synthetic0007", rand.NewChaCha8([32]byte{3}))
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(b.dir, "x.deb")
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(dpkg, "-c", p).CombinedOutput()
	if err != nil || strings.Count(string(out), " ./usr/share/synthetic0007/f") != perPackage {
		t.Errorf("dpkg-deb -c: %v\n%s", err, out)
	}
	if out, err := exec.Command(dpkg, "-f", p, "Package").CombinedOutput(); err != nil || string(out) != "synthetic0007\n" {
		t.Errorf("dpkg-deb -f: %v\n%s", err, out)
	}
}

// What the row times is a file system that its own tool finds no fault in, and a hash tree of it.
func TestWriteTree(t *testing.T) {
	fsck, veritysetup := testtool.Need(t, "fsck.erofs"), testtool.Need(t, "veritysetup")
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	list := `[{"Path":"a/b","Size":3,"Digest":[186,120,22,191,143,1,207,234,65,65,64,222,93,174,34,35,176,3,97,163,150,23,122,156,180,16,255,97,242,0,21,173]}]`
	if err := os.MkdirAll(in("tree/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"tree/a/b": "abc", "tree.json": list} { // SHA-256("abc"): FIPS 180-2, B.1
		if err := os.WriteFile(in(name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := writeTree(t.Context(), in("tree"), in("tree.json"), in("image"), in("hash"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, in("image")).CombinedOutput(); err != nil || bytes.Contains(out, []byte("<E>")) {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
	if out, err := exec.Command(veritysetup, "verify", in("image"), in("hash"), root).CombinedOutput(); err != nil {
		t.Errorf("veritysetup verify: %v\n%s", err, out)
	}
	var sum int64
	sizes := treeSizes(rand.New(rand.NewPCG(1, 2)))
	for _, s := range sizes {
		sum += s
	}
	if len(sizes) != treeFiles || sum != treeBytes {
		t.Errorf("%d files of %d bytes, want %d of %d", len(sizes), sum, treeFiles, treeBytes)
	}
}

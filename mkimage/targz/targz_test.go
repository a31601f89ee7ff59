package targz

import (
	"archive/tar"
	"bytes"
	stdgzip "compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage/internal/extent"
)

// A holed is a disk of zeros with single bytes set.
type holed map[int64]byte

func (h holed) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	for at, v := range h {
		if at >= off && at < off+int64(len(b)) {
			b[at-off] = v
		}
	}
	return len(b), nil
}

const epoch = 1767225600

func small() holed { return holed{0: 1, 70_000: 2, 1 << 20: 3, 3<<20 + 511: 4} }

// golden is the SHA-256 of small in layout v1.
const golden = "235302e94571805f4fc2153c0e374968a1778caaa2cfc6c1f1eb5f2346f8315e"

func archive(t *testing.T, h holed, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := Write(context.Background(), &b, h, size, epoch)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("Write: %v, returned %d of %d bytes", err, n, b.Len())
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	if h := sha256.Sum256(archive(t, small(), 3<<20+512)); hex.EncodeToString(h[:]) != golden {
		t.Errorf("layout v1 has changed: archive %x, want %s", h, golden)
	}
}

// many has so many ranges that the map needs several further blocks.
func many() holed {
	h := holed{}
	for i := range int64(100) {
		h[i*3*64<<10] = byte(i) | 1
	}
	return h
}

// GNU tar and the standard library's reader must see one file of whole GiB with the disk's bytes.
func TestReaders(t *testing.T) {
	gnu := testtool.Need(t, "tar")
	for name, c := range map[string]struct {
		disk holed
		size int64
	}{
		"small":       {small(), 3<<20 + 512},
		"nothing":     {holed{}, 1 << 20},
		"four ranges": {holed{0: 1, 1 << 20: 1, 2 << 20: 1}, 4 << 20},
		"five ranges": {holed{0: 1, 1 << 20: 1, 2 << 20: 1, 3 << 20: 1}, 4 << 20},
		"many ranges": {many(), 64 << 20},
		"a whole GiB": {holed{1<<30 - 1: 9}, 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			b := archive(t, c.disk, c.size)
			z, err := stdgzip.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			r := tar.NewReader(z)
			h, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			whole := (c.size + gib - 1) / gib * gib
			if h.Name != "disk.raw" || h.Size != whole || h.Mode != 0o644 || h.ModTime.Unix() != epoch || h.Uid != 0 || h.Uname != "" || h.Format != tar.FormatGNU {
				t.Errorf("header %+v", h)
			}
			dir := t.TempDir()
			p := filepath.Join(dir, "a.tar.gz")
			if err := os.WriteFile(p, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(gnu, "-xzSf", p, "-C", dir).CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("tar: %v\n%s", err, out)
			}
			same(t, filepath.Join(dir, "disk.raw"), c.disk, whole)
			if out, err := exec.Command(gnu, "-tzf", p).CombinedOutput(); err != nil || string(out) != "disk.raw\n" {
				t.Errorf("tar -t: %v\n%s", err, out)
			}
		})
	}
}

// From 8 GiB on numbers do not fit octal digits.
func TestMoreThan8GiB(t *testing.T) {
	const size = 9 << 30
	disk := holed{0: 1, size - 1: 9}
	b := headers([]extent.Range{{Offset: 0, Size: extent.Unit}, {Offset: size - extent.Unit, Size: extent.Unit}}, size, epoch)
	for _, off := range []int64{0, size - extent.Unit} {
		part := make([]byte, extent.Unit)
		disk.ReadAt(part, off)
		b = append(b, part...)
	}
	dir := t.TempDir()
	p := filepath.Join(dir, "a.tar")
	if err := os.WriteFile(p, append(b, make([]byte, 2*block)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testtool.Need(t, "tar"), "-xSf", p, "-C", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	same(t, filepath.Join(dir, "disk.raw"), disk, size)
}

// same compares a sparse file with a disk where either has something.
func same(t *testing.T, file string, h holed, size int64) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Size() != size {
		t.Fatalf("disk.raw has %d bytes, want %d (%v)", fi.Size(), size, err)
	}
	// In full up to 64 MiB; beyond, where something is.
	look := map[int64]bool{}
	for at := range h {
		look[at>>20] = true
	}
	for i := range int64(64) {
		look[i] = true
	}
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	for i := range look {
		off := i << 20
		h.ReadAt(want, off)
		if _, err := f.ReadAt(got, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("the MiB at %d differs", off)
		}
	}
}

// gzip -t checks lengths and sum with the format's own tool.
func TestGzip(t *testing.T) {
	p := filepath.Join(t.TempDir(), "a.tar.gz")
	b := archive(t, many(), 64<<20)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testtool.Need(t, "gzip"), "-t", p).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gzip -t: %v\n%s", err, out)
	}
}

func TestRefuses(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	write := func(ctx context.Context, w io.Writer, r io.ReaderAt, size, epoch int64) func() error {
		return func() error { _, err := Write(ctx, w, r, size, epoch); return err }
	}
	for want, f := range map[string]func() error{
		"disk of 0 bytes":   write(context.Background(), &bytes.Buffer{}, small(), 0, 0),
		"no time before":    write(context.Background(), &bytes.Buffer{}, small(), 512, -1),
		"ends at byte 1000": write(context.Background(), &bytes.Buffer{}, bytes.NewReader(make([]byte, 1000)), 1024, 0),
		"context canceled":  write(canceled, &bytes.Buffer{}, small(), 512, 0),
		"no room":           write(context.Background(), full{}, small(), 512, 0),
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

package qcow2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage/internal/extent"
)

// disk is size bytes with single bytes set.
func disk(size int64, set ...int64) []byte {
	b := make([]byte, size)
	for _, off := range set {
		b[off] = byte(off>>9) | 1
	}
	return b
}

// golden is the SHA-256 of the small disk of TestQemuImg in layout v1.
const golden = "8173c3b0a40360585d60f5096d47572c128d24ebcb953c1f5defdd862c59b78e"

func TestGolden(t *testing.T) {
	var b bytes.Buffer
	if _, err := Write(context.Background(), &b, bytes.NewReader(disk(3<<20+512, 0, 70_000, 1<<20, 3<<20+511)), 3<<20+512); err != nil {
		t.Fatal(err)
	}
	if h := sha256.Sum256(b.Bytes()); hex.EncodeToString(h[:]) != golden {
		t.Errorf("layout v1 has changed: image %x, want %s", h, golden)
	}
}

// QEMU's own tool must find no fault and the same disk.
func TestQemuImg(t *testing.T) {
	qemu := testtool.Need(t, "qemu-img")
	for name, raw := range map[string][]byte{
		"small":         disk(3<<20+512, 0, 70_000, 1<<20, 3<<20+511),
		"one sector":    disk(512, 511),
		"nothing":       disk(1 << 20),
		"two L2 tables": disk(1<<30+65536, 5, 600<<20, 1<<30+65535),
		"full":          bytes.Repeat([]byte{7}, 5<<20),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			rawFile, image := filepath.Join(dir, "raw"), filepath.Join(dir, "image")
			if err := os.WriteFile(rawFile, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			n, err := Write(context.Background(), &b, bytes.NewReader(raw), int64(len(raw)))
			if err != nil || n != int64(b.Len()) {
				t.Fatalf("Write: %v, returned %d of %d bytes", err, n, b.Len())
			}
			if err := os.WriteFile(image, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			for want, args := range map[string][]string{
				"No errors were found":  {"check", "-f", "qcow2", image},
				"Images are identical.": {"compare", "-f", "raw", "-F", "qcow2", rawFile, image},
			} {
				if out, err := exec.Command(qemu, args...).CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
					t.Errorf("qemu-img %s: %v\n%s", args[0], err, out)
				}
			}
			// A count that is wrong must be seen, else the check above proves nothing.
			bad := b.Bytes()
			bad[2*cluster+1]++
			if err := os.WriteFile(image, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(qemu, "check", "-f", "qcow2", image).CombinedOutput(); err == nil {
				t.Errorf("qemu-img check accepts a wrong reference count:\n%s", out)
			}
		})
	}
}

// The counts of a file of more than 32,768 clusters need more than one block, and must count themselves.
func TestPlanCountsItself(t *testing.T) {
	for _, clusters := range []int64{1, 32_763, 32_764, 32_765, 32_766, 100_000, 1 << 25} {
		p := newPlan(clusters*cluster, []extent.Range{{Size: clusters * cluster}})
		if want := 1 + p.refTables + p.refBlocks + p.l1Clusters + int64(len(p.l2)+len(p.used)); p.total != want {
			t.Errorf("%d clusters: total %d, want %d", clusters, p.total, want)
		}
		if p.refBlocks*perRefcount < p.total || (p.refBlocks-1)*perRefcount >= p.total || p.refTables*cluster < p.refBlocks*8 {
			t.Errorf("%d clusters: %d tables and %d blocks of counts for %d clusters", clusters, p.refTables, p.refBlocks, p.total)
		}
	}
}

func TestRefuses(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for want, f := range map[string]func() error{
		"disk of 0 bytes": func() error {
			_, err := Write(context.Background(), &bytes.Buffer{}, bytes.NewReader(nil), 0)
			return err
		},
		"multiple of 512": func() error {
			_, err := Write(context.Background(), &bytes.Buffer{}, bytes.NewReader(nil), 513)
			return err
		},
		"ends at byte 1000": func() error {
			_, err := Write(context.Background(), &bytes.Buffer{}, bytes.NewReader(make([]byte, 1000)), 1024)
			return err
		},
		"context canceled": func() error {
			_, err := Write(canceled, &bytes.Buffer{}, bytes.NewReader(make([]byte, 512)), 512)
			return err
		},
		"no room": func() error {
			_, err := Write(context.Background(), full{}, bytes.NewReader(make([]byte, 512)), 512)
			return err
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

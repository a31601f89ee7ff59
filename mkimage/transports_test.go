package mkimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
)

// What was asked for is there, is in the manifest with its digest, and holds the same disk.
func TestTransports(t *testing.T) {
	out, m := buildFixture(t, fixtureInputs(t))
	raw, err := os.ReadFile(filepath.Join(out, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	for name, role := range map[string]string{"disk.qcow2": "qcow2", "disk.tar.gz": "tar.gz"} {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if a := m.Artifact(name); a == nil || a.Role != role || a.Size != int64(len(b)) || a.SHA256.String() != sum(b) {
			t.Errorf("%s: the manifest says %+v", name, a)
		}
	}
	if msg, err := exec.Command(testtool.Need(t, "qemu-img"), "compare", "-f", "raw", "-F", "qcow2", filepath.Join(out, "disk.raw"), filepath.Join(out, "disk.qcow2")).CombinedOutput(); err != nil {
		t.Errorf("qemu-img compare: %v\n%s", err, msg)
	}
	f, err := os.Open(filepath.Join(out, "disk.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, len(raw))
	if _, err := io.ReadFull(r, disk); err != nil || !bytes.Equal(disk, raw) {
		t.Errorf("disk.tar.gz does not begin with disk.raw (%v)", err)
	}
}

// The list of inputs is one of the files that the manifest names, and holds each of them.
func TestSBOM(t *testing.T) {
	in := fixtureInputs(t)
	out, m := buildFixture(t, in)
	b, err := os.ReadFile(filepath.Join(out, "sbom.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if a := m.Artifact("sbom.spdx.json"); a == nil || a.Role != "sbom" || a.SHA256.String() != sum(b) {
		t.Errorf("the manifest says %+v", a)
	}
	for _, want := range []string{`"spdxVersion": "SPDX-2.3"`, `"checksumValue": "` + in.List[0].SHA256.String(), `"checksumValue": "` + m.Artifact("disk.raw").SHA256.String()} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
}

func TestNoTransportUnasked(t *testing.T) {
	in := fixtureInputs(t)
	in.Outputs = nil
	out, m := buildFixture(t, in)
	for name := range transports {
		if _, err := os.Stat(filepath.Join(out, name)); err == nil || m.Artifact(name) != nil {
			t.Errorf("%s was made unasked", name)
		}
	}
	in.Outputs = []string{"disk.vhd"}
	bad := filepath.Join(t.TempDir(), "out")
	if _, err := Build(context.Background(), in, bad, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), `output "disk.vhd"`) {
		t.Errorf("got %v, want a refusal of disk.vhd", err)
	}
	if _, err := os.Stat(bad); err == nil {
		t.Error("a refused build left a directory")
	}
}

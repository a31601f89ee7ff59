package disk

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
)

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testtool.Need(t, name), args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C", "MTOOLS_SKIP_CHECK=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestSgdisk(t *testing.T) {
	s, files := fixture()
	p, l := write(t, s, files)
	if out := command(t, "sgdisk", "-v", p); !strings.Contains(out, "No problems found") || strings.Contains(strings.ToLower(out), "caution") {
		t.Errorf("sgdisk -v:\n%s", out)
	}
	table := command(t, "sgdisk", "-p", p)
	if want := guidText(derive("fixture", "disk")); !strings.Contains(table, want) {
		t.Errorf("sgdisk -p: no disk GUID %s in\n%s", want, table)
	}
	for i, part := range []struct {
		a               Area
		typ, guid, name string
		attr            string
	}{
		{l.ESP, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", guidText(derive("fixture", "esp")), "esp", "0000000000000000"},
		{l.Root, string(typeRoot), guidText([16]byte(rootHash[:16])), "root", "1000000000000000"},
		{l.Hash, string(typeVerity), guidText([16]byte(rootHash[16:])), "root-verity", "1000000000000000"},
	} {
		out := command(t, "sgdisk", "-i", fmt.Sprint(i+1), p)
		for _, want := range []string{
			"GUID code: " + part.typ, "unique GUID: " + part.guid, "name: '" + part.name + "'",
			fmt.Sprintf("First sector: %d ", part.a.Offset/512), fmt.Sprintf("Last sector: %d ", (part.a.Offset+part.a.Size)/512-1),
			"Attribute flags: " + part.attr,
		} {
			if !strings.Contains(out, want) {
				t.Errorf("sgdisk -i %d: no %q in\n%s", i+1, want, out)
			}
		}
	}
}

// fsck.vfat must have nothing to say, at each cluster size.
func TestFsckVfat(t *testing.T) {
	for _, payload := range []int64{3 << 20, 300 << 20} {
		s, files := fixture()
		s.ESPPayload = payload
		_, esp := extractESP(t, s, files)
		out := command(t, "fsck.vfat", "-n", "-v", esp)
		for _, bad := range []string{"nvalid", "differ", "wrong", "fix", "Fix", "mismatch", "ncorrect", "auto", "umount"} {
			if strings.Contains(out, bad) {
				t.Errorf("payload %d: fsck.vfat says %q:\n%s", payload, bad, out)
			}
		}
	}
}

func extractESP(t *testing.T, s Spec, files []File) (*Layout, string) {
	t.Helper()
	p, l := write(t, s, files)
	b, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	esp := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(esp, b[l.ESP.Offset:l.ESP.Offset+l.ESP.Size], 0o600); err != nil {
		t.Fatal(err)
	}
	return l, esp
}

// mtools reads back every file, its time, the label and the serial.
func TestMtools(t *testing.T) {
	s, files := fixture()
	_, esp := extractESP(t, s, files)
	for _, f := range files {
		out := filepath.Join(t.TempDir(), "out")
		command(t, "mcopy", "-n", "-i", esp, "::"+f.Path, out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("%s: %v, content differs", f.Path, err)
		}
	}
	serial := derive("fixture", "esp serial")
	list := command(t, "mdir", "-/", "-a", "-i", esp, "::")
	for _, want := range []string{
		"Volume in drive : is ESP",
		fmt.Sprintf("Volume Serial Number is %02X%02X-%02X%02X", serial[3], serial[2], serial[1], serial[0]),
		"BOOTX64  EFI   2097153 2026-01-01   0:00",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("mdir: no %q in\n%s", want, list)
		}
	}
	if strings.Count(list, "2026-01-01") != strings.Count(list, "0:00") {
		t.Errorf("mdir: an entry has another time:\n%s", list)
	}
}

package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
	"tally/mkimage/tree"
)

// onDisk writes the files of a tree below a directory, for a tool that can be told to work there.
func onDisk(t *testing.T, tr *tree.Tree) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range tr.Entries() {
		if e.Kind != tree.File {
			continue
		}
		p := filepath.Join(dir, e.Path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text(t, tr, e.Path)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func tool(t *testing.T, env string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// TestSysusersOracle holds users, groups and their numbers against the real systemd-sysusers.
func TestSysusersOracle(t *testing.T) {
	name := testtool.Need(t, "systemd-sysusers")
	tr := small(t, map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/group": "root:x:0:\nutmp:x:43:\n", "etc/shadow": "root:*:1:0:99999:7:::\n", "etc/gshadow": "root:*::\nutmp:*::\n",
		"usr/lib/sysusers.d/dbus.conf":    "# a user\nu messagebus - \"System Message Bus\" /nonexistent\nm messagebus render\n",
		"usr/lib/sysusers.d/udev.conf":    "g input -\ng sgx -\ng utmp 43 -\n\ng render -\n",
		"usr/lib/sysusers.d/x-fixed.conf": "u early 7:43 'A B' /srv /bin/sh\nu late - - /\nu root 0 - /root\n",
	})
	dir := onDisk(t, tr)
	tool(t, "SOURCE_DATE_EPOCH=1767225600", name, "--root="+dir)
	if err := run(t, sysusers, tr); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"} {
		want, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text(t, tr, f), "\n")); d != "" {
			t.Errorf("%s (-systemd-sysusers +ours):\n%s", f, d)
		}
	}
}

// TestCertificatesOracle holds the bundle against the real update-ca-certificates, over this machine's certificates.
func TestCertificatesOracle(t *testing.T) {
	name := testtool.Need(t, "update-ca-certificates")
	files := map[string]string{}
	all, _ := filepath.Glob("/usr/share/ca-certificates/*/*.crt")
	if len(all) == 0 {
		testtool.Missing(t, "no certificates below /usr/share/ca-certificates")
	}
	for _, p := range all {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files[p[1:]] = string(data)
	}
	tr := small(t, files)
	if err := run(t, certificates, tr); err != nil {
		t.Fatal(err)
	}
	dir := onDisk(t, tr)
	etc := t.TempDir()
	tool(t, "LC_ALL=C", name, "--certsconf", filepath.Join(dir, caConf), "--certsdir", filepath.Join(dir, caDir), "--localcertsdir", filepath.Join(dir, caLocal), "--etccertsdir", etc, "--hooksdir", "", "--fresh")
	want, err := os.ReadFile(filepath.Join(etc, "ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, tr, caBundle); got != string(want) {
		t.Errorf("bundle of %d certificates: %d bytes, update-ca-certificates writes %d others", len(all), len(got), len(want))
	}
	links, _ := filepath.Glob(etc + "/*.pem")
	for _, p := range links {
		if tr.Get(caLinks+"/"+filepath.Base(p)) == nil {
			t.Errorf("no link %s", filepath.Base(p))
		}
	}
}

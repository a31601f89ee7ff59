package scripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// diskTree writes a whole tree below a directory: files, directories, links.
func diskTree(t *testing.T, tr *tree.Tree) string {
	t.Helper()
	dir := onDisk(t, tr)
	for _, e := range tr.Entries() {
		p := filepath.Join(dir, e.Path)
		var err error
		switch e.Kind {
		case tree.Dir:
			if err = os.MkdirAll(p, 0o755); err == nil {
				err = os.Chmod(p, os.FileMode(e.Mode))
			}
		case tree.Symlink:
			if err = os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
				err = os.Symlink(e.Link, p)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sameBelow holds everything below sub in the directory that a tool has worked in against ours.
func sameBelow(t *testing.T, dir, sub string, tr *tree.Tree) {
	t.Helper()
	theirs := map[string]string{}
	err := filepath.WalkDir(filepath.Join(dir, sub), func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch d.Type() {
		case os.ModeSymlink:
			link, err := os.Readlink(p)
			theirs[rel] = "-> " + link
			return err
		case 0:
			data, err := os.ReadFile(p)
			theirs[rel] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]string{}
	for _, e := range tr.Entries() {
		if strings.HasPrefix(e.Path, sub+"/") && e.Kind != tree.Dir {
			ours[e.Path] = text(t, tr, e.Path)
		}
	}
	if d := cmp.Diff(theirs, ours); d != "" || len(theirs) == 0 {
		t.Errorf("%s: %d files (-tool +ours):\n%s", sub, len(theirs), d)
	}
}

// TestPAMOracle holds common-* against the real pam-auth-update, with this machine's templates and its
// profile for pam_unix beside two of ours.
func TestPAMOracle(t *testing.T) {
	name := testtool.Need(t, "pam-auth-update")
	files := map[string]string{
		"usr/share/pam-configs/first": "Name: first\nDefault: yes\nPriority: 900\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_first.so\n" +
			"Session-Type: Additional\nSession:\n\toptional\tpam_first.so  a   b\nPassword-Type: Additional\nPassword:\n\toptional\tpam_first.so\nPassword-Initial:\n\toptional\tpam_first.so initial\n",
		"usr/share/pam-configs/off": "Name: off\nDefault: no\nPriority: 1000\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_off.so\n",
		"etc/pam.d/":                "", "var/lib/pam/": "",
	}
	templates, _ := filepath.Glob("/usr/share/pam/common-*")
	for _, p := range append(templates, "/usr/share/pam-configs/unix") {
		if strings.HasSuffix(p, ".md5sums") {
			continue
		}
		data, err := os.ReadFile(p)
		if err != nil {
			testtool.Missing(t, err.Error())
		}
		files[p[1:]] = string(data)
	}
	tr := small(t, files)
	dir := diskTree(t, tr)
	if err := run(t, pam, tr); err != nil {
		t.Fatal(err)
	}
	rc := filepath.Join(t.TempDir(), "debconf.conf") // not this machine's own answers, which only root may read
	text := "Config: c\nTemplates: t\n\nName: c\nDriver: File\nFilename: " + rc + ".dat\n\nName: t\nDriver: File\nReadonly: true\nFilename: /var/cache/debconf/templates.dat\n"
	if err := os.WriteFile(rc, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DEBCONF_SYSTEMRC", rc)
	tool(t, "DEBIAN_FRONTEND=noninteractive", name, "--root", dir, "--package", "--force")
	sameBelow(t, dir, "etc/pam.d", tr)
}

// TestShellsOracle holds etc/shells against the real update-shells.
func TestShellsOracle(t *testing.T) {
	name := testtool.Need(t, "update-shells")
	for _, merged := range []bool{true, false} {
		tr := small(t, map[string]string{"usr/bin/sh": "", "usr/share/debianutils/shells": "# list\n/bin/sh\n", "usr/share/debianutils/shells.d/bash": "/bin/bash # a comment\n/bin/rbash\n",
			"usr/share/debianutils/shells.d/zsh": "/usr/local/bin/zsh\n/bin/bash\n", "etc/": "", "var/lib/": ""})
		if merged {
			if err := tr.Add(tree.Entry{Path: "bin", Kind: tree.Symlink, Mode: 0o777, Link: "usr/bin", Source: "test"}); err != nil {
				t.Fatal(err)
			}
		}
		dir := diskTree(t, tr)
		if err := run(t, shells, tr); err != nil {
			t.Fatal(err)
		}
		tool(t, "DPKG_ROOT=", name, "--root", dir)
		sameBelow(t, dir, "etc", tr)
	}
}

// TestAlternativesOracle holds the links against the real update-alternatives, called once for each
// alternative of our table whose target is there.
func TestAlternativesOracle(t *testing.T) {
	name := testtool.Need(t, "update-alternatives")
	files := map[string]string{"etc/alternatives/": "", "var/lib/dpkg/alternatives/": "", "var/log/": ""}
	for i, a := range declared {
		files[a.target] = ""
		files[filepath.Dir(a.link)+"/"] = "" // where a link goes, there is a directory
		for j, s := range a.slaves {
			if (i+j)%2 == 0 {
				files[s[2]] = ""
			}
			files[filepath.Dir(s[1])+"/"] = ""
		}
	}
	for p := range files {
		if strings.HasSuffix(p, "/") && files[p] == "" {
			for q := range files {
				if q != p && strings.HasPrefix(q, p) {
					delete(files, p)
					break
				}
			}
		}
	}
	tr := small(t, files)
	dir := diskTree(t, tr)
	if err := run(t, alternatives, tr); err != nil {
		t.Fatal(err)
	}
	for _, a := range declared {
		args := []string{"--root", dir, "--quiet", "--install", "/" + a.link, a.name, "/" + a.target, strconv.Itoa(a.priority)}
		for _, s := range a.slaves {
			args = append(args, "--slave", "/"+s[1], s[0], "/"+s[2])
		}
		tool(t, "LC_ALL=C", name, args...)
	}
	sameBelow(t, dir, "etc/alternatives", tr)
	sameBelow(t, dir, "usr", tr)
}

// TestUnitsOracle holds what is enabled against the real systemctl.
func TestUnitsOracle(t *testing.T) {
	name := testtool.Need(t, "systemctl")
	names := []string{"a.timer", "getty@tty1.service"}
	tr := small(t, map[string]string{
		unitDir + "getty@.service": "[Unit]\nDescription=x\n[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n[Service]\nExecStart=/bin/true\n",
		unitDir + "a.timer":        "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target x.target\nAlias=other.timer\nAlso=b.socket\n",
		unitDir + "b.socket":       "[Socket]\nListenStream=/run/b\n[Install]\nRequiredBy=sockets.target\n",
	})
	dir := diskTree(t, tr)
	if err := run(t, units, tr, names...); err != nil {
		t.Fatal(err)
	}
	tool(t, "LC_ALL=C", name, append([]string{"--root=" + dir, "enable"}, names...)...)
	sameBelow(t, dir, "etc", tr)
}

// TestTmpfilesOracle holds directories and links below /etc against the real systemd-tmpfiles.
func TestTmpfilesOracle(t *testing.T) {
	name := testtool.Need(t, "systemd-tmpfiles")
	tr := small(t, map[string]string{
		"usr/lib/tmpfiles.d/a.conf": "L+ /etc/mtab - - - - ../proc/self/mounts\nL /etc/factory\nd /etc/secret 0700 - -\nd /etc/there 0711\nd /etc/kept\nL /etc/own - - - - /other\nd /etc/a/b/c 0750\n",
		"usr/lib/tmpfiles.d/b.conf": "d /etc/secret 0777\nL /etc/second - - - - x\n", "usr/share/factory/etc/factory": "f",
		"etc/there/": "", "etc/kept/": "", "etc/own": "mine",
	})
	dir := diskTree(t, tr)
	if err := run(t, tmpfiles, tr); err != nil {
		t.Fatal(err)
	}
	tool(t, "LC_ALL=C", name, "--root="+dir, "--create", "--prefix=/etc")
	sameBelow(t, dir, "etc", tr)
	for _, p := range []string{"etc/secret", "etc/there", "etc/kept", "etc/a/b/c"} {
		fi, err := os.Stat(filepath.Join(dir, p))
		if err != nil {
			t.Fatal(err)
		}
		if e := tr.Get(p); e == nil || uint32(fi.Mode().Perm()) != e.Mode {
			t.Errorf("%s: %+v, systemd-tmpfiles gives it mode %o", p, e, fi.Mode().Perm())
		}
	}
}

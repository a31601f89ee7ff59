package scripts

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/tree"
)

const epoch = 1767225600 // day 20454

// small is a tree of files (path, contents); a path that ends in "/" is a directory.
func small(t *testing.T, files map[string]string) *tree.Tree {
	t.Helper()
	tr := tree.New()
	for p, text := range files {
		e := tree.NewFile(p, 0o644, []byte(text), "test")
		if d, ok := strings.CutSuffix(p, "/"); ok {
			e = tree.Entry{Path: d, Kind: tree.Dir, Mode: 0o755, Source: "test"}
		}
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

// run runs one step.
func run(t *testing.T, f func(*work) error, tr *tree.Tree, units ...string) error {
	t.Helper()
	return f(&work{ctx: context.Background(), t: tr, epoch: epoch, source: "test step", units: units})
}

func text(t *testing.T, tr *tree.Tree, p string) string {
	t.Helper()
	e := tr.Get(p)
	if e == nil {
		t.Fatalf("no %s", p)
	}
	if e.Kind == tree.Symlink {
		return "-> " + e.Link
	}
	var b bytes.Buffer
	if err := e.CopyTo(context.Background(), &b, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// want holds the tree against what a step must have made, twice: the second run changes nothing.
func want(t *testing.T, f func(*work) error, tr *tree.Tree, files map[string]string, units ...string) {
	t.Helper()
	if err := run(t, f, tr, units...); err != nil {
		t.Fatal(err)
	}
	for p, w := range files {
		if d := cmp.Diff(w, text(t, tr, p)); d != "" {
			t.Errorf("%s (-want +got):\n%s", p, d)
		}
	}
	before := tr.Digest(epoch)
	if err := run(t, f, tr, units...); err != nil || tr.Digest(epoch) != before {
		t.Errorf("a second run: %v, same tree: %v", err, tr.Digest(epoch) == before)
	}
}

// refuses wants an error that contains each of words.
func refuses(t *testing.T, f func(*work) error, tr *tree.Tree, word string, units ...string) {
	t.Helper()
	if err := run(t, f, tr, units...); err == nil || !strings.Contains(err.Error(), word) {
		t.Errorf("error %v, want one with %q", err, word)
	}
}

func TestApply(t *testing.T) {
	ctx := context.Background()
	fresh := func() *tree.Tree {
		return small(t, map[string]string{
			"usr/bin/mawk": "m", "usr/share/base-passwd/passwd.master": "root:*:0:0:root:/root:/bin/bash\n", "usr/share/base-passwd/group.master": "root:*:0:\n",
			"usr/lib/sysusers.d/dbus.conf": "u messagebus - \"System Message Bus\" /nonexistent\n", launcher: "l",
		})
	}
	one, two := fresh(), fresh()
	omitted, err := Apply(ctx, one, []string{"mawk", "base-passwd", "dbus"}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(ctx, two, []string{"dbus", "base-passwd", "mawk"}, epoch); err != nil {
		t.Fatal(err)
	}
	if one.Digest(epoch) != two.Digest(epoch) {
		t.Error("the order of the packages shows in the tree")
	}
	if d := cmp.Diff([]string{"package dbus: " + sysvLinks, "package dbus: " + restarts}, omitted); d != "" {
		t.Error(d)
	}
	if e := one.Get(launcher); e.Mode != 0o4754 || e.GID != 999 || text(t, one, launcher) != "l" {
		t.Errorf("launcher: mode %o, gid %d", e.Mode, e.GID)
	}
	if e := one.Get("etc/shadow"); e.Mode != 0o640 || e.GID != 42 || text(t, one, "etc/shadow") != "root:*:20454:0:99999:7:::\nmessagebus:!*:20454::::::\n" {
		t.Errorf("shadow: mode %o, gid %d\n%s", e.Mode, e.GID, text(t, one, "etc/shadow"))
	}
	if _, err := Apply(ctx, fresh(), []string{"mawk", "postfix"}, epoch); err == nil || !strings.Contains(err.Error(), "package postfix") {
		t.Errorf("unknown package: %v", err)
	}
	if !Known("linux-image-6.12.117+deb13-cloud-amd64") || Known("postfix") || Known("linux-image") {
		t.Error("Known")
	}
}

// TestTable: every rule names steps that exist, and every alternative belongs to a package that asks for that step.
func TestTable(t *testing.T) {
	exists := map[string]bool{}
	for _, s := range order {
		exists[s.name] = true
	}
	for name, r := range table {
		for _, s := range strings.Fields(r.steps) {
			if !exists[s] {
				t.Errorf("package %s: no step %q", name, s)
			}
		}
		if len(r.units) > 0 && !strings.Contains(r.steps, "units") {
			t.Errorf("package %s: units without the step", name)
		}
	}
	for _, a := range declared {
		if tree.CheckPath(a.link) != nil || tree.CheckPath(a.target) != nil {
			t.Errorf("alternative %s: %q, %q", a.name, a.link, a.target)
		}
	}
}

func TestBase(t *testing.T) {
	files := map[string]string{"var/run/": "", "var/lock/": ""}
	for _, f := range []string{"dot.profile", "dot.bashrc", "profile", "motd"} {
		files["usr/share/base-files/"+f] = f
	}
	tr := small(t, files)
	want(t, base, tr, map[string]string{"var/run": "-> /run", "var/lock": "-> /run/lock", "root/.profile": "dot.profile", "etc/motd": "motd", "var/log/btmp": ""})
	if e := tr.Get("var/mail"); e.Mode != 0o2775 || e.GID != 8 {
		t.Errorf("var/mail: %o %d", e.Mode, e.GID)
	}
	files["var/run/x"] = "lost"
	refuses(t, base, small(t, files), `path "var/run/x"`)
	delete(files, "var/run/x")
	files["usr/share/info/a.info"], files["usr/share/base-files/info.dir"] = "a", "list"
	want(t, base, small(t, files), map[string]string{"usr/share/info/dir": "list"})
	refuses(t, base, tree.New(), "dot.profile")
}

func TestFiles(t *testing.T) {
	tr := small(t, map[string]string{
		"usr/share/libc-bin/nsswitch.conf": "n", "usr/share/zoneinfo/Etc/UTC": "z", "etc/security/": "", "etc/modules-load.d/modules.conf": "",
		"usr/share/debianutils/shells": "# list\n/bin/sh\n", "usr/share/debianutils/shells.d/bash": "/bin/bash\n/bin/sh\n", "usr/share/debianutils/shells.d/dash": "/usr/bin/dash\n",
	})
	want(t, files, tr, map[string]string{
		"etc/nsswitch.conf": "n", "etc/modules": "", "etc/localtime": "-> /usr/share/zoneinfo/Etc/UTC", "etc/machine-id": "", "etc/shells": "# list\n/bin/sh\n/bin/bash\n/usr/bin/dash\n",
	})
	if tr.Get("etc/security/opasswd").Mode != 0o600 {
		t.Error("opasswd")
	}
	chosen := small(t, map[string]string{"etc/machine-id": "chosen", "etc/nsswitch.conf": "mine", "usr/share/libc-bin/nsswitch.conf": "n"})
	want(t, files, chosen, map[string]string{"etc/machine-id": "chosen", "etc/nsswitch.conf": "mine"})
}

func TestTmpfiles(t *testing.T) {
	tr := small(t, map[string]string{
		"usr/lib/tmpfiles.d/a.conf": "# links\nL+ /etc/mtab - - - - ../proc/self/mounts\nL /etc/factory\nd /etc/secret 0700 root root\nd /etc/there 0700 0 0\nd /etc/kept\n" +
			"d /var/lib/x 0700 - -\nf^ /etc/hosts - - - - network.hosts\nr! /etc/group.lock\nL$ /etc/late - - - - /b\n",
		"usr/lib/tmpfiles.d/b.conf": "d /etc/secret 0777\n", "usr/lib/tmpfiles.d/c.conf": "L /etc/hidden\n", "etc/tmpfiles.d/c.conf": "",
		"etc/there/": "", "etc/kept/": "",
	})
	want(t, tmpfiles, tr, map[string]string{"etc/mtab": "-> ../proc/self/mounts", "etc/factory": "-> /usr/share/factory/etc/factory", "etc/late": "-> /b"})
	for p, mode := range map[string]uint32{"etc/secret": 0o700, "etc/there": 0o700, "etc/kept": 0o755} {
		if e := tr.Get(p); e == nil || e.Kind != tree.Dir || e.Mode != mode {
			t.Errorf("%s: %+v, want mode %o", p, e, mode)
		}
	}
	for _, p := range []string{"var/lib/x", "etc/hosts", "etc/group.lock", "etc/hidden"} {
		if tr.Get(p) != nil {
			t.Errorf("%s is there", p)
		}
	}
	for line, word := range map[string]string{
		"d /etc/%m": "specifiers", "L /etc/x - - - - /%b": "specifiers", "d /etc/x rwx": "octal", "d /etc/x 0755 daemon daemon": "want root", "d /etc/../x": "etc/../x",
		"d \"/etc/x": "quote without end", "d /etc/tmpfiles.d/a.conf/": "want a directory",
	} {
		refuses(t, tmpfiles, small(t, map[string]string{"etc/tmpfiles.d/a.conf": line + "\n"}), word)
	}
}

func TestAccounts(t *testing.T) {
	want(t, accounts, small(t, map[string]string{
		"usr/share/base-passwd/passwd.master": "root:*:0:0:root:/root:/bin/bash\n", "usr/share/base-passwd/group.master": "root:*:0:\n",
	}), map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/group": "root:x:0:\n", "etc/subuid": "", "etc/subgid": ""})
	refuses(t, accounts, small(t, map[string]string{"usr/share/base-passwd/passwd.master": "root\n"}), `row "root"`)
	want(t, shadow, small(t, map[string]string{"etc/passwd": "a:x:1:1:::\nb:x:2:2:::\n", "etc/group": "g:x:1:a,b\n", "etc/shadow": "a:$y$:1:::::::\n"}),
		map[string]string{"etc/shadow": "a:$y$:1:::::::\nb:*:20454:0:99999:7:::\n", "etc/gshadow": "g:*::a,b\n"})
	refuses(t, shadow, small(t, map[string]string{"etc/passwd": "a:x\n"}), "at least 4 fields")
	refuses(t, owners, small(t, map[string]string{launcher: ""}), `group "messagebus"`)
}

func TestSysusers(t *testing.T) {
	tr := small(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/bash\n", "etc/group": "root:x:0:\nutmp:x:43:\n",
		"usr/lib/sysusers.d/a.conf": "# users\ng utmp 7 -\nu! net - \"Net work\"\nm net kvm\n",
		"usr/lib/sysusers.d/b.conf": "g kvm -\ng high 999\nu fixed 5:43 - /srv /bin/sh\n",
		"usr/lib/sysusers.d/c.conf": "u hidden -\n",
		"etc/sysusers.d/c.conf":     "",
	})
	want(t, sysusers, tr, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/bash\nnet:x:998:998:Net work:/:/usr/sbin/nologin\nfixed:x:5:43::/srv:/bin/sh\n",
		"etc/group":  "root:x:0:\nutmp:x:43:\nkvm:x:999:net\nhigh:x:999:\nnet:x:998:\n",
		"etc/shadow": "net:!*:20454:::::1:\nfixed:!*:20454::::::\n", "etc/gshadow": "kvm:!*::net\nhigh:!*::\nnet:!*::\n",
	})
	for line, word := range map[string]string{
		"r - 500-900": `type "r"`, "u": "1 fields", "u a /path": "want a number", "u a - \"x": "quote without end", "u a - %H": "specifiers", "u a:b": "colon",
		"m nobody nogroup": "both declared", "u a - g d s x": "7 fields", "g x -1": "want a number",
	} {
		refuses(t, sysusers, small(t, map[string]string{"usr/lib/sysusers.d/a.conf": line + "\n"}), word)
	}
}

func TestAlternatives(t *testing.T) {
	tr := small(t, map[string]string{"usr/bin/mawk": "", "usr/bin/more": "", "usr/share/man/man1/mawk.1.gz": "", "usr/bin/which.debianutils": "", "usr/bin/which": "own"})
	if err := tr.Add(tree.Entry{Path: "bin", Kind: tree.Symlink, Mode: 0o777, Link: "usr/bin", Source: "test"}); err != nil {
		t.Fatal(err)
	}
	want(t, alternatives, tr, map[string]string{
		"usr/bin/awk": "-> /etc/alternatives/awk", "etc/alternatives/awk": "-> /usr/bin/mawk", "usr/bin/nawk": "-> /etc/alternatives/nawk",
		"usr/share/man/man1/awk.1.gz": "-> /etc/alternatives/awk.1.gz", "etc/alternatives/pager": "-> /bin/more", "usr/bin/which": "own",
	})
	for _, p := range []string{"usr/bin/mt", "usr/share/man/man1/pager.1.gz"} {
		if tr.Get(p) != nil {
			t.Errorf("%s: a link to nothing", p)
		}
	}
}

func TestCertificates(t *testing.T) {
	pem := func(s string) string { return pemBegin + "\n" + s + "\n-----END CERTIFICATE-----\n" }
	tr := small(t, map[string]string{"usr/share/ca-certificates/m/B.crt": pem("b"), "usr/share/ca-certificates/m/A (1).crt": strings.TrimSuffix(pem("a"), "\n"), "usr/local/share/ca-certificates/own.crt": pem("own")})
	want(t, certificates, tr, map[string]string{
		caConf: "m/A (1).crt\nm/B.crt\n", caBundle: pem("own") + pem("a") + pem("b"),
		"etc/ssl/certs/A_=1=.pem": "-> /usr/share/ca-certificates/m/A (1).crt", "etc/ssl/certs/own.pem": "-> /usr/local/share/ca-certificates/own.crt",
	})
	off := small(t, map[string]string{"usr/share/ca-certificates/m/A.crt": pem("a"), "usr/share/ca-certificates/m/B.crt": pem("b"), caConf: "# chosen\n!m/A.crt\nm/B.crt\n"})
	want(t, certificates, off, map[string]string{caBundle: pem("b")})
	refuses(t, certificates, small(t, map[string]string{"usr/share/ca-certificates/x.crt": "DER"}), "PEM form")
	refuses(t, certificates, small(t, map[string]string{caConf: "gone.crt\n"}), "gone.crt")
}

func TestUnits(t *testing.T) {
	tr := small(t, map[string]string{
		unitDir + "getty@.service": "[Unit]\nWantedBy=no\n[Install]\n# c=d\nWantedBy=getty.target\nDefaultInstance=tty1\n",
		unitDir + "a.timer":        "[Install]\nWantedBy=timers.target x.target\nAlias=other.timer\nAlso=b.socket\n",
		unitDir + "b.socket":       "[Install]\nRequiredBy=sockets.target\n",
	})
	want(t, units, tr, map[string]string{
		"etc/systemd/system/getty.target.wants/getty@tty1.service": "-> /usr/lib/systemd/system/getty@.service",
		"etc/systemd/system/timers.target.wants/a.timer":           "-> /usr/lib/systemd/system/a.timer",
		"etc/systemd/system/x.target.wants/a.timer":                "-> /usr/lib/systemd/system/a.timer",
		"etc/systemd/system/other.timer":                           "-> /usr/lib/systemd/system/a.timer",
		"etc/systemd/system/sockets.target.requires/b.socket":      "-> /usr/lib/systemd/system/b.socket",
	}, "a.timer", "getty@tty1.service")
	refuses(t, units, tr, `unit "c.service"`, "c.service")
	refuses(t, units, small(t, map[string]string{unitDir + "x.service": "[Install]\nMagic=1\n"}), "Magic", "x.service")
	refuses(t, units, small(t, map[string]string{unitDir + "x.service": "[Install]\nAlso=x.service\n"}), "circles", "x.service")
}

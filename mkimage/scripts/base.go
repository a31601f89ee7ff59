package scripts

import (
	"fmt"
	"path"
	"strings"

	"tally/mkimage/tree"
)

// Group ids that Debian fixes (Policy 9.2.2; base-passwd's group.master).
const (
	gidMail   = 8
	gidShadow = 42
	gidUtmp   = 43
)

// base is base-files' postinst. What packages keep in the directories /var/run and /var/lock would be
// hidden by a mount at boot; the links that take their place must not hide anything.
func base(w *work) error {
	for _, d := range []string{"mnt", "srv", "opt", "etc/opt", "var/opt", "media", "usr/local", "usr/local/share", "usr/local/share/man", "usr/local/bin",
		"usr/local/games", "usr/local/lib", "usr/local/libexec", "usr/local/include", "usr/local/sbin", "usr/local/src", "usr/local/etc"} {
		if err := w.dir(d, 0o755, 0); err != nil {
			return err
		}
	}
	if err := w.dir("var/mail", 0o2775, gidMail); err != nil {
		return err
	}
	for _, l := range [][2]string{{"var/run", "/run"}, {"var/lock", "/run/lock"}} {
		if err := w.emptyToLink(l[0], l[1]); err != nil {
			return err
		}
	}
	for _, l := range [][2]string{{"var/spool/mail", "../mail"}, {"usr/local/man", "share/man"}, {"etc/dpkg/origins/default", "debian"}} {
		if err := w.link(l[0], l[1]); err != nil {
			return err
		}
	}
	for _, f := range [][2]string{{"dot.profile", "root/.profile"}, {"dot.bashrc", "root/.bashrc"}, {"profile", "etc/profile"}, {"motd", "etc/motd"}} {
		if err := w.copyNew("usr/share/base-files/"+f[0], f[1], 0o644); err != nil {
			return err
		}
	}
	if w.below("usr/share/info", "") != nil {
		if err := w.copyNew("usr/share/base-files/info.dir", "usr/share/info/dir", 0o644); err != nil {
			return err
		}
	}
	return logs(w)
}

// logs makes the empty files in which logins are counted.
func logs(w *work) error {
	if err := w.writeNew("var/log/btmp", 0o660, gidUtmp, nil); err != nil {
		return err
	}
	if err := w.writeNew("var/log/lastlog", 0o664, gidUtmp, nil); err != nil {
		return err
	}
	return w.writeNew("var/log/wtmp", 0o664, gidUtmp, nil)
}

// emptyToLink puts a symbolic link in place of a directory that has nothing in it.
func (w *work) emptyToLink(p, target string) error {
	e := w.t.Get(p)
	if e == nil {
		return w.link(p, target)
	}
	if e.Kind == tree.Symlink {
		return nil
	}
	for _, other := range w.t.Entries() {
		if strings.HasPrefix(other.Path, p+"/") {
			return fmt.Errorf("path %q from %s: %q is to be a link to %s, want it empty", other.Path, other.Source, p, target)
		}
	}
	return w.t.Replace(tree.Entry{Path: p, Kind: tree.Symlink, Mode: 0o777, Link: target, MTime: w.epoch, Source: w.source})
}

// files makes the single files that several packages want, each when its package is there.
func files(w *work) error {
	const nsswitch = "usr/share/libc-bin/nsswitch.conf"
	if w.t.Get(nsswitch) != nil {
		if err := w.copyNew(nsswitch, "etc/nsswitch.conf", 0o644); err != nil {
			return err
		}
	}
	if err := shells(w); err != nil {
		return err
	}
	// Empty, not absent: systemd then makes an id of its own at every boot and takes it for no first boot
	// (machine-id(5)). An id in the image would be the same on every machine.
	if err := w.writeNew("etc/machine-id", 0o444, 0, nil); err != nil {
		return err
	}
	if w.t.Get("etc/security") != nil {
		if err := w.writeNew("etc/security/opasswd", 0o600, 0, nil); err != nil {
			return err
		}
	}
	if err := w.writeNew("etc/environment", 0o644, 0, nil); err != nil {
		return err
	}
	// kmod's list of modules for every boot, to which modules-load.d has a link: nothing is on it.
	if w.t.Get("etc/modules-load.d/modules.conf") != nil {
		if err := w.writeNew("etc/modules", 0o644, 0, nil); err != nil {
			return err
		}
	}
	if w.t.Get("usr/share/zoneinfo/Etc/UTC") == nil {
		return nil
	}
	return w.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
}

// shells is debianutils' update-shells: its list, and behind it what packages declare in shells.d; each
// shell also by the path at which it really is, /bin being a link to /usr/bin.
func shells(w *work) error {
	const dir = "usr/share/debianutils/"
	have, ok, err := w.lines("etc/shells")
	if err != nil {
		return err
	}
	template, there, err := w.lines(dir + "shells")
	if err != nil || !ok && !there {
		return err
	}
	declared := template
	for _, p := range w.below(dir+"shells.d", "") {
		more, _, err := w.lines(p)
		if err != nil {
			return err
		}
		declared = append(declared, more...)
	}
	if !ok {
		have = template
	}
	seen := map[string]bool{}
	var all []string
	for _, s := range have {
		if name, _, _ := strings.Cut(s, "#"); name == "" || !seen[name] {
			seen[name] = true
			all = append(all, s)
		}
	}
	for _, s := range declared {
		name, _, _ := strings.Cut(s, "#")
		for _, s := range []string{name, w.real(name)} {
			if s != "" && !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	return w.write("etc/shells", 0o644, 0, []byte(strings.Join(all, "\n")+"\n"))
}

// lines reads a file of lines.
func (w *work) lines(p string) ([]string, bool, error) {
	data, ok, err := w.read(p)
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), ok, err
}

// real is an absolute path whose first directory is no link.
func (w *work) real(p string) string {
	top, rest, ok := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	if e := w.t.Get(top); ok && e != nil && e.Kind == tree.Symlink {
		return "/" + path.Join(e.Link, rest)
	}
	return p
}

// launcher is the program of dbus that starts services as other users (dbus' postinst).
const launcher = "usr/lib/dbus-1.0/dbus-daemon-launch-helper"

// owners gives files the owners that only exist once users do.
func owners(w *work) error {
	e := w.t.Get(launcher)
	if e == nil {
		return nil
	}
	gid, err := w.groupID("messagebus")
	if err != nil {
		return err
	}
	c := *e
	c.Mode, c.GID = 0o4754, gid
	return w.t.Replace(c)
}

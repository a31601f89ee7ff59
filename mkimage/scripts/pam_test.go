package scripts

import (
	"context"
	"strings"
	"testing"

	"tally/mkimage/tree"
)

// TestPAM: the expected lines are what Debian 13's pam-auth-update writes for its own profile "unix", whose
// fields stand here, and for one more; the spaces at the ends of lines are its, too.
func TestPAM(t *testing.T) {
	template := func(kind, variable string) string {
		return "# head\n$" + variable + "_primary\n" + kind + "\trequisite\t\t\tpam_deny.so\n$" + variable + "_additional\n# end\n"
	}
	files := map[string]string{
		"usr/share/pam-configs/unix": "Name: Unix authentication\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_unix.so nullok try_first_pass\n" +
			"Auth-Initial:\n\t[success=end default=ignore]\tpam_unix.so nullok\nAccount-Type: Primary\nAccount-Initial:\n\t[success=end new_authtok_reqd=done default=ignore]\tpam_unix.so\n" +
			"Session-Type: Additional\nSession:\n\trequired\tpam_unix.so\nSession-Initial:\n\trequired\tpam_unix.so\n",
		"usr/share/pam-configs/mkhomedir": "Name: home\nDefault: no\nPriority: 0\nSession-Type: Additional\nSession:\n\toptional\tpam_mkhomedir.so\n",
		"usr/share/pam/common-account":    template("account", "account"), "usr/share/pam/common-auth": template("auth", "auth"), "usr/share/pam/common-session": template("session", "session"),
		"usr/share/pam/common-session-noninteractive": template("session", "session_nonint"),
	}
	tr := small(t, files)
	want(t, pam, tr, map[string]string{
		"etc/pam.d/common-auth":    "# head\nauth\t[success=1 default=ignore]\tpam_unix.so nullok\nauth\trequisite\t\t\tpam_deny.so\n# end\n",
		"etc/pam.d/common-account": "# head\naccount\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so \naccount\trequisite\t\t\tpam_deny.so\n# end\n",
		"etc/pam.d/common-session": "# head\nsession\t[default=1]\t\t\tpam_permit.so\nsession\trequisite\t\t\tpam_deny.so\nsession\trequired\tpam_unix.so \n# end\n",
	})
	files["usr/share/pam-configs/first"] = "Name: first\nDefault: yes\nPriority: 900\nAuth-Type: Primary\nAuth:\n\t[success=end default=ignore]\tpam_first.so\n" +
		"Session-Type: Additional\nSession-Interactive-Only: yes\nSession:\n\toptional\tpam_first.so  a   b\n"
	want(t, pam, small(t, files), map[string]string{
		"etc/pam.d/common-auth":                   "# head\nauth\t[success=2 default=ignore]\tpam_first.so \nauth\t[success=1 default=ignore]\tpam_unix.so nullok try_first_pass\nauth\trequisite\t\t\tpam_deny.so\n# end\n",
		"etc/pam.d/common-session":                "# head\nsession\t[default=1]\t\t\tpam_permit.so\nsession\trequisite\t\t\tpam_deny.so\nsession\toptional\tpam_first.so a b\nsession\trequired\tpam_unix.so \n# end\n",
		"etc/pam.d/common-session-noninteractive": "# head\nsession\t[default=1]\t\t\tpam_permit.so\nsession\trequisite\t\t\tpam_deny.so\nsession\trequired\tpam_unix.so \n# end\n",
	})
	for text, word := range map[string]string{"Name: x\nPriority: high\n": "priority", " x\n": "continues no field", "x\n": "want NAME: VALUE", "Priority: 1\nConflicts: y\n": "Conflicts"} {
		refuses(t, pam, small(t, map[string]string{"usr/share/pam-configs/x": text}), word)
	}
	refuses(t, pam, small(t, map[string]string{"usr/share/pam/common-auth": "# no variables\n"}), "$auth_primary")
}

// FuzzParsers: whatever stands in these files, nothing panics, and a refusal is an error.
func FuzzParsers(f *testing.F) {
	f.Add("u! a 1:2 \"b c\" / /bin/sh")
	f.Add("Name: x\n\t[success=end\tpam_unix.so")
	f.Add("L+ /etc/mtab - - - - ../proc/self/mounts\nd /etc/x 0700 root root")
	f.Add("[Install]\nWantedBy=a\n=")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := parseSysuser(s); err == nil && u.kind != "" && u.name == "" {
			t.Errorf("a user without a name: %q", s)
		}
		tr := tree.New()
		if err := tr.Add(tree.NewFile("usr/lib/tmpfiles.d/x.conf", 0o644, []byte(s), "fuzz")); err != nil {
			t.Fatal(err)
		}
		if err := tmpfiles(&work{ctx: context.Background(), t: tr, source: "fuzz"}); err == nil {
			for _, e := range tr.Entries() {
				if !strings.HasPrefix(e.Path+"/", "usr/") && !strings.HasPrefix(e.Path+"/", "etc/") && e.Path != "" {
					t.Errorf("%q is outside /etc", e.Path)
				}
			}
		}
		_, _ = pamFields(s)
		installFields(s)
		pamLine(s)
	})
}

package release_test

import (
	"strings"
	"testing"

	"tally/release"
)

// What was asked for is compared letter by letter, and each comparison is said.
func TestCheckName(t *testing.T) {
	r := &release.Result{Statement: exampleStatement(t)} // minimal 0.1.0
	for _, tt := range []struct {
		name, version string
		want          release.Reason
	}{
		{"minimal", "0.1.0", ""}, {"minimal", "", ""}, {"minimal", "0.1", release.BadName}, {"minimal", "0.1.00", release.BadName}, {"Minimal", "0.1.0", release.BadName},
		{"minima\u04cf", "", release.BadName}, {"", "", release.BadName}, {"", "0.1.0", release.BadName}, {"maximal", "", release.BadName},
	} {
		r.Checks = nil
		if err := r.CheckName(tt.name, tt.version); reason(t, err) != tt.want {
			t.Errorf("%s %s: %v, want %q", tt.name, tt.version, err, tt.want)
		}
		if failed := len(r.Checks) == 1 && r.Checks[0].Status == release.Failed; failed != (tt.want != "") {
			t.Errorf("%s %s: %+v", tt.name, tt.version, r.Checks)
		}
	}
	if err := new(release.Result).CheckName("", ""); reason(t, err) != release.BadName {
		t.Errorf("nothing verified: %v", err)
	}
	disk, _ := r.Statement.SubjectDigest("disk.raw")
	for name, tt := range map[string]struct {
		got  release.Digest
		want string
	}{
		"disk.raw": {disk, ""}, "initrd": {disk, "has SHA-256"}, "Disk.raw": {disk, "not a subject"}, "dusk.raw": {release.Digest{}, "not a subject"}, "": {disk, "not a subject"},
	} {
		r.Checks = nil
		err := r.CheckArtifact(name, tt.got)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || reason(t, err) != release.BadArtifact || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if len(r.Checks) != 1 || (r.Checks[0].Status == release.OK) != (tt.want == "") {
			t.Errorf("%s: %+v", name, r.Checks)
		}
	}
}

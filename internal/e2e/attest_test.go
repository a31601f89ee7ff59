package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkAttested has a client count the rebuild of r.sigstore.json, and looks at how it says that the inputs were checked.
func (l *line) checkAttested(t *testing.T) {
	t.Helper()
	quorum := string(read(t, filepath.Join(l.dir, "policy.yaml"))) + "  rebuilders: {need: 1, keys: [{file: rebuilder.pub}]}\n"
	quorum = strings.Replace(quorum, "evidence:\n  platforms: [insecure]\n", "", 1)
	if err := os.WriteFile(filepath.Join(l.dir, "quorum.yaml"), []byte(quorum), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := l.tallyMust(t, "release", "verify", "b.sigstore.json", "--with", "r.sigstore.json", "--policy", "quorum.yaml"); !strings.Contains(out, "1 reproduced the release") {
		t.Errorf("a client does not count the rebuild:\n%s", out)
	}
	var b struct{ DsseEnvelope struct{ Payload []byte } }
	if err := json.Unmarshal(read(t, filepath.Join(l.dir, "r.sigstore.json")), &b); err != nil {
		t.Fatal(err)
	}
	index, hash := bytes.Count(b.DsseEnvelope.Payload, []byte(`"verified":"index"`)), bytes.Count(b.DsseEnvelope.Payload, []byte(`"verified":"hash"`))
	t.Logf("of the inputs %d were checked by a signed index, %d by their hash", index, hash)
	if scratch := l.lock == filepath.Join(l.dir, "scratch.lock"); scratch && index == 0 || hash == 0 {
		t.Error("the index that the lock was made from just now vouches for no package, or nothing was checked by its hash")
	}
}

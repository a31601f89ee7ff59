package policy_test

import (
	"strings"
	"testing"

	"tally/policy"
	rt "tally/release/releasetest"
)

func TestRebuilders(t *testing.T) {
	keys := map[string][]byte{"me": rt.Key(t).Public().PEM(), "a": rt.Key(t).Public().PEM(), "b": rt.Key(t).Public().PEM(), "r": rt.Key(t).Public().PEM()}
	read := func(name string) ([]byte, error) { return keys[name], nil }
	text := func(rebuilders string) []byte {
		return []byte("schema: tally.policy/v1\nrelease:\n  signers: [{file: me}]\n  log: {vkey: " + vkey + ", witnesses: none}\n" +
			"  revocation-keys: [{file: r}]\n  rebuilders: " + rebuilders + "\n")
	}
	p, err := policy.Parse(text("{need: 1, keys: [{file: a}, {file: b, not-after: \"2027-01-01T00:00:00Z\"}], logs: [{vkey: "+vkey+", witnesses: none, from: there}]}"), "p", read)
	if err != nil {
		t.Fatal(err)
	}
	r := p.Release.Rebuilders
	if err := p.Release.Check(); err != nil || r.Need != 1 || len(r.Keys) != 2 || r.Keys[1].NotAfter.IsZero() || len(r.Logs) != 1 || !r.Logs[0].Unwitnessed ||
		len(p.RebuildsFrom) != 1 || p.RebuildsFrom[0] != "there" || len(p.Release.Revokers) != 1 {
		t.Errorf("%v, %+v, from %q", err, r, p.RebuildsFrom)
	}
	if p, err := policy.Parse(text("{need: 1, keys: [{file: me}]}"), "p", read); err != nil || p.Release.Check() == nil {
		t.Errorf("the maintainer as rebuilder: %v", err)
	}
	for bad, want := range map[string]string{
		"{keys: [{file: a}]}": "need", "{need: 1}": "need 1 of 0 keys", "{need: 2, keys: [{file: a}]}": "p:6:22: need 2 of 1 keys", "{need: -1, keys: [{file: a}]}": "need -1",
		"{need: 0, keys: []}": "at least one", "{need: some, keys: [{file: a}]}": "need", "{need: 1, keys: [{}]}": "either", "{need: 1, keys: [{file: a}], log: x}": `unknown key "log"`,
	} {
		if _, err := policy.Parse(text(bad), "p", read); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", bad, err, want)
		}
	}
}

func TestOtherWires(t *testing.T) {
	for value, want := range map[string]bool{"refuse": true, "\"\"": false} {
		p, err := policy.Parse([]byte("schema: tally.policy/v1\nrelease:\n  other-wires: "+value+"\n"), "p", nil)
		if err != nil || p.Release.RefuseWires != want {
			t.Errorf("%s: %v", value, err)
		}
	}
	if _, err := policy.Parse([]byte("schema: tally.policy/v1\nrelease:\n  other-wires: confer\n"), "p", nil); err == nil || err.Error() != `p:3:16: other-wires "confer": want refuse` {
		t.Error(err)
	}
}

func TestOCIManifest(t *testing.T) {
	for value, want := range map[string]bool{"require": true, "\"\"": false} {
		p, err := policy.Parse([]byte("schema: tally.policy/v1\nrelease:\n  oci-manifest: "+value+"\n"), "p", nil)
		if err != nil || p.Release.OCIManifest != want {
			t.Errorf("%s: %v", value, err)
		}
	}
	if _, err := policy.Parse([]byte("schema: tally.policy/v1\nrelease:\n  oci-manifest: allow\n"), "p", nil); err == nil || err.Error() != `p:3:17: oci-manifest "allow": want require` {
		t.Error(err)
	}
}

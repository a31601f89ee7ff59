package release_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// unlogged is a signed bundle and its JSON, without a log.
func unlogged(t testing.TB) (*sign.Key, *release.Bundle, map[string]any) {
	t.Helper()
	w := &rt.World{Out: rt.Out(t), Key: rt.Key(t)}
	b := w.Sign(t, w.Key, sign.Options{Sequence: 1})
	parsed := must(release.ParseBundle(b))
	var j map[string]any
	if err := json.Unmarshal(b, &j); err != nil {
		t.Fatal(err)
	}
	return w.Key, parsed, j
}

func bytes64(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

// TestBundleLimits goes to each limit of a bundle and one further.
func TestBundleLimits(t *testing.T) {
	_, _, plain := unlogged(t)
	text := must(json.Marshal(plain))
	type object = map[string]any
	entry := func(log byte, hashes, checkpoint, keyID, root int) object {
		list := []any{}
		for range hashes {
			list = append(list, bytes64(32))
		}
		id := make([]byte, keyID)
		if keyID > 0 {
			id[0] = log
		}
		return object{"logIndex": "0", "logId": object{"keyId": base64.StdEncoding.EncodeToString(id)}, "kindVersion": object{"kind": "hashedrekord", "version": "0.0.2"},
			"inclusionProof": object{"logIndex": "0", "rootHash": bytes64(root), "treeSize": "1", "hashes": list, "checkpoint": object{"envelope": strings.Repeat("x", checkpoint)}}, "canonicalizedBody": ""}
	}
	entries := func(list ...any) func(j object) {
		return func(j object) { j["verificationMaterial"].(object)["tlogEntries"] = list }
	}
	plainEntry := func(log byte) object { return entry(log, 0, 0, 32, 32) }
	envelope := func(payload, sig int) func(j object) {
		return func(j object) {
			e := j["dsseEnvelope"].(object)
			e["payload"], e["signatures"] = bytes64(payload), []any{object{"sig": bytes64(sig)}}
		}
	}
	hint := func(s string) func(j object) {
		return func(j object) { j["verificationMaterial"].(object)["publicKey"] = object{"hint": s} }
	}
	certified := func(cert int, stamps ...int) func(j object) {
		return func(j object) {
			list := []any{}
			for _, n := range stamps {
				list = append(list, object{"signedTimestamp": bytes64(n)})
			}
			j["verificationMaterial"] = object{"certificate": object{"rawBytes": bytes64(cert)}, "timestampVerificationData": object{"rfc3161Timestamps": list}}
		}
	}
	hashCut := plainEntry(1)
	hashCut["inclusionProof"].(object)["hashes"] = []any{bytes64(31)}
	for _, c := range []struct {
		name string
		edit func(j object)
		want string
	}{
		{"nothing", func(object) {}, ""},
		{"no payload", envelope(0, 70), "payload has 0"}, {"largest payload", envelope(release.MaxStatement, 70), ""}, {"larger payload", envelope(release.MaxStatement+1, 70), "payload has"},
		{"no signature", envelope(9, 0), "signature has 0"}, {"largest signature", envelope(9, 128), ""}, {"larger signature", envelope(9, 129), "signature has 129"},
		{"no signatures", func(j object) { j["dsseEnvelope"].(object)["signatures"] = []any{} }, "0 signatures"},
		{"no hint", hint(""), "publicKey.hint"}, {"hint of 31 bytes", hint(bytes64(31)), "publicKey.hint"}, {"hint of 33 bytes", hint(bytes64(33)), "publicKey.hint"},
		{"hint with a line", hint(bytes64(32) + "\n"), "publicKey.hint"}, {"hint of another form", hint(strings.Repeat("A", 42) + "B="), "publicKey.hint"},
		{"hint of no base64", hint(strings.Repeat("A", 43) + "!"), "publicKey.hint"}, {"hint and more", hint(bytes64(32) + "!"), "publicKey.hint"},
		{"four logs", entries(plainEntry(1), plainEntry(2), plainEntry(3), plainEntry(4)), ""},
		{"five logs", entries(plainEntry(1), plainEntry(2), plainEntry(3), plainEntry(4), plainEntry(5)), "5 log entries"},
		{"one log twice", entries(plainEntry(1), plainEntry(2), plainEntry(1)), "two entries in log"}, {"the second twice", entries(plainEntry(1), plainEntry(2), plainEntry(2)), "two entries in log"},
		{"longest proof", entries(entry(1, 64, 0, 32, 32)), ""}, {"longer proof", entries(entry(1, 65, 0, 32, 32)), "65 hashes"},
		{"longest checkpoint", entries(entry(1, 0, 64<<10, 32, 32)), ""}, {"longer checkpoint", entries(entry(1, 0, 64<<10+1, 32, 32)), "checkpoint has"},
		{"log cut", entries(entry(1, 0, 0, 31, 32)), "32 bytes each"}, {"root cut", entries(entry(1, 0, 0, 32, 31)), "32 bytes each"},
		{"hash cut", entries(hashCut), "hash 0 has 31"},
		{"certificate", certified(9, 9), ""}, {"no certificate", certified(0, 9), "certificate has 0"},
		{"largest certificate", certified(16<<10, 16<<10), ""}, {"larger certificate", certified(16<<10+1, 9), "certificate has"},
		{"no timestamp", certified(9), "want 1 to 4"}, {"four timestamps", certified(9, 9, 9, 9, 9), ""}, {"five timestamps", certified(9, 9, 9, 9, 9, 9), "want 1 to 4"},
		{"empty timestamp", certified(9, 9, 0), "timestamp has 0"}, {"larger timestamp", certified(9, 16<<10+1), "timestamp has"},
		{"no timestamps", func(j object) {
			certified(9, 9)(j)
			delete(j["verificationMaterial"].(object), "timestampVerificationData")
		}, "want 1 to 4"},
		{"neither", func(j object) { j["verificationMaterial"] = object{} }, "either"},
	} {
		var j object
		if err := json.Unmarshal(text, &j); err != nil {
			t.Fatal(err)
		}
		c.edit(j)
		b, err := release.ParseBundle(must(json.Marshal(j)))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %.200v, want %q", c.name, err, c.want)
		}
		if err != nil || c.name == "largest payload" {
			continue
		}
		if again, err := release.ParseBundle(must(b.Marshal())); err != nil || !bytes.Equal(must(again.Marshal()), must(b.Marshal())) {
			t.Errorf("%s: written and read again: %v", c.name, err)
		}
	}
	pad := func(n int) []byte { return append(text, bytes.Repeat([]byte(" "), n-len(text))...) }
	for n, ok := range map[int]bool{release.MaxBundle: true, release.MaxBundle + 1: false} {
		if _, err := release.ParseBundle(pad(n)); (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := release.ParseEntry(append([]byte(`{}`), bytes.Repeat([]byte(" "), n-2)...)); err == nil || strings.Contains(err.Error(), "want at most") == ok {
			t.Errorf("entry of %d bytes: %v", n, err)
		}
	}
	for n, ok := range map[int]bool{release.MaxFile: true, release.MaxFile + 1: false} {
		if _, err := release.Split(pad(n)); (err == nil) != ok {
			t.Errorf("file of %d bytes: %v", n, err)
		}
	}
}

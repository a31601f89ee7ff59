package release_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// reason returns the reason word of a refusal, "" for none.
func reason(t *testing.T, err error) release.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *release.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v is not a *release.Error", err)
	}
	return e.Reason
}

func TestVerify(t *testing.T) {
	w := rt.New(t)
	r, err := release.Verify(w.Bundle, w.Policy, rt.Now)
	if err != nil {
		t.Fatal(err)
	}
	if r.Statement.Predicate.Release.Name != "minimal" || r.Tree.N != 1 || r.Index != 0 || r.Signer.ID() != w.Key.Public().ID() {
		t.Errorf("result %+v", r)
	}
	said := map[string]release.Status{}
	for _, c := range r.Checks {
		said[c.Name] = c.Status
	}
	for name, want := range map[string]release.Status{
		"signature": release.OK, "checkpoint": release.OK, "inclusion": release.OK, "statement": release.OK,
		"log state": release.NotChecked, "validity": release.NotChecked, "witnesses": release.NotChecked, "rollback": release.NotChecked,
	} {
		if said[name] != want {
			t.Errorf("check %q: %q, want %q", name, said[name], want)
		}
	}
}

// No byte of a bundle is without meaning: whatever is changed, it is refused, and never by a panic.
func TestEveryChangedByteIsRefused(t *testing.T) {
	w := rt.New(t)
	w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2}))
	w.Bundle = w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3})).Bundle // a proof with hashes in it
	masks := []byte{0x01, 0x20, 0x80}
	if testing.Short() {
		masks = masks[:1]
	}
	for i := range w.Bundle {
		for _, mask := range masks {
			bad := bytes.Clone(w.Bundle)
			bad[i] ^= mask
			r, err := release.Verify(bad, w.Policy, rt.Now)
			if err == nil {
				t.Fatalf("byte %d: %q for %q accepted, in …%s…", i, bad[i], w.Bundle[i], bad[max(0, i-40):min(len(bad), i+40)])
			}
			if r.Statement != nil {
				t.Fatalf("byte %d: refused, but the result has a statement", i)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	w := rt.New(t)
	second := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	year := rt.Now.AddDate(1, 0, 0)
	expiring := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 3, NotAfter: year})).Bundle
	other := rt.New(t)
	edit := func(f func(b *release.Bundle)) []byte {
		b, err := release.ParseBundle(second)
		if err != nil {
			t.Fatal(err)
		}
		f(b)
		return rt.Marshal(t, b)
	}
	entryOf := func(data []byte) *release.Entry {
		b, err := release.ParseBundle(data)
		if err != nil {
			t.Fatal(err)
		}
		return b.Entry
	}
	policy := func(f func(p *release.Policy)) *release.Policy {
		p := *w.Policy
		p.Signers = append([]release.Signer{}, p.Signers...)
		f(&p)
		return &p
	}
	for _, c := range []struct {
		name   string
		bundle []byte
		policy *release.Policy
		now    time.Time
		want   release.Reason
	}{
		{"accepted", second, w.Policy, rt.Now, ""},
		{"accepted before its end", expiring, w.Policy, year.Add(-time.Second), ""},
		{"no policy", second, nil, rt.Now, release.PolicyEmpty},
		{"zero policy", second, &release.Policy{}, rt.Now, release.PolicyEmpty},
		{"no signer", second, policy(func(p *release.Policy) { p.Signers = nil }), rt.Now, release.PolicyEmpty},
		{"zero signer", second, policy(func(p *release.Policy) { p.Signers = []release.Signer{{}} }), rt.Now, release.PolicyEmpty},
		{"no log", second, policy(func(p *release.Policy) { p.Log.Key = release.LogKey{} }), rt.Now, release.PolicyEmpty},
		{"no word on witnesses", second, policy(func(p *release.Policy) { p.Log.Unwitnessed = false }), rt.Now, release.PolicyEmpty},
		{"no time", second, w.Policy, time.Time{}, release.PolicyEmpty},
		{"other signer", second, policy(func(p *release.Policy) { p.Signers = other.Policy.Signers }), rt.Now, release.BadIdentity},
		{"hint of a trusted key, signature of another", edit(func(b *release.Bundle) { b.Hint = other.Key.Public().Hint() }), policy(func(p *release.Policy) { p.Signers = other.Policy.Signers }), rt.Now, release.BadSignature},
		{"other log of the same name", second, policy(func(p *release.Policy) { p.Log.Key = other.Log }), rt.Now, release.BadLog},
		{"not logged", edit(func(b *release.Bundle) { b.Entry = nil }), w.Policy, rt.Now, release.NotLogged},
		{"entry of another log", edit(func(b *release.Bundle) { b.Entry = entryOf(other.Bundle) }), w.Policy, rt.Now, release.BadLog},
		{"checkpoint of another log", edit(func(b *release.Bundle) { b.Entry.Checkpoint = entryOf(other.Bundle).Checkpoint }), w.Policy, rt.Now, release.BadLog},
		{"entry of another release", edit(func(b *release.Bundle) { b.Entry = entryOf(expiring) }), w.Policy, rt.Now, release.BadInclusion},
		{"body of another release", edit(func(b *release.Bundle) { b.Entry.Body = entryOf(expiring).Body }), w.Policy, rt.Now, release.BadInclusion},
		{"older checkpoint", edit(func(b *release.Bundle) { b.Entry.Checkpoint = entryOf(w.Bundle).Checkpoint }), w.Policy, rt.Now, release.BadInclusion},
		{"proof cut", edit(func(b *release.Bundle) { b.Entry.Proof = nil }), w.Policy, rt.Now, release.BadInclusion},
		{"proof too long", edit(func(b *release.Bundle) { b.Entry.Proof = append(b.Entry.Proof, [32]byte{}) }), w.Policy, rt.Now, release.BadInclusion},
		{"index of another leaf", edit(func(b *release.Bundle) { b.Entry.Index = 0 }), w.Policy, rt.Now, release.BadInclusion},
		{"fork", second, policy(func(p *release.Policy) { p.Log.Seen = []release.SeenTree{{Tree: tlog.Tree{N: 2}}} }), rt.Now, release.LogFork},
		{"expired", expiring, w.Policy, year, release.Expired},
		{"not yet", second, w.Policy, time.Unix(rt.Epoch-1, 0), release.NotYetValid},
		{"signer's time over", second, policy(func(p *release.Policy) { p.Signers[0].NotAfter = rt.Now }), rt.Now, release.Expired},
		{"signer's time to come", second, policy(func(p *release.Policy) { p.Signers[0].NotBefore = year }), rt.Now, release.NotYetValid},
	} {
		r, err := release.Verify(c.bundle, c.policy, c.now)
		if got := reason(t, err); got != c.want {
			t.Errorf("%s: reason %q (%v), want %q", c.name, got, err, c.want)
		}
		if failed := len(r.Checks) > 0 && r.Checks[len(r.Checks)-1].Status == release.Failed; failed != (c.want != "") || (r.Statement != nil) == failed {
			t.Errorf("%s: last check %+v, statement %v", c.name, r.Checks[len(r.Checks)-1], r.Statement != nil)
		}
	}
}

// One log key, two logs: whoever remembers a tree notices when he is shown another of the same size.
func TestSplitView(t *testing.T) {
	w := rt.New(t)
	fork := *w
	fork.LogDir = filepath.Join(t.TempDir(), "fork")
	if err := os.CopyFS(fork.LogDir, os.DirFS(w.LogDir)); err != nil {
		t.Fatal(err)
	}
	ours := w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 2})).Bundle
	theirs := fork.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 9})).Bundle
	r, err := release.Verify(ours, w.Policy, rt.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := release.Verify(theirs, w.Policy, rt.Now); err != nil {
		t.Fatalf("a first sight of the fork cannot be told apart: %v", err)
	}
	p := *w.Policy
	p.Log.Seen = r.Trees
	if _, err := release.Verify(theirs, &p, rt.Now); reason(t, err) != release.LogFork {
		t.Errorf("fork: %v", err)
	}
	if _, err := release.Verify(ours, &p, rt.Now); err != nil {
		t.Errorf("the remembered tree itself: %v", err)
	}
}

func TestCheckArtifact(t *testing.T) {
	w := rt.New(t)
	r, err := release.Verify(w.Bundle, w.Policy, rt.Now)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := sign.HashFile(t.Context(), filepath.Join(w.Out, "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckArtifact("disk.raw", got); err != nil {
		t.Error(err)
	}
	for name, d := range map[string]release.Digest{"disk.raw": {}, "initrd": got, "nothing": got} {
		if err := r.CheckArtifact(name, d); reason(t, err) != release.BadArtifact {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := new(release.Result).CheckArtifact("disk.raw", got); reason(t, err) != release.BadArtifact {
		t.Errorf("nothing verified: %v", err)
	}
}

// Payloads that a trusted key has signed, and a log holds, but that are not in the one form.
func TestSignedPayloadsOfAnotherForm(t *testing.T) {
	w := rt.New(t)
	good := mustPayload(t, w.Bundle)
	l := w.Open(t)
	defer l.Close()
	for name, payload := range map[string]string{
		"space":          strings.Replace(good, `"_type":`, `"_type": `, 1),
		"newline":        good + "\n",
		"trailing":       good + "{}",
		"duplicate key":  strings.Replace(good, `"predicate":{`, `"predicateType":"x","predicate":{`, 1),
		"other case":     strings.Replace(good, `"cmdline":`, `"Cmdline":`, 1),
		"unknown key":    strings.Replace(good, `"release":{`, `"release":{"extra":1,`, 1),
		"null":           strings.Replace(good, `"sequence":1`, `"sequence":null`, 1),
		"escape":         strings.Replace(good, `"minimal"`, `"\u006dinimal"`, 1),
		"other type":     strings.Replace(good, "release/v1", "release/v2", 1),
		"not in-toto":    `{"a":1}`,
		"list":           `[]`,
		"cmdline":        strings.Replace(good, "console=ttyS0", "console=ttyS1", 1),
		"root hash":      strings.Replace(good, `"rootHash":"ab`, `"rootHash":"ac`, 1),
		"values":         strings.Replace(good, `"launch_digest":"00`, `"launch_digest":"01`, 1),
		"subject gone":   strings.Replace(good, `"name":"initrd","digest"`, `"name":"initre","digest"`, 1),
		"sequence":       strings.Replace(good, `"sequence":1`, `"sequence":0`, 1),
		"ends at start":  strings.Replace(good, `"validity":{`, `"validity":{"notAfter":"2026-01-01T00:00:00Z",`, 1),
		"duplicate deep": strings.Replace(good, `"launch_digest"`, `"launch_digest":"00","launch_digest"`, 1),
	} {
		if payload == good {
			t.Fatalf("%s: changed nothing", name)
		}
		b := signRaw(t, w.Key, payload)
		var err error
		if b.Entry, err = l.Append(t.Context(), release.LeafBody(&b.Envelope, w.Key.Public())); err != nil {
			t.Fatal(err)
		}
		if _, err := release.Verify(rt.Marshal(t, b), w.Policy, rt.Now); reason(t, err) != release.BadStatement {
			t.Errorf("%s: %v, want reason %q", name, err, release.BadStatement)
		}
	}
}

func mustPayload(t *testing.T, bundle []byte) string {
	t.Helper()
	b, err := release.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return string(b.Envelope.Payload)
}

// signRaw signs any payload.
func signRaw(t *testing.T, k *sign.Key, payload string) *release.Bundle {
	t.Helper()
	b := &release.Bundle{Envelope: release.Envelope{Payload: []byte(payload)}, Hint: k.Public().Hint()}
	var err error
	if b.Envelope.Signature, err = k.SignPAE(b.Envelope.PAE()); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBundleForm(t *testing.T) {
	w := rt.New(t)
	good := strings.TrimSuffix(string(w.Bundle), "\n")
	if _, err := release.ParseBundle([]byte(good)); err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(good), "", "\t"); err != nil {
		t.Fatal(err)
	}
	if _, err := release.Verify(indented.Bytes(), w.Policy, rt.Now); err != nil {
		t.Errorf("spacing outside the payload means nothing: %v", err)
	}
	sub := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("no %q in the bundle", old)
		}
		return s
	}
	for name, c := range map[string]struct{ bundle, want string }{
		"empty":            {"", "unexpected EOF"},
		"truncated":        {good[:len(good)/2], "unexpected EOF"},
		"trailing data":    {good + "{}", "data after"},
		"second value":     {good + " 1", "data after"},
		"duplicate key":    {sub(`"payloadType":`, `"payloadType":"x","payloadType":`), `key "payloadType" twice`},
		"other case":       {sub(`"payloadType":`, `"PayloadType":`), `unknown key "PayloadType"`},
		"unknown key":      {sub(`"logIndex":`, `"integratedTime":"0","logIndex":`), `verificationMaterial.tlogEntries[0]: unknown key "integratedTime"`},
		"certificate":      {sub(`"publicKey":`, `"certificate":{"rawBytes":"AAAA"},"publicKey":`), "want either a publicKey or a certificate"},
		"no signer":        {sub(`"publicKey":`, `"x509CertificateChain":{},"x":`), `unknown key "x509CertificateChain"`},
		"timestamp":        {sub(`"publicKey":`, `"timestampVerificationData":{"rfc3161Timestamps":[]},"publicKey":`), "beside a publicKey"},
		"keyid":            {sub(`{"sig":`, `{"keyid":"a","sig":`), `unknown key "keyid"`},
		"null":             {sub(`"hashes":[]`, `"hashes":null`), "null"},
		"media type":       {sub("bundle.v0.3", "bundle.v0.2"), "mediaType"},
		"payload type":     {sub("vnd.in-toto+json", "json"), "payloadType"},
		"no signature":     {sub(`"signatures":[{`, `"signatures":[],"x":[{`), "unknown key"},
		"number as number": {sub(`"treeSize":"1"`, `"treeSize":1`), "treeSize"},
		"type":             {sub(`"mediaType":"`+release.MediaType+`"`, `"mediaType":1e999`), "bundle: mediaType: a number"},
		"a list":           {"[]", "bundle: a list is not a value here"},
		"a key at the top": {sub(`{"mediaType"`, `{"x":1,"mediaType"`), `bundle: unknown key "x"`},
		"number form":      {sub(`"treeSize":"1"`, `"treeSize":"01"`), "canonical decimal"},
		"negative":         {sub(`"treeSize":"1"`, `"treeSize":"-1"`), "canonical decimal"},
		"empty tree":       {sub(`"treeSize":"1"`, `"treeSize":"0"`), "index 0 in a tree of 0"},
		"indexes differ":   {sub(`"logIndex":"0"`, `"logIndex":"1"`), "different indexes"},
		"kind":             {sub(`"hashedrekord"`, `"dsse"`), "want \"hashedrekord\""},
		"root hash":        {sub(`"rootHash":"`, `"rootHash":"","x":"`), "unknown key"},
		"invalid utf-8":    {sub("log.tally.example", "log\xff.example"), "UTF-8"},
		"deep":             {sub(`"hashes":[]`, `"hashes":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)), "hashes[0]"},
		"base64 newline":   {sub(`"payload":"`, `"payload":"\n`), "base64"},
		"oversize":         {good + strings.Repeat(" ", release.MaxFile), "want at most"},
	} {
		_, err := release.ParseBundle([]byte(c.bundle))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
		if _, err := release.Verify([]byte(c.bundle), w.Policy, rt.Now); reason(t, err) != release.BadBundle {
			t.Errorf("%s: %v, want reason %q", name, err, release.BadBundle)
		}
	}
	two := sub(`"signatures":[`, `"signatures":[{"sig":"MEUC"},`)
	if _, err := release.ParseBundle([]byte(two)); err == nil || !strings.Contains(err.Error(), "2 signatures") {
		t.Errorf("two signatures: %v", err)
	}
}

// The same name with another key is another log.
func TestLogKey(t *testing.T) {
	for _, origin := range []string{"", "a/b", "a:1", "A.example", "a b", "a..b", ".a", "a.", "-a", "a+b", strings.Repeat("a", 64), "a_b"} {
		if release.CheckOrigin(origin) == nil {
			t.Errorf("origin %q accepted", origin)
		}
		if _, err := log.Create(context.Background(), t.TempDir()+"/l", log.CreateOptions{Origin: origin, KeyFile: t.TempDir() + "/k", Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("log with origin %q created", origin)
		}
	}
	for _, key := range []string{"", "a", "a+b+c", "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn9"} {
		if _, err := release.ParseLogKey(key); err == nil {
			t.Errorf("log key %q accepted", key)
		}
	}
	// The key of Go's checksum database, as in cmd/go (src/cmd/go/internal/modfetch/key.go).
	k, err := release.ParseLogKey("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
	if err != nil || k.Origin() != "sum.golang.org" {
		t.Fatalf("%v, origin %q", err, k.Origin())
	}
	if id := k.ID(); !bytes.Equal(id[:4], []byte{0x03, 0x3d, 0xe0, 0xae}) {
		t.Errorf("ID %x does not begin with the key hash of the verifier key", id)
	}
}

// Go's note reader takes signatures whose last base64 character carries stray bits; a checkpoint has one form.
func TestCheckpointSignatureIsCanonical(t *testing.T) {
	w := rt.New(t)
	b, err := release.ParseBundle(w.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	good := b.Entry.Checkpoint
	at := strings.LastIndex(good, "=\n") - 1
	if _, err := w.Log.OpenCheckpoint([]byte(good)); err != nil || at < 0 {
		t.Fatalf("checkpoint %q: %v", good, err)
	}
	for stray := 1; stray <= 3; stray++ {
		bad := []byte(good)
		bad[at] = alphabet[strings.IndexByte(alphabet, bad[at])|stray]
		if _, err := w.Log.OpenCheckpoint(bad); err == nil || !strings.Contains(err.Error(), "canonical") {
			t.Errorf("stray bits %02b: %v", stray, err)
		}
	}
}

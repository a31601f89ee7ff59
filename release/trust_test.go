package release_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A bareLog signs whatever tree it is told to: no directory, no tiles.
type bareLog struct {
	signer note.Signer
	key    release.LogKey
}

func newBareLog(t testing.TB, origin string) *bareLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	return &bareLog{must(note.NewSigner(skey)), must(release.ParseLogKey(vkey))}
}

func (l *bareLog) sign(text string) string {
	return string(must(note.Sign(&note.Note{Text: text}, l.signer)))
}

func (l *bareLog) checkpoint(n int64, root tlog.Hash) string {
	return l.sign(fmt.Sprintf("%s\n%d\n%s\n", l.key.Origin(), n, root))
}

// add logs b in a tree of that one leaf.
func (l *bareLog) add(b *release.Bundle, k release.PublicKey) *release.Bundle {
	body := release.LeafBody(&b.Envelope, k)
	root := tlog.RecordHash(body)
	b.Entry = &release.Entry{LogID: l.key.ID(), TreeSize: 1, RootHash: root, Checkpoint: l.checkpoint(1, root), Body: body}
	return b
}

// both logs two bundles in one tree.
func (l *bareLog) both(a *release.Bundle, ka release.PublicKey, b *release.Bundle, kb release.PublicKey) {
	first, second := release.LeafBody(&a.Envelope, ka), release.LeafBody(&b.Envelope, kb)
	ha, hb := tlog.RecordHash(first), tlog.RecordHash(second)
	root := tlog.NodeHash(ha, hb)
	e := release.Entry{LogID: l.key.ID(), TreeSize: 2, RootHash: root, Checkpoint: l.checkpoint(2, root)}
	ea, eb := e, e
	ea.Body, ea.Proof = first, [][32]byte{hb}
	eb.Body, eb.Proof, eb.Index = second, [][32]byte{ha}, 1
	a.Entry, b.Entry = &ea, &eb
}

func TestPolicyCheck(t *testing.T) {
	type P = release.Policy
	a, b, c := rt.Key(t), rt.Key(t), rt.Key(t)
	l := newBareLog(t, "log.example")
	w := newCosigner(t, "w")
	q := quorum(t, "witness w %s\nquorum w\n", w.key)
	timed := func(from, to time.Time) []release.Signer {
		s := signers(b)
		s[0].NotBefore, s[0].NotAfter = from, to
		return s
	}
	id := release.Identity{Issuer: "https://i.example", Subject: "a@b.example"}
	other := release.Identity{Issuer: "https://i.example", Subject: "c@b.example"}
	many := release.Identity{Issuer: "https://i.example", Subject: "*@b.example"}
	ids := func(list ...release.Identity) release.IdentityPolicy {
		return release.IdentityPolicy{List: list, TrustedRoot: []byte("{}")}
	}
	for _, tt := range []struct {
		name string
		edit func(p *P)
		want string
	}{
		{"good", func(*P) {}, ""},
		{"no signer", func(p *P) { p.Signers = nil }, "names no signer"},
		{"an identity in its place", func(p *P) { p.Signers, p.Identities = nil, ids(id) }, ""},
		{"an identity of nobody", func(p *P) { p.Identities = ids(release.Identity{}) }, "identity 1"},
		{"an identity that nothing vouches for", func(p *P) { p.Identities = ids(id); p.Identities.TrustedRoot = nil }, "without a trusted root"},
		{"no log", func(p *P) { p.Log.Key = release.LogKey{} }, "names no log"},
		{"no word on witnesses", func(p *P) { p.Log.Quorum = release.Quorum{} }, "nothing about witnesses"},
		{"both words on witnesses", func(p *P) { p.Log.Unwitnessed = true }, "nothing about witnesses"},
		{"unwitnessed", func(p *P) { p.Log.Unwitnessed, p.Log.Quorum = true, release.Quorum{} }, ""},
		{"an age", func(p *P) { p.Log.MaxAge = 1 }, ""},
		{"an age below zero", func(p *P) { p.Log.MaxAge = -1 }, "age of cosignatures"},
		{"an age of nothing", func(p *P) { p.Log.Unwitnessed, p.Log.Quorum, p.Log.MaxAge = true, release.Quorum{}, 1 }, "age of cosignatures"},
		{"a signer without key", func(p *P) { p.Signers = make([]release.Signer, 1) }, "signer 1 has no key"},
		{"a signer twice", func(p *P) { p.Signers = signers(a, b, a) }, "signer 3: the same key twice"},
		{"a signer's time", func(p *P) { p.Signers = timed(rt.Now, rt.Now.Add(1)) }, ""},
		{"a signer's time from then on", func(p *P) { p.Signers = timed(rt.Now, time.Time{}) }, ""},
		{"a signer's time until then", func(p *P) { p.Signers = timed(time.Time{}, rt.Now) }, ""},
		{"no time at all", func(p *P) { p.Signers = timed(rt.Now, rt.Now) }, "ends before it begins"},
		{"a revoker", func(p *P) { p.Revokers = signers(b) }, ""},
		{"a revoker without key", func(p *P) { p.Revokers = make([]release.Signer, 1) }, "revocation key 1 has no key"},
		{"a revoker of releases", func(p *P) { p.Revokers = signers(b, a) }, "one of its own"},
		{"a revoker of channels", func(p *P) {
			p.Revokers, p.Channel = signers(b), release.ChannelPolicy{Name: "s", MaxAge: 1, Signers: signers(b)}
		}, "one of its own"},
		{"a channel", func(p *P) { p.Channel = release.ChannelPolicy{Name: "s", MaxAge: 1, Signers: signers(b)} }, ""},
		{"a channel of any age", func(p *P) { p.Channel = release.ChannelPolicy{Name: "s"} }, "age of channel statements"},
		{"a channel of no age", func(p *P) { p.Channel = release.ChannelPolicy{Name: "s", MaxAge: -1} }, "age of channel statements"},
		{"an age without channel", func(p *P) { p.Channel.MaxAge = 1 }, "the channel has no name"},
		{"signers without channel", func(p *P) { p.Channel.Signers = signers(b) }, "the channel has no name"},
		{"a channel signer twice", func(p *P) {
			p.Channel = release.ChannelPolicy{Name: "s", MaxAge: 1, Signers: signers(b, b)}
		}, "channel signer 2: the same key twice"},
		{"a revocation identity", func(p *P) { p.Identities, p.RevokerIdentities = ids(id), ids(other) }, ""},
		{"one of many", func(p *P) { p.RevokerIdentities = ids(many) }, "names many"},
		{"one twice", func(p *P) { p.RevokerIdentities = ids(other, other) }, "the same signer twice"},
		{"one that signs", func(p *P) { p.Identities, p.RevokerIdentities = ids(id), ids(other, id) }, "one of its own"},
		{"one that nothing vouches for", func(p *P) { p.RevokerIdentities = ids(other); p.RevokerIdentities.TrustedRoot = nil }, "without a trusted root"},
		{"a rebuilder's identity", func(p *P) { p.Rebuilders.Need, p.Rebuilders.Identities = 1, ids(id) }, ""},
		{"one that rebuilds for itself", func(p *P) { p.Identities, p.Rebuilders.Identities = ids(id), ids(id) }, "one of its own"},
		{"one that revokes", func(p *P) { p.RevokerIdentities, p.Rebuilders.Identities = ids(id), ids(id) }, "one of its own"},
		{"a rebuilder", func(p *P) { p.Rebuilders = release.RebuilderPolicy{Need: 1, Keys: signers(c)} }, ""},
		{"a rebuilder that signs channels", func(p *P) {
			p.Channel = release.ChannelPolicy{Name: "s", MaxAge: 1, Signers: signers(c)}
			p.Rebuilders.Keys = signers(c)
		}, "somebody else"},
		{"a rebuilder that revokes", func(p *P) { p.Revokers, p.Rebuilders.Keys = signers(c), signers(c) }, "somebody else"},
		{"a rebuilders' log without key", func(p *P) {
			p.Rebuilders = release.RebuilderPolicy{Keys: signers(c), Logs: []release.LogPolicy{{Unwitnessed: true}}}
		}, "log 1 of the rebuilders"},
	} {
		p := P{Signers: signers(a), Log: release.LogPolicy{Key: l.key, Quorum: q}}
		tt.edit(&p)
		if err := p.Check(); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestPublicKeyForm(t *testing.T) {
	k := rt.Key(t).Public()
	good := string(k.PEM())
	block := func(typ string, der []byte, headers map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der, Headers: headers}))
	}
	raw, _ := pem.Decode([]byte(good))
	curve := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"good": {good, ""}, "white space around": {"\n" + good + "\n \n", ""}, "as large as may be": {good + strings.Repeat("\n", 64<<10-len(good)), ""},
		"larger": {good + strings.Repeat("\n", 64<<10-len(good)+1), "larger than"},
		"none":   {"", "one PEM block"}, "two": {good + good, "one PEM block"}, "a certificate": {block("CERTIFICATE", raw.Bytes, nil), "one PEM block"},
		"headers": {block("PUBLIC KEY", raw.Bytes, map[string]string{"a": "b"}), "one PEM block"}, "no DER": {block("PUBLIC KEY", []byte("x"), nil), "public key: "},
		"more DER": {block("PUBLIC KEY", append(raw.Bytes[:len(raw.Bytes):len(raw.Bytes)], 0), nil), "public key: "},
		"P-384":    {block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(&curve.PublicKey)), nil), "want ECDSA on P-256"},
		"Ed25519":  {block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(edwards)), nil), "want ECDSA on P-256"},
	} {
		got, err := release.ParsePublicKey([]byte(tt.text))
		if tt.want == "" && (err != nil || got.ID() != k.ID()) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !got.IsZero()) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := release.NewPublicKey(nil); err == nil {
		t.Error("no key is a key")
	}
}

func TestCheckpointForm(t *testing.T) {
	l, other := newBareLog(t, "log.example"), newBareLog(t, "log.example")
	root := tlog.Hash{1}
	b64 := root.String()
	for name, tt := range map[string]struct{ text, want string }{
		"good": {"log.example\n1\n" + b64 + "\n", ""}, "extended": {"log.example\n1\n" + b64 + "\nmore\n", ""},
		"another origin": {"log.examplf\n1\n" + b64 + "\n", "origin"}, "capitals": {"Log.example\n1\n" + b64 + "\n", "origin"}, "two lines": {"log.example\n1\n", "origin"},
		"zero before": {"log.example\n01\n" + b64 + "\n", "size"}, "sign": {"log.example\n+1\n" + b64 + "\n", "size"}, "below zero": {"log.example\n-1\n" + b64 + "\n", "size"},
		"beyond 63 bits": {"log.example\n9223372036854775808\n" + b64 + "\n", "size"}, "2^62": {"log.example\n4611686018427387904\n" + b64 + "\n", "less than 2^62"},
		"2^63 - 1":   {"log.example\n9223372036854775807\n" + b64 + "\n", "less than 2^62"},
		"empty line": {"log.example\n1\n" + b64 + "\n\n", "empty"}, "empty line between": {"log.example\n1\n" + b64 + "\na\n\nb\n", "empty"},
		"root cut": {"log.example\n1\nAAAA\n", "root hash"}, "root and more": {"log.example\n1\n" + b64 + "!\n", "root hash"}, "no root": {"log.example\n1\n\n", "root hash"},
		"large": {"log.example\n1\n" + b64 + "\n" + strings.Repeat("x", 64<<10) + "\n", "want at most"},
	} {
		tree, err := l.key.OpenCheckpoint([]byte(l.sign(tt.text)))
		if tt.want == "" && (err != nil || tree != tlog.Tree{N: 1, Hash: root}) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || tree != tlog.Tree{}) {
			t.Errorf("%s: %+v, %v, want %q", name, tree, err, tt.want)
		}
		theirs, err := torchwood.ParseCheckpoint(tt.text)
		if wider := err == nil && (theirs.N >= 1<<62 || theirs.Origin != "log.example" || len(tt.text) > 64<<10); !wider && (err == nil) != (tt.want == "") {
			t.Errorf("%s: torchwood says %v", name, err)
		}
	}
	if _, err := l.key.OpenCheckpoint([]byte(l.checkpoint(1<<62-1, root))); err != nil {
		t.Errorf("the largest tree: %v", err)
	}
	good := l.checkpoint(1, root)
	for name, tt := range map[string]struct {
		key  release.LogKey
		text string
	}{
		"no key": {release.LogKey{}, good}, "another's": {other.key, good}, "unsigned": {l.key, good[:strings.Index(good, "\n\n")+1]},
		"a line that is no base64": {l.key, good + "— x AAAAAAAA!\n"}, "a line of another form": {l.key, good + "— x AAAAAAB=\n"},
	} {
		if _, err := tt.key.OpenCheckpoint([]byte(tt.text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A key has one name.
	key := l.key.String()
	hash := strings.Split(key, "+")[1]
	for _, bad := range []string{key + "\n", key + "\r", strings.Replace(key, hash, "00000000", 1), key[:len(key)-5] + "\n" + key[len(key)-5:]} {
		if _, err := release.ParseLogKey(bad); err == nil {
			t.Errorf("%q is taken for a log's key", bad)
		}
	}
	const capitals = "sum.golang.org+033DE0AE+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
	if _, err := release.ParseLogKey(capitals); err == nil || !strings.Contains(err.Error(), "sum.golang.org+033de0ae+") {
		t.Errorf("%s: %v", capitals, err)
	}
	for origin, ok := range map[string]bool{
		"a.example": true, "a": true, "1-a.example": true, strings.Repeat("a.", 126) + "a": true, strings.Repeat("a.", 126) + "aa": false, strings.Repeat("a", 63): true,
		strings.Repeat("a", 64): false, "A.example": false, "a.example/b": false, "a.example:1": false, "\u0430.example": false, "a-.example": false, "a.example.": false,
	} {
		_, vkey := must2(note.GenerateKey(rand.Reader, origin))
		if _, err := release.ParseLogKey(vkey); (err == nil) != ok {
			t.Errorf("origin %q: %v", origin, err)
		}
	}
	wkey := newCosigner(t, "w").key.String()
	for _, bad := range []string{wkey + "\n", wkey[:9] + "\r" + wkey[9:], strings.ToUpper(wkey[:10]) + wkey[10:]} {
		if _, err := release.ParseWitnessKey(bad); err == nil {
			t.Errorf("%q is taken for a witness's key", bad)
		}
	}
}

// TestOneBundle verifies bundles under one key, as publishers and monitors do.
func TestOneBundle(t *testing.T) {
	k, b, _ := unlogged(t)
	l, elsewhere, other := newBareLog(t, "log.example"), newBareLog(t, "rekor.example"), rt.Key(t)
	pub := k.Public()
	channel := must(sign.Channel(release.NewChannel(release.ChannelPredicate{Name: "a", Channel: "b", Sequence: 1, IssuedAt: rt.Now, ValidUntil: rt.Now.Add(time.Hour),
		Current: []release.CurrentRelease{{Version: "1", Sequence: 1}}}), k))
	rebuild := must(sign.Rebuild(rt.RebuildOf(t, rt.Marshal(t, b), nil), k))
	read := []func(*release.Bundle, release.PublicKey) error{
		func(b *release.Bundle, k release.PublicKey) error { _, err := release.VerifyUnlogged(b, k); return err },
		func(b *release.Bundle, k release.PublicKey) error {
			_, err := release.VerifyUnloggedChannel(b, k)
			return err
		},
		func(b *release.Bundle, k release.PublicKey) error {
			_, err := release.VerifyUnloggedRebuild(b, k)
			return err
		},
	}
	for i, bundle := range []*release.Bundle{b, channel, rebuild} {
		for n, verify := range read {
			if err := verify(bundle, pub); reason(t, err) != map[bool]release.Reason{true: "", false: release.BadStatement}[i == n] {
				t.Errorf("bundle %d read as kind %d: %v", i, n, err)
			}
			if err := verify(bundle, other.Public()); reason(t, err) != release.BadIdentity {
				t.Errorf("bundle %d of another's key: %v", i, err)
			}
		}
	}
	forged := *b
	forged.Envelope.Payload = append(slices.Clone(b.Envelope.Payload), ' ')
	if err := release.VerifyEnvelope(&forged, pub); reason(t, err) != release.BadSignature {
		t.Errorf("another payload: %v", err)
	}
	if _, _, err := release.Identify(&forged, &release.Policy{Signers: signers(k)}); reason(t, err) != release.BadSignature {
		t.Errorf("identify another payload: %v", err)
	}
	bad := release.IdentityPolicy{List: make([]release.Identity, 1)}
	if _, _, err := release.Identify(b, &release.Policy{Signers: signers(k), Identities: bad}); reason(t, err) != release.PolicyEmpty {
		t.Errorf("identify by an identity of nobody: %v", err)
	}
	if got, _, err := release.Identify(b, &release.Policy{Signers: signers(other, k)}); err != nil || got.ID() != pub.ID() {
		t.Errorf("identify: %v", err)
	}
	p := release.LogPolicy{Key: l.key, Unwitnessed: true}
	if _, err := release.VerifyLogged(b, signers(k), nil, &p); reason(t, err) != release.NotLogged {
		t.Errorf("not logged: %v", err)
	}
	elsewhere.add(b, pub)
	foreign := b.Entry
	l.add(b, pub)
	b.Others = []*release.Entry{foreign}
	if r, err := release.VerifyLogged(b, signers(k), nil, &p); err != nil || r.Index != 0 || r.Leaf != release.LeafHash(b.Entry.Body) || r.Tree.N != 1 || len(r.Trees) != 1 {
		t.Errorf("logged: %+v, %v", r, err)
	} else if last := r.Checks[len(r.Checks)-2]; last.Name != "other logs" || !strings.HasPrefix(last.Got, "1 more") {
		t.Errorf("the other log is not said: %+v", r.Checks)
	}
	b.Entry, b.Others = foreign, []*release.Entry{b.Entry}
	if _, err := release.VerifyLogged(b, signers(k), nil, &p); err != nil {
		t.Errorf("logged elsewhere first: %v", err)
	}
	if _, err := release.VerifyLogged(b, signers(other), nil, &p); reason(t, err) != release.BadIdentity {
		t.Errorf("another's key: %v", err)
	}
	if _, err := release.VerifyLogged(b, signers(k), nil, &release.LogPolicy{Key: l.key}); reason(t, err) != release.BadWitness {
		t.Errorf("nothing said of witnesses: %v", err)
	}
	checkEntry(t, b.Others[0], l, elsewhere)
}

// checkEntry changes each part of an entry of a tree of one leaf.
func checkEntry(t *testing.T, e *release.Entry, l, other *bareLog) {
	t.Helper()
	for name, edit := range map[string]func(e *release.Entry){
		"log": func(e *release.Entry) { e.LogID[0]++ }, "root": func(e *release.Entry) { e.RootHash[0]++ }, "size": func(e *release.Entry) { e.TreeSize++ },
		"index": func(e *release.Entry) { e.Index++ }, "below zero": func(e *release.Entry) { e.Index = -1 }, "body": func(e *release.Entry) { e.Body = []byte("x") },
		"proof": func(e *release.Entry) { e.Proof = make([][32]byte, 1) }, "checkpoint": func(e *release.Entry) { e.Checkpoint = other.checkpoint(1, e.RootHash) },
		"another tree": func(e *release.Entry) { e.Checkpoint = l.checkpoint(1, tlog.Hash{}) },
		"a larger":     func(e *release.Entry) { e.Checkpoint = l.checkpoint(2, e.RootHash) },
		"of its own":   func(e *release.Entry) { e.RootHash[0]++; e.Checkpoint = l.checkpoint(1, e.RootHash) },
	} {
		c := *e
		edit(&c)
		if err := c.Check(e.Body, l.key); err == nil {
			t.Errorf("%s: holds", name)
		}
	}
	if err := e.Check(e.Body, l.key); err != nil {
		t.Error(err)
	}
	if err := e.Check(bytes.ToUpper(e.Body), l.key); err == nil {
		t.Error("of another leaf")
	}
}

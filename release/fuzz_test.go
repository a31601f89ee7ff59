package release_test

import (
	"bytes"
	"testing"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// Whatever is accepted has one meaning: it comes back from Marshal with the same meaning.
func FuzzParseBundle(f *testing.F) {
	w := rt.New(f)
	f.Add(w.Bundle)
	f.Add(w.Sign(f, w.Key, sign.Options{Sequence: 1}))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`))
	f.Add([]byte(`{"a":[[[[{"a":null}]]]]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := release.ParseBundle(data)
		if err != nil {
			return
		}
		once, err := b.Marshal()
		if err != nil {
			t.Fatalf("parsed, but does not marshal: %v", err)
		}
		again, err := release.ParseBundle(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := again.Marshal()
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("marshalled twice: %v\n%s\n%s", err, once, twice)
		}
	})
}

// A statement is accepted in the one form or not at all.
func FuzzParseStatement(f *testing.F) {
	w := rt.New(f)
	b, err := release.ParseBundle(w.Bundle)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Envelope.Payload)
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"tag:tallystick,2026:release/v1","predicate":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := release.ParseStatement(data)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("accepted in another form than its own: %v\n%s", err, again)
		}
	})
}

// No text opens as a checkpoint but one the log signed.
func FuzzOpenCheckpoint(f *testing.F) {
	w := rt.New(f)
	b, err := release.ParseBundle(w.Bundle)
	if err != nil {
		f.Fatal(err)
	}
	good := b.Entry.Checkpoint
	f.Add([]byte(good))
	f.Add([]byte("log.tally.example\n1\n\n— log.tally.example AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := w.Log.OpenCheckpoint(data)
		if err == nil && (tree.N != b.Entry.TreeSize || [32]byte(tree.Hash) != b.Entry.RootHash) {
			t.Errorf("tree of %d leaves from\n%s", tree.N, data)
		}
	})
}

// Verify never panics and never accepts anything that does not carry the signed payload.
func FuzzVerify(f *testing.F) {
	w := rt.New(f)
	f.Add(w.Bundle)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := release.Verify(data, w.Policy, rt.Now)
		if (err == nil) != (r.Statement != nil) {
			t.Errorf("error %v, statement %v", err, r.Statement != nil)
		}
	})
}

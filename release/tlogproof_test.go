package release_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// TestTLogProof lets torchwood verify the export, and refuse what is not the record, byte by byte.
func TestTLogProof(t *testing.T) {
	w := rt.New(t)
	for sequence := uint64(2); sequence < 5; sequence++ {
		w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: sequence}))
	}
	b, err := release.ParseBundle(w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 5})).Bundle)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(w.LogDir, log.PolicyFile))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	proof, record := b.Entry.TLogProof(), tlog.RecordHash(b.Entry.Body)
	if err := torchwood.VerifyProof(policy, record, proof); err != nil {
		t.Errorf("%v\n%s", err, proof)
	}
	hashes := make(tlog.RecordProof, len(b.Entry.Proof))
	for i, h := range b.Entry.Proof {
		hashes[i] = h
	}
	if want := torchwood.FormatProof(b.Entry.Index, hashes, []byte(b.Entry.Checkpoint)); !bytes.Equal(proof, want) {
		t.Errorf("torchwood writes\n%s\nwe write\n%s", want, proof)
	}
	if err := torchwood.VerifyProof(policy, tlog.RecordHash([]byte("another")), proof); err == nil {
		t.Error("holds for another record")
	}
	for _, other := range [][2]string{{"index 4", "index 3"}, {"\n5\n", "\n6\n"}} {
		bad := bytes.Replace(proof, []byte(other[0]), []byte(other[1]), 1)
		if err := torchwood.VerifyProof(policy, record, bad); err == nil || bytes.Equal(bad, proof) {
			t.Errorf("holds with %q", other[1])
		}
	}
}

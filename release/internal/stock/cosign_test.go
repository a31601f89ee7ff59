package stock

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/release"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

// A cosign is one release of stock cosign. Version 2 reads bundles only when it is told to and takes the time of a
// timestamp only when it is told to; version 3 does both by itself.
type cosign struct {
	program string
	blob    []string // flags of verify-blob-attestation
	image   []string // flags of verify-attestation
	stamped []string // flags for a certificate's bundle, whose time is a timestamp's
}

// eachCosign runs a test with both supported releases.
func eachCosign(t *testing.T, test func(t *testing.T, c cosign)) {
	for version, c := range map[string]cosign{
		"v2.6.5": {blob: []string{"--new-bundle-format"}, image: []string{"--new-bundle-format"}, stamped: []string{"--use-signed-timestamps"}},
		"v3.1.3": {},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c.program = testtool.Build(t, "cosign", fmt.Sprintf("github.com/sigstore/cosign/%s/cmd/cosign", version[:2]), version)
			test(t, c)
		})
	}
}

// offline returns a command that runs argv in an empty network namespace.
func offline(t *testing.T, argv ...string) *exec.Cmd {
	t.Helper()
	wrap := []string{testtool.Need(t, "unshare"), "--net"}
	if os.Geteuid() != 0 {
		wrap = append(wrap, "--map-root-user")
	}
	if out, err := exec.Command(wrap[0], append(wrap[1:], "true")...).CombinedOutput(); err != nil {
		testtool.Missing(t, fmt.Sprintf("an empty network namespace cannot be made (%v: %s)", err, out))
	}
	argv = append(wrap, argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=secret", "HOME="+t.TempDir())
	return cmd
}

// write writes a file of the test's own.
func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// trust says whose bundles are verified, by which logs.
type trust struct {
	signer []string // --key, or the flags of an identity
	root   string   // trusted root
}

func (c cosign) verifyBlob(t *testing.T, tr trust, typ string, bundle []byte, artifact string, more ...string) (string, error) {
	t.Helper()
	args := append([]string{c.program, "verify-blob-attestation", "--bundle", write(t, "b.sigstore.json", bundle), "--trusted-root", tr.root, "--type", typ}, c.blob...)
	out, err := offline(t, slices.Concat(args, tr.signer, more, []string{artifact})...).CombinedOutput()
	return string(out), err
}

func byKey(t *testing.T, k *sign.Key, root string) trust {
	return trust{[]string{"--key", write(t, "cosign.pub", k.Public().PEM())}, root}
}

func rootOf(w *rt.World) string { return filepath.Join(w.LogDir, log.TrustedRootFile) }

// merged is one trusted root with everything that several name.
func merged(t *testing.T, roots ...[]byte) string {
	t.Helper()
	all := map[string]any{}
	for _, data := range roots {
		var one map[string]any
		if err := json.Unmarshal(data, &one); err != nil {
			t.Fatal(err)
		}
		for k, v := range one {
			if list, ok := v.([]any); ok {
				have, _ := all[k].([]any)
				v = append(have, list...)
			}
			all[k] = v
		}
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "root.json", data)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// wants fails unless cosign verified, or with no, unless it refused.
func wants(t *testing.T, what string, yes bool, out string, err error) {
	t.Helper()
	if (err == nil) != yes || yes && !strings.Contains(out, "erified OK") && !strings.Contains(out, "Verification for ") {
		t.Errorf("%s: cosign says %v, want verified: %v\n%s", what, err, yes, out)
	}
}

// Cosign verifies our bundles with our log's trusted root and no network, refuses what it should, and reads our key
// file.
func TestBlobAttestation(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		w, other := rt.New(t), rt.New(t)
		bundles := [][]byte{w.Bundle}
		for i := range 4 {
			bundles = append(bundles, w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: uint64(i + 2)})).Bundle)
		}
		tr := byKey(t, w.Key, rootOf(w))
		disk := filepath.Join(w.Out, "disk.raw")
		for i, b := range bundles {
			for _, artifact := range []string{disk, filepath.Join(w.Out, "reference-values.json")} {
				out, err := c.verifyBlob(t, tr, release.PredicateType, b, artifact)
				wants(t, fmt.Sprintf("bundle %d, %s", i, artifact), true, out, err)
			}
		}
		no := func(what string, tr trust, typ string, bundle []byte, artifact string) {
			t.Helper()
			out, err := c.verifyBlob(t, tr, typ, bundle, artifact)
			wants(t, what, false, out, err)
		}
		no("other file", tr, release.PredicateType, w.Bundle, write(t, "x", []byte("x")))
		no("other type", tr, "https://example.org/v1", w.Bundle, disk)
		no("other log", byKey(t, w.Key, rootOf(other)), release.PredicateType, w.Bundle, disk)
		no("other key", byKey(t, other.Key, rootOf(w)), release.PredicateType, w.Bundle, disk)
		no("bad proof", tr, release.PredicateType, []byte(strings.Replace(string(bundles[4]), `"hashes":["`, `"hashes":["AAAA`, 1)), disk)
		no("not logged", tr, release.PredicateType, w.Sign(t, w.Key, sign.Options{Sequence: 1}), disk)
		key, err := w.Key.Marshal([]byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		out, err := offline(t, c.program, "public-key", "--key", write(t, "cosign.key", key)).Output()
		if err != nil || string(out) != string(w.Key.Public().PEM()) {
			t.Errorf("cosign reads our key file: %v\n%s", err, out)
		}
	})
}

// Every other kind of statement is verified too, each about its own subjects.
func TestStatements(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		w, k := rt.New(t), rt.Key(t)
		disk, tr := filepath.Join(w.Out, "disk.raw"), byKey(t, w.Key, rootOf(w))
		rebuild := w.Rebuild(t, k, w.Bundle, nil)
		out, err := c.verifyBlob(t, byKey(t, k, rootOf(w)), release.RebuildType, rebuild, disk)
		wants(t, "rebuild", true, out, err)
		out, err = c.verifyBlob(t, tr, release.RebuildType, rebuild, disk)
		wants(t, "rebuild by the maintainer", false, out, err)

		// A channel statement is about statements: the file is a release's payload.
		channel := w.Channel(t, w.Key, w.Predicate(t, 1, w.Bundle))
		b, err := release.ParseBundle(w.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		payload := filepath.Join(w.LogDir, "by-digest", release.PayloadDigest(b).String())
		out, err = c.verifyBlob(t, tr, release.ChannelType, channel, payload)
		wants(t, "channel", true, out, err)
		out, err = c.verifyBlob(t, tr, release.ChannelType, channel, disk)
		wants(t, "channel about a disk", false, out, err)

		// Provenance is not logged: cosign wants to hear that this is meant.
		o, err := sign.ReadOut(t.Context(), w.Out)
		if err != nil {
			t.Fatal(err)
		}
		statement, err := o.Provenance(w.Statement(t, sign.Options{Sequence: 1}))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := sign.Provenance(statement, w.Key)
		if err != nil {
			t.Fatal(err)
		}
		out, err = c.verifyBlob(t, tr, sign.ProvenanceType, rt.Marshal(t, sealed), disk)
		wants(t, "provenance", false, out, err)
		out, err = c.verifyBlob(t, tr, sign.ProvenanceType, rt.Marshal(t, sealed), disk, "--insecure-ignore-tlog")
		wants(t, "provenance without a log", true, out, err)

		// Several bundles in one file are ours alone: cosign reads one object.
		out, err = c.verifyBlob(t, tr, release.PredicateType, append(slices.Clone(w.Bundle), channel...), disk)
		wants(t, "two bundles in one file", false, out, err)
	})
}

// What witnesses add to a checkpoint cosign passes over: it verifies with the cosignatures and without them, where a
// policy of ours refuses.
func TestWitnessedBundle(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		w, quorum := witnessed(t)
		disk, tr := filepath.Join(w.Out, "disk.raw"), byKey(t, w.Key, rootOf(w))
		policy := *w.Policy
		policy.Log = release.LogPolicy{Key: w.Log, Quorum: quorum}
		if r, err := release.Verify(w.Bundle, &policy, rt.Now); err != nil || r.Cosigned.IsZero() {
			t.Fatalf("ours: %v", err)
		}
		out, err := c.verifyBlob(t, tr, release.PredicateType, w.Bundle, disk)
		wants(t, "cosigned", true, out, err)
		b, err := release.ParseBundle(w.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		head, lines, _ := strings.Cut(b.Entry.Checkpoint, "\n\n")
		if strings.Count(lines, "\n") != 3 {
			t.Fatalf("not the log's line and two cosignatures:\n%s", lines)
		}
		b.Entry.Checkpoint = head + "\n\n" + strings.SplitAfter(lines, "\n")[0]
		out, err = c.verifyBlob(t, tr, release.PredicateType, rt.Marshal(t, b), disk)
		wants(t, "stripped", true, out, err)
		if _, err := release.Verify(rt.Marshal(t, b), &policy, rt.Now); err == nil {
			t.Error("ours accepts a stripped bundle")
		}
		b.Entry.Checkpoint = head + "\n\n" + strings.Join(strings.SplitAfter(lines, "\n")[1:], "")
		out, err = c.verifyBlob(t, tr, release.PredicateType, rt.Marshal(t, b), disk)
		wants(t, "cosigned by witnesses, not signed by the log", false, out, err)
	})
}

// A bundle with entries in two logs is verified by the trusted root of either, or by one that names both. Cosign wants
// every entry of a log that it trusts to hold and passes over those of others; ours takes the one of its policy's log.
func TestTwoLogs(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		w, second, third := rt.New(t), secondLog(t), rt.New(t)
		secondRoot := filepath.Join(second.dir, log.TrustedRootFile)
		both := merged(t, read(t, rootOf(w)), read(t, secondRoot))
		disk := filepath.Join(w.Out, "disk.raw")
		for _, tt := range []struct {
			what          string
			root          string
			first, second bool // is the entry right?
			want          bool
		}{
			{"both trusted", both, true, true, true},
			{"the first trusted", rootOf(w), true, true, true},
			{"the second trusted", secondRoot, true, true, true},
			{"none trusted", rootOf(third), true, true, false},
			{"both trusted, the second wrong", both, true, false, false},
			{"both trusted, the first wrong", both, false, true, false},
			{"the trusted one wrong", rootOf(w), false, true, false},
			{"the other one wrong", rootOf(w), true, false, true},
		} {
			b, err := release.ParseBundle(w.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			b.Others = []*release.Entry{second.append(t, release.LeafBody(&b.Envelope, w.Key.Public()))}
			for e, right := range map[*release.Entry]bool{b.Entry: tt.first, b.Others[0]: tt.second} {
				if !right {
					e.Checkpoint = strings.Replace(e.Checkpoint, base64.StdEncoding.EncodeToString(e.RootHash[:]), base64.StdEncoding.EncodeToString(make([]byte, 32)), 1)
				}
			}
			out, err := c.verifyBlob(t, byKey(t, w.Key, tt.root), release.PredicateType, rt.Marshal(t, b), disk)
			wants(t, tt.what, tt.want, out, err)
		}
	})
}

// A certificate's bundle is verified by a trusted root that names CA, timestamp authority, certificate log and ours.
func TestKeyless(t *testing.T) {
	eachCosign(t, func(t *testing.T, c cosign) {
		w, k := rt.New(t), certified(t)
		bundle := k.publish(t, w, sign.Options{Sequence: 2})
		disk, roots := filepath.Join(w.Out, "disk.raw"), merged(t, k.Root, read(t, rootOf(w)))
		out, err := c.verifyBlob(t, trust{k.identity(), roots}, release.PredicateType, bundle, disk, c.stamped...)
		wants(t, "workflow", true, out, err)
		other := strings.Split(strings.Replace(strings.Join(k.identity(), " "), "v1.2.0", "v1.3.0", 1), " ")
		out, err = c.verifyBlob(t, trust{other, roots}, release.PredicateType, bundle, disk, c.stamped...)
		wants(t, "another tag", false, out, err)
		noCT := merged(t, k.RootWithoutLogs, read(t, rootOf(w)))
		out, err = c.verifyBlob(t, trust{k.identity(), noCT}, release.PredicateType, bundle, disk, c.stamped...)
		wants(t, "no certificate log trusted", false, out, err)
		out, err = c.verifyBlob(t, trust{k.identity(), roots}, release.PredicateType, bundle, disk)
		wants(t, "without being told of timestamps", len(c.stamped) == 0, out, err)
	})
}

package evidence

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

type sessionCase struct {
	Size, Index          uint32
	Platform             string
	Report, Endorsements hexBytes
	Root                 string
	Path                 []string
	ReportData           hexBytes `json:"report_data"`
	Document             hexBytes
}

func sessionCases(t testing.TB) []sessionCase {
	t.Helper()
	data, err := os.ReadFile("testdata/session.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Cases []sessionCase }
	if err := json.Unmarshal(data, &v); err != nil || len(v.Cases) < 8 {
		t.Fatalf("%d cases, %v", len(v.Cases), err)
	}
	return v.Cases
}

func fill(b byte) (out [32]byte) {
	for i := range out {
		out[i] = b
	}
	return out
}

// leavesOf are the leaves of the vectors.
func leavesOf(n uint32) (all [][32]byte) {
	for i := range n {
		var nonce [32]byte
		binary.BigEndian.PutUint32(nonce[28:], i)
		all = append(all, SessionLeaf(fill(1), nonce, fill(3)))
	}
	return all
}

func TestSessionVectors(t *testing.T) {
	for _, c := range sessionCases(t) {
		leaves := leavesOf(c.Size)
		tree, err := NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		root := tree.Root()
		d, err := tree.Prove(int(c.Index))
		if err != nil || hex.EncodeToString(root[:]) != c.Root {
			t.Fatalf("%d of %d: root %x, %v; want %s", c.Index, c.Size, root, err, c.Root)
		}
		var path []string
		for _, p := range d.Path {
			path = append(path, hex.EncodeToString(p[:]))
		}
		if diff := cmp.Diff(c.Path, append([]string{}, path...)); diff != "" {
			t.Errorf("%d of %d: %s", c.Index, c.Size, diff)
		}
		if rd := SessionReportData(root); !bytes.Equal(rd[:], c.ReportData) {
			t.Errorf("%d of %d: REPORTDATA %x", c.Index, c.Size, rd)
		}
		d.Platform, d.Report, d.Endorsements = c.Platform, c.Report, c.Endorsements
		b, err := d.Marshal()
		if err != nil || !bytes.Equal(b, c.Document) {
			t.Errorf("%d of %d: document %x, %v; want %x", c.Index, c.Size, b, err, c.Document)
		}
		again, err := ParseSession(c.Document)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Errorf("%d of %d: %s", c.Index, c.Size, diff)
		}
	}
}

// TestSessionVectorsAreThePrograms runs the Python program that made the vectors again.
func TestSessionVectorsAreThePrograms(t *testing.T) {
	out, err := exec.Command(testtool.Need(t, "python3"), "testdata/session.py").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/session.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(out)); diff != "" {
		t.Error(diff)
	}
}

// TestEveryLeafIsProven builds trees of each small size: each leaf leads to the root, and no other does.
func TestEveryLeafIsProven(t *testing.T) {
	for n := uint32(1); n <= 40; n++ {
		leaves := leavesOf(n)
		tree, err := NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		for i := range leaves {
			d, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			if root, err := d.Root(leaves[i]); err != nil || root != tree.Root() {
				t.Fatalf("leaf %d of %d: root %x, %v", i, n, root, err)
			}
			if root, _ := d.Root(fill(9)); root == tree.Root() {
				t.Fatalf("leaf %d of %d: another leaf is proven", i, n)
			}
			for j := range d.Path {
				d.Path[j][0]++
				if root, _ := d.Root(leaves[i]); root == tree.Root() {
					t.Fatalf("leaf %d of %d: digest %d of the path does not matter", i, n, j)
				}
				d.Path[j][0]--
			}
			// An inner node is no leaf: its digest is taken over another first byte.
			if n > 2 && i == 0 {
				up := &SessionDocument{Size: (n + 1) / 2, Path: d.Path[1:]}
				if root, err := up.Root(SessionLeaf(leaves[0], leaves[1], [32]byte{})); err == nil && root == tree.Root() {
					t.Fatalf("an inner node of %d passes for a leaf", n)
				}
			}
		}
	}
	if _, err := NewTree(nil); err == nil {
		t.Error("a tree of nothing")
	}
	if _, err := NewTree(make([][32]byte, MaxSessions+1)); err == nil {
		t.Error("a tree of too many")
	}
}

func TestSessionRefuses(t *testing.T) {
	doc := sessionCases(t)[3].Document
	for i := range doc {
		if _, err := ParseSession(doc[:i]); err == nil {
			t.Fatalf("%d of %d bytes accepted", i, len(doc))
		}
	}
	edit := func(at int, v byte) []byte { b := bytes.Clone(doc); b[at] = v; return b }
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"version":     {edit(0, 2), "version 2, want 1"},
		"platform":    {edit(2, 'S'), "platform"},
		"no leaves":   {edit(8, 0), "leaf 2 of 0"},
		"beyond":      {edit(12, 3), "leaf 3 of 3"},
		"other leaf":  {edit(12, 1), "path: 1 digests, want 2"},
		"long path":   {edit(13, 17), "17 digests, want at most 16"},
		"a byte more": {append(bytes.Clone(doc), 0), "1 bytes after the last field"},
		"oversize":    {make([]byte, MaxDocument+1), "want at most"},
		"huge tree":   {edit(5, 1), "want one of 1 to 65536"},
	} {
		if _, err := ParseSession(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := (&SessionDocument{Platform: "snp", Size: 2}).Marshal(); err == nil {
		t.Error("a document without its path is written")
	}
	if _, err := (&SessionDocument{Platform: "snp", Size: 1, Report: make([]byte, MaxDocument)}).Marshal(); err == nil {
		t.Error("an oversize document is written")
	}
}

// FuzzParseSession wants that whatever is accepted is what Marshal writes, and leads to some root.
func FuzzParseSession(f *testing.F) {
	for _, c := range sessionCases(f) {
		f.Add([]byte(c.Document))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseSession(data)
		if err != nil {
			return
		}
		if again, err := d.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted %x, writes %x, %v", data, again, err)
		}
		if _, err := d.Root([32]byte{}); err != nil {
			t.Fatal(err)
		}
	})
}

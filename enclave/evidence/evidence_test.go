package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

// A hexBytes is bytes in hex in the vector file.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	if len(*h) == 0 {
		*h = nil
	}
	return err
}

type vectors struct {
	Origin string
	Key    []struct {
		Name, Platform, Authority string
		Static                    hexBytes
		Epoch                     uint64
		NotBefore                 int64    `json:"not_before"`
		NotAfter                  int64    `json:"not_after"`
		EncapKey                  hexBytes `json:"encap_key"`
		GPU, Beacon               hexBytes
		Report, Endorsements      hexBytes
		ReportData                hexBytes `json:"report_data"`
		Document                  hexBytes
	}
	Session []struct {
		HandshakeHash hexBytes `json:"handshake_hash"`
		Nonce, Static hexBytes
		Leaf          hexBytes
		ReportData    hexBytes `json:"report_data_of_leaf_as_root"`
	}
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	data, err := os.ReadFile("testdata/reportdata.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Key) < 3 || len(v.Session) < 2 {
		t.Fatalf("vectors: %d and %d cases", len(v.Key), len(v.Session))
	}
	return v
}

func TestVectors(t *testing.T) {
	v := readVectors(t)
	for _, c := range v.Key {
		d := &Document{Platform: c.Platform, Report: c.Report, Endorsements: c.Endorsements, Claims: Claims{
			Authority: c.Authority, Static: [32]byte(c.Static), Epoch: c.Epoch, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			EncapKey: c.EncapKey, GPU: c.GPU, Beacon: c.Beacon,
		}}
		if got := d.Claims.ReportData(); !bytes.Equal(got[:], c.ReportData) {
			t.Errorf("%s: REPORTDATA %x, want %x", c.Name, got, c.ReportData)
		}
		b, err := d.Marshal()
		if err != nil || !bytes.Equal(b, c.Document) {
			t.Errorf("%s: document %x, %v; want %x", c.Name, b, err, c.Document)
		}
		again, err := Parse(c.Document)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Errorf("%s: %s", c.Name, diff)
		}
	}
	for i, c := range v.Session {
		leaf := SessionLeaf([32]byte(c.HandshakeHash), [32]byte(c.Nonce), [32]byte(c.Static))
		if !bytes.Equal(leaf[:], c.Leaf) {
			t.Errorf("session %d: leaf %x, want %x", i, leaf, c.Leaf)
		}
		if rd := SessionReportData(leaf); !bytes.Equal(rd[:], c.ReportData) {
			t.Errorf("session %d: REPORTDATA %x, want %x", i, rd, c.ReportData)
		}
	}
}

// TestVectorsAreThePrograms runs the Python program that made the vectors again.
func TestVectorsAreThePrograms(t *testing.T) {
	out, err := exec.Command(testtool.Need(t, "python3"), "testdata/reportdata.py").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/reportdata.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(out)); diff != "" {
		t.Error(diff)
	}
}

// TestEveryFieldIsBound changes each claim and wants another REPORTDATA each time.
func TestEveryFieldIsBound(t *testing.T) {
	base := good().Claims
	seen := map[[64]byte]string{base.ReportData(): "base"}
	for name, change := range map[string]func(*Claims){
		"authority":         func(c *Claims) { c.Authority += "x" },
		"static":            func(c *Claims) { c.Static[31] ^= 1 },
		"epoch":             func(c *Claims) { c.Epoch++ },
		"not before":        func(c *Claims) { c.NotBefore++ },
		"not after":         func(c *Claims) { c.NotAfter++ },
		"encapsulation key": func(c *Claims) { c.EncapKey = make([]byte, ekSize) },
		"gpu":               func(c *Claims) { c.GPU = []byte("x") },
		"beacon":            func(c *Claims) { c.Beacon = []byte("x") },
		"gpu for beacon":    func(c *Claims) { c.GPU, c.Beacon = []byte("y"), []byte("x") },
	} {
		c := base
		change(&c)
		rd := c.ReportData()
		if other, ok := seen[rd]; ok {
			t.Errorf("%s: the same REPORTDATA as %s", name, other)
		}
		seen[rd] = name
	}
}

func good() *Document {
	return &Document{Platform: "insecure", Report: []byte("r"), Claims: Claims{Authority: "default", Static: [32]byte{1}, Epoch: 1, NotBefore: 10, NotAfter: 20}}
}

func TestMarshalRefuses(t *testing.T) {
	for want, change := range map[string]func(*Document){
		"platform: 0 bytes":               func(d *Document) { d.Platform = "" },
		"platform: 33 bytes":              func(d *Document) { d.Platform = strings.Repeat("x", 33) },
		`platform "SNP": byte 0`:          func(d *Document) { d.Platform = "SNP" },
		"authority: 0 bytes":              func(d *Document) { d.Claims.Authority = "" },
		"authority: 256 bytes":            func(d *Document) { d.Claims.Authority = strings.Repeat("x", 256) },
		`authority "a b": byte 1 is 0x20`: func(d *Document) { d.Claims.Authority = "a b" },
		"static key: all zero":            func(d *Document) { d.Claims.Static = [32]byte{} },
		"epoch: 0":                        func(d *Document) { d.Claims.Epoch = 0 },
		"validity: 0 to 20":               func(d *Document) { d.Claims.NotBefore = 0 },
		"validity: 10 to 10":              func(d *Document) { d.Claims.NotAfter = 10 },
		"encapsulation key: 3 bytes":      func(d *Document) { d.Claims.EncapKey = []byte("abc") },
		"beacon: 16385 bytes":             func(d *Document) { d.Claims.Beacon = make([]byte, MaxBeacon+1) },
		"a field of 70000 bytes":          func(d *Document) { d.Report = make([]byte, 70000) },
		"want at most 49152":              func(d *Document) { d.Report, d.Endorsements = make([]byte, 40000), make([]byte, 10000) },
	} {
		d := good()
		change(d)
		if _, err := d.Marshal(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// TestParseRefusesEveryTruncation cuts a document at every byte and appends one.
func TestParseRefusesEveryTruncation(t *testing.T) {
	doc := readVectors(t).Key[1].Document
	for i := range doc {
		if _, err := Parse(doc[:i]); err == nil {
			t.Fatalf("%d of %d bytes accepted", i, len(doc))
		}
	}
	if _, err := Parse(append(bytes.Clone(doc), 0)); err == nil || !strings.Contains(err.Error(), "1 bytes after the last field") {
		t.Errorf("trailing byte: %v", err)
	}
	if _, err := Parse(make([]byte, MaxDocument+1)); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Errorf("oversize: %v", err)
	}
	other := bytes.Clone(doc)
	other[0] = 2
	if _, err := Parse(other); err == nil || !strings.Contains(err.Error(), "version 2, want 1") {
		t.Errorf("other version: %v", err)
	}
}

// FuzzParse wants that whatever is accepted is what Marshal writes.
func FuzzParse(f *testing.F) {
	for _, c := range readVectors(f).Key {
		f.Add([]byte(c.Document))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data)
		if err != nil {
			return
		}
		again, err := d.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted %x, writes %x, %v", data, again, err)
		}
	})
}

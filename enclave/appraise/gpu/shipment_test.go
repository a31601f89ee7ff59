package gpu_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/enclave/appraise/gpu"
)

// TestShipmentKeepsTheDocument: its digest is bound, so not a byte of it may change on the way, odd spelling or not.
func TestShipmentKeepsTheDocument(t *testing.T) {
	for _, document := range []string{`{}`, `{ "devices": [{"arch": "<HOPPER>&", "nonce":"\u00e9"}] }`, "{\"a\":[1,\n 2]}"} {
		in := gpu.Shipment{Document: []byte(document), RIMs: [][]byte{[]byte("<a/>")}, OCSP: [][]byte{{0x30, 0}}}
		b, err := in.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out, err := gpu.ParseShipment(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(in, *out); d != "" {
			t.Errorf("%s: %s", document, d)
		}
	}
	for _, document := range []string{"", "[]", "{", "{}}"} {
		if _, err := (&gpu.Shipment{Document: []byte(document)}).Marshal(); err == nil {
			t.Errorf("document %q: no error", document)
		}
	}
}

func TestParseShipmentRefuses(t *testing.T) {
	many := func(n int) string { return `[` + strings.Repeat(`"",`, n) + `""]` }
	for in, want := range map[string]string{
		"":                                       "EOF",
		`{`:                                      "EOF",
		`{"schema":"tally.gpu-set/v1","set":{}}`: "schema",
		`{"schema":"tally.gpu-set/v1","devices":[]}`:                               "devices",
		`{"schema":"tally.gpu-set/v2"}`:                                            "want an object",
		`{"schema":"tally.gpu-set/v2","set":[]}`:                                   "want an object",
		`{"schema":"tally.gpu-set/v2","set":{},"verdict":1}`:                       "verdict",
		`{"schema":"tally.gpu-set/v2","set":{}}{}`:                                 "more than one",
		`{"schema":"tally.gpu-set/v2","set":{},"rims":["?"]}`:                      "base64",
		`{"schema":"tally.gpu-set/v2","set":{},"rims":` + many(64) + `}`:           "at most 64",
		`{"schema":"tally.gpu-set/v2","set":{},"ocsp":` + many(256) + `}`:          "and 256",
		`{"schema":"tally.gpu-set/v2","set":{` + strings.Repeat(" ", 1<<20) + `}}`: "at most 1048576",
	} {
		if s, err := gpu.ParseShipment([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, %v; want %q", in, s, err, want)
		}
	}
	if _, err := gpu.ParseRIMs([]byte("<a/>")); err == nil || !strings.Contains(err.Error(), "manifest 0") {
		t.Errorf("a manifest that is none: %v", err)
	}
}

// TestShipmentLimits: as much as may be is written and read, and more is not written.
func TestShipmentLimits(t *testing.T) {
	around := len(`{"schema":"tally.gpu-set/v2","set":,"rims":[],"ocsp":[]}`)
	for _, more := range []int{0, 1} {
		s := gpu.Shipment{Document: []byte("{" + strings.Repeat(" ", gpu.MaxShipment-around-2+more) + "}")}
		b, err := s.Marshal()
		if (err == nil) != (more == 0) || err != nil && !strings.Contains(err.Error(), "want at most 1048576") {
			t.Errorf("%d bytes more: %d bytes, %v", more, len(b), err)
		}
		if err != nil {
			continue
		}
		if _, err := gpu.ParseShipment(b); err != nil || len(b) != gpu.MaxShipment {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	lists := func(n int) string { return "[" + strings.Repeat(`"",`, n-1) + `""]` }
	if s, err := gpu.ParseShipment([]byte(`{"schema":"tally.gpu-set/v2","set":{},"rims":` + lists(64) + `,"ocsp":` + lists(256) + `}`)); err != nil || len(s.RIMs) != 64 || len(s.OCSP) != 256 {
		t.Errorf("%+v, %v", s, err)
	}
}

// FuzzParseShipment wants that what is accepted is written again with the same meaning.
func FuzzParseShipment(f *testing.F) {
	f.Add([]byte(`{"schema":"tally.gpu-set/v2","set":{ "devices": [] },"rims":["AAA="],"ocsp":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := gpu.ParseShipment(data)
		if err != nil {
			return
		}
		b, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := gpu.ParseShipment(b)
		if err != nil || !bytes.Equal(again.Document, s.Document) || len(again.RIMs) != len(s.RIMs) || len(again.OCSP) != len(s.OCSP) {
			t.Fatalf("%v: %+v, want %+v", err, again, s)
		}
	})
}

package gpu

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestParseEvidenceRefuses: what is neither a report with its chain nor the vendor's JSON is named as what it is not, and a file that says
// other things of a device than its report is refused.
func TestParseEvidenceRefuses(t *testing.T) {
	report, chain := sample(t)
	r, err := ParseReport(report)
	if err != nil {
		t.Fatal(err)
	}
	driver, err := r.Driver()
	if err != nil {
		t.Fatal(err)
	}
	vbios, err := r.VBIOS()
	if err != nil {
		t.Fatal(err)
	}
	good := entry{Hopper, chain, report, hex.EncodeToString(r.RequestNonce[:]), "1.0", driver, vbios}
	file := func(change func(*entry)) []byte {
		e := good
		change(&e)
		b, err := json.Marshal([]entry{e})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one := file(func(*entry) {})
	entries := func(n int) []byte {
		return []byte("[" + strings.Repeat(string(one[1:len(one)-1])+",", n-1) + string(one[1:len(one)-1]) + "]")
	}
	if all, err := ParseEvidence(one, nil); err != nil || len(all) != 1 || all[0].Arch != Hopper {
		t.Fatalf("%d devices, %v", len(all), err)
	}
	if all, err := ParseEvidence(file(func(e *entry) { e.Version, e.Driver, e.VBIOS = "", "", "" }), nil); err != nil || len(all) != 1 {
		t.Errorf("without versions: %d devices, %v", len(all), err)
	}
	small := []byte("[" + strings.Repeat("{},", MaxDevices) + "{}]")
	padded := func(n int) []byte { return append(bytes.Clone(one), bytes.Repeat([]byte(" "), n-len(one))...) }
	if _, err := ParseEvidence(padded(MaxEvidence), nil); err != nil {
		t.Errorf("a file of the largest size: %v", err)
	}
	for _, c := range []struct {
		data, chain []byte
		want        string
	}{
		{padded(MaxEvidence + 1), nil, "want at most 2097152"},
		{nil, nil, "want a JSON array of devices or a report"},
		{[]byte(" \n"), chain, "want a JSON array of devices or a report"},
		{one, chain, "want none beside it"},
		{report, nil, "needs its certificate chain"},
		{report[:requestSize], chain, "that starts 11e0"},
		{append([]byte{0x10}, report[1:]...), chain, "that starts 11e0"},
		{append([]byte{0x11, 0x60}, report[2:]...), chain, "that starts 11e0"},
		{[]byte(hex.EncodeToString(report[:requestSize])), chain, "that starts 11e0"},
		{[]byte(hex.EncodeToString(report) + "0"), chain, "that starts 11e0"},
		{report, []byte("no PEM"), "certificate"},
		{[]byte("[]"), nil, "0 devices, want 1 to"},
		{small, nil, fmt.Sprintf("%d devices, want 1 to", MaxDevices+1)},
		{[]byte("[{}]"), nil, `device 0: arch "", want`},
		{append(bytes.Clone(one), '[', ']'), nil, "more than one JSON value"},
		{[]byte(`[{"arch":"HOPPER","verdict":true}]`), nil, "verdict"},
		{file(func(e *entry) { e.Arch = "AMPERE" }), nil, `arch "AMPERE", want`},
		{file(func(e *entry) { e.Evidence = report[1:] }), nil, "GET_MEASUREMENTS"},
		{file(func(e *entry) { e.Nonce = "0" + good.Nonce[1:63] + "0" }), nil, "but the report answers"},
		{file(func(e *entry) { e.Nonce = "" }), nil, "but the report answers"},
		{file(func(e *entry) { e.Nonce = good.Nonce + "x" }), nil, "but the report answers"},
		{file(func(e *entry) { e.Driver = "1.2.3" }), nil, `driver_version "1.2.3", but the report states "` + driver},
		{file(func(e *entry) { e.VBIOS = "1.2.3" }), nil, `vbios_version "1.2.3", but the report states "` + vbios},
	} {
		if all, err := ParseEvidence(c.data, c.chain); err == nil || all != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q, %.20q: %d devices, %v; want %q", c.data, c.chain, len(all), err, c.want)
		}
	}
	if all, err := ParseEvidence(entries(MaxDevices), nil); err != nil || len(all) != MaxDevices {
		t.Errorf("%d devices, %v", len(all), err)
	}
}

// TestIsEvidence: a reader of many formats is told whose a file is by how it begins.
func TestIsEvidence(t *testing.T) {
	report, _ := sample(t)
	for in, want := range map[string]bool{
		"": false, " \n": false, "{}": false, "<a/>": false, "11e0": false,
		" [": true, `{"schema":"tally.gpu-set/v2"`: true, `{"schema":"tally.gpu-set/v1"`: false,
		string(report): true, string(report[:requestSize]): false, hex.EncodeToString(report): true, "\n11 e0" + hex.EncodeToString(report[2:]): true,
	} {
		if got := IsEvidence([]byte(in)); got != want {
			t.Errorf("%.40q: %v, want %v", in, got, want)
		}
	}
}

// TestArchOf: the family is the chip's in the certificate's name.
func TestArchOf(t *testing.T) {
	for name, want := range map[string]Arch{"GH100 A01 GSP FMC LF": Hopper, "GB100 A01 FSP FMC LF": Blackwell, "LS_10 A01 FMC LF": LS10, "GH200 A01": "", "": ""} {
		if got, err := archOf(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}

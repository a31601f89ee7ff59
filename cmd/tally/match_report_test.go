package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMatchReportLikeQuote: a report whose guest SVN is the TEE type of TDX starts like a quote, and is a report.
func TestMatchReportLikeQuote(t *testing.T) {
	dir := t.TempDir()
	report, firmware := filepath.Join(dir, "report"), filepath.Join(dir, "OVMF.fd")
	data := readXZ(t, "../../measure/snp/testdata/vectors/ovmf/OVMF.fd.xz")
	if err := os.WriteFile(firmware, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// A digest of sev-snp-measure 0.0.13 (8f2b337), as in match.txt.
	digest, err := hex.DecodeString("11df58a5a00d583deb1f9413eeda6550e5ead36be42e655070d4f74fc96b505f9b4afc02753c281c5b00b8f715b9e950")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []byte{4, 5} {
		b := make([]byte, 1184)
		b[0], b[4] = version, 0x81
		b[0x188], b[0x189], b[0x18a] = 0x19, 0x11, 1 // a Genoa
		copy(b[0x90:], digest)
		if err := os.WriteFile(report, b, 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := run(t, "match", report, "--ovmf", firmware)
		if code != exitOK || !strings.HasPrefix(out, "ec2, 2 vcpus, any CPU type, ") {
			t.Errorf("version %d: code %d\n%s%s", version, code, out, errs)
		}
	}
}

package amd_test

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tally/enclave/appraise/amd"
)

// TestMemo: a Memo answers as Verify does, whatever it has seen before.
func TestMemo(t *testing.T) {
	m := machine(t)
	if err := m.Revoke(now, false); err != nil {
		t.Fatal(err)
	}
	report, certs := sign(t, m)
	other, err := m.Report([64]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(report)
	flipped[0x90] ^= 1
	memo := new(amd.Memo)
	if _, err := memo.Verify(report, certs, m.Roots(), now); err != nil {
		t.Fatal(err)
	}
	badCerts := bytes.Clone(certs)
	badCerts[len(badCerts)-1] ^= 1
	week := 7 * 24 * time.Hour
	for name, c := range map[string]struct {
		raw, certs []byte
		roots      *amd.Roots
		at         time.Time
	}{
		"the same":              {report, certs, m.Roots(), now},
		"later":                 {report, certs, m.Roots(), now.Add(week - 1)},
		"the list is out":       {report, certs, m.Roots(), now.Add(week)},
		"before the list":       {report, certs, m.Roots(), now.Add(-time.Second)},
		"after the certificate": {report, certs, m.Roots(), now.AddDate(30, 0, 0)},
		"another report":        {other, certs, m.Roots(), now},
		"a bit of the report":   {flipped, certs, m.Roots(), now},
		"a bit of a signature":  {report, badCerts, m.Roots(), now},
		"AMD's roots":           {report, certs, nil, now},
		"no root of VLEKs":      {report, certs, &amd.Roots{ARK: m.Roots().ARK, ASK: m.Roots().ASK}, now},
		"another machine's":     {report, certs, machine(t).Roots(), now},
	} {
		for range 2 {
			want, wantErr := amd.Verify(c.raw, c.certs, c.roots, c.at)
			got, err := memo.Verify(c.raw, c.certs, c.roots, c.at)
			if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
				t.Errorf("%s: %v, want %v", name, err, wantErr)
				continue
			}
			if err == nil && (!proto.Equal(got.Attestation, want.Attestation) || !bytes.Equal(got.Raw, want.Raw) || got.Signer != want.Signer || got.Product != want.Product ||
				got.Certificate != want.Certificate || got.Root != want.Root || got.Revocation != want.Revocation || got.GetVmpl() != want.GetVmpl()) {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
		}
	}
	// What a caller does to its answer is not in the next.
	got, err := memo.Verify(report, certs, m.Roots(), now)
	if err != nil {
		t.Fatal(err)
	}
	got.Report.Measurement[0] ^= 1
	got.Raw[0] ^= 1
	if again, err := memo.Verify(report, certs, m.Roots(), now); err != nil || again.Report.Measurement[0] == got.Report.Measurement[0] || again.Raw[0] == got.Raw[0] {
		t.Errorf("a caller has changed what is remembered: %v", err)
	}
	if _, err := (*amd.Memo)(nil).Verify(report, certs, m.Roots(), now); err != nil {
		t.Error("no memo:", err)
	}
}

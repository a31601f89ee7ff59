package intel_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tally/enclave/appraise/intel"
	"tally/internal/testtool"
)

// dcap reads a file of another verifier's samples, and wants it to be the one that SOURCE names.
func dcap(t *testing.T, name string) []byte {
	t.Helper()
	return testtool.Sample(t, filepath.Join("testdata", "dcap-qvl"), name)
}

// published reads what Intel's service said in the form of that verifier, where bodies and their signatures are apart.
func published(t *testing.T, name string) *intel.Collateral {
	t.Helper()
	var f struct {
		PCKCRL          string `json:"pck_crl"`
		RootCRL         string `json:"root_ca_crl"`
		TCBInfo         string `json:"tcb_info"`
		TCBInfoSig      string `json:"tcb_info_signature"`
		TCBInfoChain    string `json:"tcb_info_issuer_chain"`
		QEIdentity      string `json:"qe_identity"`
		QEIdentitySig   string `json:"qe_identity_signature"`
		QEIdentityChain string `json:"qe_identity_issuer_chain"`
	}
	if err := json.Unmarshal(dcap(t, name), &f); err != nil {
		t.Fatal(err)
	}
	c := &intel.Collateral{TCBInfoChain: f.TCBInfoChain, QEIdentityChain: f.QEIdentityChain}
	c.TCBInfo = fmt.Sprintf(`{"tcbInfo":%s,"signature":"%s"}`, f.TCBInfo, f.TCBInfoSig)
	c.QEIdentity = fmt.Sprintf(`{"enclaveIdentity":%s,"signature":"%s"}`, f.QEIdentity, f.QEIdentitySig)
	for s, to := range map[string]*[]byte{f.PCKCRL: &c.PCKCRL, f.RootCRL: &c.RootCRL} {
		var err error
		if *to, err = hex.DecodeString(s); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestRealCollateral is a quote with what Intel said of its platform in the month of the quote: up to date.
func TestRealCollateral(t *testing.T) {
	raw, day := dcap(t, "tdx_quote"), time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)
	verify := func(c *intel.Collateral, raw []byte, at time.Time) (*intel.Quote, error) {
		b, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return intel.Verify(t.Context(), raw, b, nil, at)
	}
	q, err := verify(published(t, "tdx_quote_collateral.json"), raw, day)
	if err != nil {
		t.Fatal(err)
	}
	c := q.Collateral
	if q.Root != "Intel" || c == nil || c.Status != "UpToDate" || c.EvaluationNumber != 17 || len(c.Advisories) != 0 ||
		c.Issued != time.Date(2025, 6, 19, 10, 16, 3, 0, time.UTC) || c.NextUpdate != time.Date(2025, 7, 19, 10, 16, 3, 0, time.UTC) {
		t.Errorf("root %s, %+v", q.Root, c)
	}
	for name, change := range map[string]func(*intel.Collateral) (time.Time, string){
		"next month":       func(*intel.Collateral) (time.Time, string) { return day.AddDate(0, 1, 0), "tcb_info: of 2025-06-19" },
		"the month before": func(*intel.Collateral) (time.Time, string) { return day.AddDate(0, -1, 0), "of 2025-06-19" },
		"a level raised": func(c *intel.Collateral) (time.Time, string) {
			c.TCBInfo = strings.Replace(c.TCBInfo, `"tcbStatus":"OutOfDate"`, `"tcbStatus":"UpToDate"`, 1)
			return day, "verification failure"
		},
		"another identity of the quoting enclave": func(c *intel.Collateral) (time.Time, string) {
			c.QEIdentity = strings.Replace(c.QEIdentity, `"isvprodid":2`, `"isvprodid":1`, 1)
			return day, ""
		},
		"another platform's": func(c *intel.Collateral) (time.Time, string) {
			o := published(t, "tdx_quote_outdated_collateral.json")
			c.TCBInfo, c.TCBInfoChain = o.TCBInfo, o.TCBInfoChain
			return day, "of 2026-02-18"
		},
		"list of the root changed": func(c *intel.Collateral) (time.Time, string) { c.RootCRL[len(c.RootCRL)-1] ^= 1; return day, "" },
		"list of PCKs changed":     func(c *intel.Collateral) (time.Time, string) { c.PCKCRL[len(c.PCKCRL)-1] ^= 1; return day, "" },
		"lists exchanged": func(c *intel.Collateral) (time.Time, string) {
			c.PCKCRL, c.RootCRL = c.RootCRL, c.PCKCRL
			return day, ""
		},
	} {
		c := published(t, "tdx_quote_collateral.json")
		before, _ := c.Marshal()
		at, want := change(c)
		after, _ := c.Marshal()
		if bytes.Equal(before, after) && at.Equal(day) {
			t.Errorf("%s: nothing changed", name)
		}
		if _, err := verify(c, raw, at); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestRealBelowAll is a platform below every level of Intel's list (in its eighth component): refused with collateral, verified
// without.
func TestRealBelowAll(t *testing.T) {
	raw, day := dcap(t, "tdx_quote_outdated"), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	b, err := published(t, "tdx_quote_outdated_collateral.json").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := intel.Verify(t.Context(), raw, b, nil, day); err == nil || !strings.Contains(err.Error(), "no level is as low as the platform") {
		t.Errorf("with collateral: %v", err)
	}
	if q, err := intel.Verify(t.Context(), raw, nil, nil, day); err != nil || q.Collateral != nil {
		t.Errorf("without: %v", err)
	}
}

// TestRealCollateralAsFile: a chain that stands in a file of its own ends in what its writer left there, as the one that
// confidential-dot-ai/attestation-rs keeps does. Only white space is nothing.
func TestRealCollateralAsFile(t *testing.T) {
	raw, day := dcap(t, "tdx_quote"), time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC)
	for end, ok := range map[string]bool{"": true, "\n": true, "\n\n": true, " \r\n\t": true, "\x00": true, "\nx": false} {
		c := published(t, "tdx_quote_collateral.json")
		c.TCBInfoChain, c.QEIdentityChain = strings.TrimSpace(c.TCBInfoChain)+end, strings.TrimSpace(c.QEIdentityChain)+end
		b, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := intel.Verify(t.Context(), raw, b, nil, day); (err == nil) != ok {
			t.Errorf("chains with %q behind them: %v", end, err)
		}
	}
}

// TestRealGCE: the quote that package tdx holds its rules for Google's guests against is one of Intel's quoting enclaves.
func TestRealGCE(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "measure", "tdx", "testdata", "flashbots", "gcp-tdx-1782809233226668671"))
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)
	q, err := intel.Verify(t.Context(), raw, nil, nil, day)
	if err != nil || q.PCK.FMSPC != "00806f050000" || q.Root != "Intel" {
		t.Fatalf("%+v, %v", q, err)
	}
	for _, at := range []int{48 + 136, 48 + 328, 48 + 376, 48 + 424} { // MRTD, RTMR0 to RTMR2
		b := bytes.Clone(raw)
		b[at] ^= 1
		if _, err := intel.Verify(t.Context(), b, nil, nil, day); err == nil {
			t.Errorf("byte %d: accepted", at)
		}
	}
}

package intel_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"tally/enclave/appraise/intel"
	"tally/enclave/attesttest"
)

var now = time.Unix(1767225600, 0).UTC()

// realTime lies in the validity of the certificates of the real quotes.
var realTime = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func platform(t testing.TB) *attesttest.Intel {
	t.Helper()
	m, err := attesttest.NewIntel(now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func quote(t testing.TB, m *attesttest.Intel) (quote, collateral []byte) {
	t.Helper()
	quote, collateral, err := m.Attest(t.Context(), [64]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return quote, collateral
}

// realQuote is the sample without the 39 bytes of text that the module's authors put after it.
var realQuote = testdata.RawQuote[:4935]

// TestRealQuotes verifies quotes of real platforms under Intel's root, offline.
func TestRealQuotes(t *testing.T) {
	for name, raw := range map[string][]byte{"version 4": realQuote, "padded": append(bytes.Clone(realQuote), 0, 0, 0), "version 5": testdata.RawQuoteV5} {
		q, err := intel.Verify(t.Context(), raw, nil, nil, realTime)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if q.Root != "Intel" || q.Collateral != nil || len(q.PCK.PPID) != 32 {
			t.Errorf("%s: root %s, PPID %q", name, q.Root, q.PCK.PPID)
		}
	}
}

// TestRealQuoteBitByBit flips a bit in each byte that the chain of signatures covers, of a quote of each version.
func TestRealQuoteBitByBit(t *testing.T) {
	const (
		signed = 4 + 64 + 64 + 6 + 384 + 64 + 2 + 32 // length, signature, key, QE report, its signature, QE data
		body   = 0x278                               // version 4: header and body
		more   = 6 + 64                              // version 5: a descriptor and the fields of TDX 1.5
	)
	for _, raw := range []struct {
		quote []byte
		end   int
	}{{realQuote, body + signed}, {testdata.RawQuoteV5, body + more + signed}} {
		for i := range raw.end {
			b := bytes.Clone(raw.quote)
			b[i] ^= 1 << (i % 8)
			if _, err := intel.Verify(t.Context(), b, nil, nil, realTime); err == nil {
				t.Errorf("version %d, byte %#x: accepted", raw.quote[0], i)
			}
		}
	}
}

func TestFakePlatform(t *testing.T) {
	for _, tdx15 := range []bool{false, true} {
		m := platform(t)
		m.Fields.TDX15 = tdx15
		m.Fields.MRServiceTD[0], m.Fields.RTMR[3][47] = 9, 8
		raw, collateral := quote(t, m)
		q, err := intel.Verify(t.Context(), raw, collateral, m.Root(), now)
		if err != nil {
			t.Fatalf("TDX 1.5 %v: %v", tdx15, err)
		}
		if q.PCK.PPID != m.PPID() || q.Collateral.Status != "UpToDate" || q.Collateral.EvaluationNumber != 18 || q.RTMR[3][47] != 8 || len(q.Root) != 64 {
			t.Errorf("%+v", q)
		}
		if tdx15 != (len(q.MRServiceTD) == 48 && q.MRServiceTD[0] == 9) {
			t.Errorf("MRSERVICETD %x", q.MRServiceTD)
		}
		if _, err := intel.Verify(t.Context(), raw, collateral, nil, now); err == nil {
			t.Error("Intel's root accepts a fake platform")
		}
		if _, err := intel.Verify(t.Context(), raw, collateral, platform(t).Root(), now); err == nil {
			t.Error("another root accepts a fake platform")
		}
	}
}

func TestStatementsRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*attesttest.Intel)
		at     time.Time
		want   string
	}{
		"platform out of date":        {func(m *attesttest.Intel) { m.Says.Platform = "OutOfDate" }, now, "the platform's TCB is OutOfDate"},
		"platform wants software":     {func(m *attesttest.Intel) { m.Says.Platform = "SWHardeningNeeded" }, now, "SWHardeningNeeded"},
		"module out of date":          {func(m *attesttest.Intel) { m.Says.Module = "OutOfDate" }, now, "TCB status"},
		"module revoked":              {func(m *attesttest.Intel) { m.Says.Module = "Revoked" }, now, "Revoked"},
		"quoting enclave out of date": {func(m *attesttest.Intel) { m.Says.QE = "OutOfDate" }, now, "QE Identity"},
		"quoting enclave too old":     {func(m *attesttest.Intel) { m.Fields.QEISVSVN = 7 }, now, "QE"},
		"platform certificate":        {func(m *attesttest.Intel) { m.RevokePCK() }, now, "revoked"},
		"platform CA":                 {func(m *attesttest.Intel) { m.RevokeCA() }, now, "revoked"},
		"statements of tomorrow":      {func(m *attesttest.Intel) { m.Says.Issued = now.Add(24 * time.Hour) }, now, "now 2026-01-01"},
		"statements of last month":    {nil, now.Add(31 * 24 * time.Hour), "now 2026-02-01"},
		"unknown status":              {func(m *attesttest.Intel) { m.Says.Platform = "Fine" }, now, "Fine"},
	} {
		m := platform(t)
		if c.change != nil {
			c.change(m)
		}
		raw, collateral := quote(t, m)
		if _, err := intel.Verify(t.Context(), raw, collateral, m.Root(), c.at); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestCollateralRefuses changes each field of good collateral.
func TestCollateralRefuses(t *testing.T) {
	m := platform(t)
	raw, good := quote(t, m)
	_, others := quote(t, platform(t))
	var other, base map[string]any
	if err := json.Unmarshal(others, &other); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(good, &base); err != nil {
		t.Fatal(err)
	}
	for name := range base {
		for how, value := range map[string]any{"empty": "", "another platform's": other[name], "missing": nil} {
			if name == "schema" && how == "another platform's" {
				continue
			}
			c := map[string]any{}
			for k, v := range base {
				c[k] = v
			}
			c[name] = value
			if how == "missing" {
				delete(c, name)
			}
			b, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = intel.Verify(t.Context(), raw, b, m.Root(), now)
			if err == nil || how != "another platform's" && name != "schema" && !strings.Contains(err.Error(), name+": missing") {
				t.Errorf("%s %s: %v", name, how, err)
			}
		}
	}
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown key":    {`"schema"`, `"extra": 1, "schema"`, "unknown field"},
		"other schema":   {"collateral/v1", "collateral/v2", "want \"tally.tdx-collateral/v1\""},
		"a key twice":    {`\"version\":3`, `\"version\":3,\"Version\":3`, "twice"},
		"signed text":    {`\"pcesvn\":11`, `\"pcesvn\":10`, "could not verify response body"},
		"trailing bytes": {"}\n", "} {}", "after the object"},
	} {
		b := strings.Replace(string(good), c.from, c.to, 1)
		if b == string(good) {
			t.Errorf("%s: nothing changed", name)
		}
		if _, err := intel.Verify(t.Context(), raw, []byte(b), m.Root(), now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := intel.ParseCollateral(make([]byte, intel.MaxCollateral+1)); err == nil || !strings.Contains(err.Error(), "want at most") {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	raw, _ := quote(t, platform(t))
	for name, b := range map[string][]byte{"empty": nil, "short": raw[:600], "long": make([]byte, intel.MaxQuote+1), "tail": append(bytes.Clone(raw), 1), "text after it": testdata.RawQuote,
		"version": append([]byte{3}, raw[1:]...), "SGX": append(append(bytes.Clone(raw[:4]), 0), raw[5:]...)} {
		if _, _, err := intel.Parse(b); err == nil || !strings.HasPrefix(err.Error(), "TDX quote: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := 0; i < len(raw); i += 7 {
		if _, _, err := intel.Parse(raw[:i]); err == nil {
			t.Fatalf("%d of %d bytes accepted", i, len(raw))
		}
	}
}

func FuzzVerify(f *testing.F) {
	m := platform(f)
	raw, collateral, err := m.Attest(f.Context(), [64]byte{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, collateral)
	f.Add(testdata.RawQuoteV5, collateral)
	f.Fuzz(func(t *testing.T, q, c []byte) {
		if v, err := intel.Verify(t.Context(), q, c, m.Root(), now); err == nil && !bytes.Equal(v.Raw[:0x278], raw[:0x278]) {
			t.Fatalf("accepted %x", q)
		}
	})
}

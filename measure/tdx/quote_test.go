package tdx

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"
)

func realQuote(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/tdx_prod_quote_SPR_E4.dat")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestParseQuote: the registers of a real quote are those that go-tdx-guest reads (measure/internal/oracles
// asks it).
func TestParseQuote(t *testing.T) {
	b := realQuote(t)
	q, err := ParseQuote(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := q.MRTD.String(); q.Version != 4 || !strings.HasPrefix(got, "6363b8043668a3ad") {
		t.Errorf("version %d, MRTD %s", q.Version, got)
	}
	// Version 5 puts type and size in front of the same body.
	for kind, size := range map[uint16]int{2: 584, 3: 648} {
		v5 := binary.LittleEndian.AppendUint16(bytes.Clone(b[:48]), kind)
		v5 = binary.LittleEndian.AppendUint32(v5, uint32(size))
		v5 = append(append(v5, b[48:48+584]...), make([]byte, 64)...)
		v5[0] = 5
		again, err := ParseQuote(v5)
		if err != nil || again.MRTD != q.MRTD || again.RTMR != q.RTMR {
			t.Errorf("version 5, type %d: %+v, %v", kind, again, err)
		}
	}
}

func TestParseQuoteRefusals(t *testing.T) {
	good := realQuote(t)
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":   {func(b []byte) []byte { return nil }, "0 bytes"},
		"short":   {func(b []byte) []byte { return b[:631] }, "631 bytes"},
		"long":    {func(b []byte) []byte { return make([]byte, MaxQuote+1) }, "want 632"},
		"sgx":     {func(b []byte) []byte { b[4] = 0; return b }, "TEE type 0x0"},
		"version": {func(b []byte) []byte { b[0] = 3; return b }, "version 3"},
		"body":    {func(b []byte) []byte { b[0] = 5; return b }, "body of type"},
		"cut":     {func(b []byte) []byte { b[0] = 5; copy(b[48:], []byte{2, 0, 0x48, 2, 0, 0}); return b[:632] }, "in 578"},
	} {
		if q, err := ParseQuote(c.change(bytes.Clone(good))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, q, err, c.want)
		}
	}
}

func FuzzParseQuote(f *testing.F) {
	f.Add(realQuote(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := ParseQuote(b); err == nil && len(q.Registers()) != 5 {
			t.Error("not five registers")
		}
	})
}

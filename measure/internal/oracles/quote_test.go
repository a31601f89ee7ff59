package oracles

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"

	"tally/measure/tdx"
)

// TestQuoteBesideGoTDXGuest reads the registers of a real quote with Google's reader too.
func TestQuoteBesideGoTDXGuest(t *testing.T) {
	b, err := os.ReadFile("../../tdx/testdata/vectors/tdx_prod_quote_SPR_E4.dat")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := abi.QuoteToProto(b)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := tdx.ParseQuote(b)
	if err != nil {
		t.Fatal(err)
	}
	body := theirs.(*pb.QuoteV4).GetTdQuoteBody()
	if !bytes.Equal(ours.MRTD[:], body.GetMrTd()) {
		t.Errorf("MRTD %s, go-tdx-guest says %x", ours.MRTD, body.GetMrTd())
	}
	for i, want := range body.GetRtmrs() {
		if !bytes.Equal(ours.RTMR[i][:], want) {
			t.Errorf("RTMR%d %s, go-tdx-guest says %x", i, ours.RTMR[i], want)
		}
	}
}

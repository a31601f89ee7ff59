package appraise

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/validate"

	"tally/enclave/appraise/intel"
)

// Bits of TD_ATTRIBUTES (Intel TDX Module ABI, TD_ATTRIBUTES): the low byte makes a TD open to its host.
const (
	tdDebugBits     = 0xff
	tdSeptVEDisable = 1 << 28
)

// intelQE is QE_VENDOR_ID of Intel's quoting enclaves.
var intelQE = []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// tdx appraises a quote: everything but the measurement.
func (a *appraisal) tdx(ctx context.Context, q quoted) (*proven, *refusal) {
	p := a.policy.TDX
	r, err := intel.Verify(ctx, q.report, a.endorsements(q), p.Root, a.in.Now)
	if err != nil {
		return nil, &refusal{reason: BadSignature, got: err.Error()}
	}
	a.ok(string(BadSignature), "PCK chain to "+vendorOf(r.Root, "Intel"), fmt.Sprintf("platform of FMSPC %s", r.PCK.FMSPC), "policy")
	for _, step := range []func() *refusal{
		func() *refusal { return a.reportData(q, r.ReportData) },
		func() *refusal { return a.tdxTCB(r) },
		func() *refusal { return a.tdxAttributes(r) },
		func() *refusal {
			return a.expect(BadMachine, allows(p.PPIDs, r.PCK.PPID), "PPID "+short(p.PPIDs), r.PCK.PPID, "policy")
		},
		func() *refusal { return a.tdxConfiguration(r) },
		func() *refusal { return a.tdxSecondOpinion(q, r) },
	} {
		if x := step(); x != nil {
			return nil, x
		}
	}
	regs := map[string]string{"mrtd": hex.EncodeToString(r.MRTD)}
	for i, v := range r.RTMR {
		regs[fmt.Sprintf("rtmr%d", i)] = hex.EncodeToString(v)
	}
	return &proven{machine: r.PCK.PPID, registers: regs}, nil
}

// tdxTCB wants Intel to call the platform up to date, lately enough, and holds it to the policy's floors.
func (a *appraisal) tdxTCB(r *intel.Quote) *refusal {
	p, c := a.policy.TDX, r.Collateral
	if c == nil {
		return &refusal{BadTCB, "Intel's collateral (TCB info, QE identity, revocation lists)", "none", "policy"}
	}
	a.ok("revocation", "nothing of the chain on Intel's lists", "none", "collateral")
	if x := a.expect(BadTCB, c.Status == "UpToDate", "UpToDate", c.Status, "collateral"); x != nil {
		return x
	}
	if x := a.expect(BadTCB, c.EvaluationNumber >= p.EvaluationNumber, fmt.Sprintf("tcbEvaluationDataNumber from %d", p.EvaluationNumber), fmt.Sprint(c.EvaluationNumber), "policy"); x != nil {
		return x
	}
	high := true
	for i, v := range r.TeeTCBSVN {
		high = high && v >= p.TeeTCBSVN[i]
	}
	if x := a.expect(BadTCB, high, fmt.Sprintf("TEE_TCB_SVN from %x", p.TeeTCBSVN), fmt.Sprintf("%x", r.TeeTCBSVN), "policy"); x != nil {
		return x
	}
	if x := a.expect(BadTCB, r.PCK.TCB.PCESvn >= p.PCESVN, fmt.Sprintf("PCESVN from %d", p.PCESVN), fmt.Sprint(r.PCK.TCB.PCESvn), "policy"); x != nil {
		return x
	}
	if x := a.expect(BadTCB, bytes.Equal(r.QEVendor, intelQE), fmt.Sprintf("QE_VENDOR_ID %x", intelQE), fmt.Sprintf("%x", r.QEVendor), "Intel"); x != nil {
		return x
	}
	if x := a.expect(BadTCB, allZero(r.MRSignerSEAM) && allZero(r.SEAMAttributes), "MRSIGNERSEAM and SEAMATTRIBUTES zero: Intel's module, not for debugging", fmt.Sprintf("%x, %x", r.MRSignerSEAM, r.SEAMAttributes), "Intel"); x != nil {
		return x
	}
	return a.expect(BadTCB, allows(p.MRSEAM, hex.EncodeToString(r.MRSEAM)), "MRSEAM "+short(p.MRSEAM), fmt.Sprintf("%x", r.MRSEAM), "policy")
}

func (a *appraisal) tdxAttributes(r *intel.Quote) *refusal {
	p, v := a.policy.TDX, binary.LittleEndian.Uint64(r.TDAttributes)
	got := fmt.Sprintf("TD_ATTRIBUTES %x", r.TDAttributes)
	if x := a.expect(BadGuestPolicy, v&tdDebugBits == 0, "debugging off", got, "policy"); x != nil {
		return x
	}
	if x := a.expect(BadGuestPolicy, v&tdSeptVEDisable != 0, "SEPT_VE_DISABLE", got, "policy"); x != nil {
		return x
	}
	if x := a.expect(BadGuestPolicy, allows(p.Attributes, hex.EncodeToString(r.TDAttributes)), "TD_ATTRIBUTES "+short(p.Attributes), got, "policy"); x != nil {
		return x
	}
	return a.expect(BadGuestPolicy, allows(p.XFAM, hex.EncodeToString(r.XFAM)), "XFAM "+short(p.XFAM), fmt.Sprintf("%x", r.XFAM), "policy")
}

// tdxConfiguration holds what the host can hand a trust domain past its measurement.
func (a *appraisal) tdxConfiguration(r *intel.Quote) *refusal {
	p := a.policy.TDX
	service := make([]byte, 48)
	copy(service, r.MRServiceTD)
	for _, c := range []struct {
		name      string
		want, got []byte
	}{{"MRCONFIGID", p.MRConfigID[:], r.MRConfigID}, {"MROWNER", p.MROwner[:], r.MROwner}, {"MROWNERCONFIG", p.MROwnerConfig[:], r.MROwnerConf}, {"MRSERVICETD", p.MRServiceTD[:], service}} {
		if x := a.expect(BadConfiguration, bytes.Equal(c.want, c.got), fmt.Sprintf("%s %x", c.name, c.want), fmt.Sprintf("%x", c.got), "policy"); x != nil {
			return x
		}
	}
	return nil
}

// tdxSecondOpinion asks go-tdx-guest the same questions, with every option that it would otherwise skip filled
// in. It knows version 4 alone.
func (a *appraisal) tdxSecondOpinion(q quoted, r *intel.Quote) *refusal {
	if _, ok := r.Message.(*tdx.QuoteV4); !ok {
		return nil
	}
	if err := validate.TdxQuote(r.Message, a.tdxOptions(q, r)); err != nil {
		return &refusal{reason: BadGuestPolicy, got: "go-tdx-guest: " + err.Error()}
	}
	return nil
}

func (a *appraisal) tdxOptions(q quoted, r *intel.Quote) *validate.Options {
	p := a.policy.TDX
	return &validate.Options{
		HeaderOptions: validate.HeaderOptions{QeVendorID: intelQE},
		TdQuoteBodyOptions: validate.TdQuoteBodyOptions{
			MinimumTeeTcbSvn: p.TeeTCBSVN, ReportData: q.reportData[:], EnableTdDebugCheck: true,
			MrConfigID: p.MRConfigID[:], MrOwner: p.MROwner[:], MrOwnerConfig: p.MROwnerConfig[:],
			// These have passed the lists above, or are held to the release's values next.
			MrSeam: r.MRSEAM, TdAttributes: r.TDAttributes, Xfam: r.XFAM, MrTd: r.MRTD, AnyMrTd: [][]byte{r.MRTD}, Rtmrs: r.RTMR,
		},
	}
}

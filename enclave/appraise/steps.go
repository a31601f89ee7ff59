package appraise

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"tally/enclave/evidence"
)

// quoted is a report and what it must be about.
type quoted struct {
	report, endorsements []byte
	reportData           [64]byte
	from                 string // what reportData was computed from
}

// referenceAtHand wants reference values even where there is no measurement to compare, so that no caller
// can forget them.
func (a *appraisal) referenceAtHand() *refusal {
	if rv := a.in.Reference; rv == nil || len(rv.Values) == 0 {
		return &refusal{reason: BadMeasurement, got: "no reference values to compare with"}
	}
	return nil
}

// report appraises the key evidence.
func (a *appraisal) report() *refusal {
	q := quoted{a.doc.Report, a.doc.Endorsements, a.doc.Claims.ReportData(), "claims"}
	var x *refusal
	a.first, x = a.quote(q)
	return x
}

// quote verifies who says so, that it is said about reportData, and everything else that is said: key and
// session evidence both pass all of it.
func (a *appraisal) quote(q quoted) (p *proven, x *refusal) {
	tee := a.doc.Platform
	switch tee {
	case insecure:
		return a.nothing(q)
	case snpPlatform:
		p, x = a.snp(q)
	case tdxPlatform:
		p, x = a.tdx(context.Background(), q) // the context is for a network that is not there
	case vtpmPlatform:
		tee = "vtpm"
		p, x = a.vtpm(q)
	case azurePlatform:
		tee = "vtpm"
		p, x = a.azure(q)
	case svsmPlatform:
		tee = "vtpm"
		p, x = a.svsm(q)
	default:
		return nil, &refusal{reason: Unsupported, got: fmt.Sprintf("evidence of platform %q is not supported yet: it is not accepted unverified", a.doc.Platform)}
	}
	if x != nil {
		return nil, x
	}
	return p, a.compare(tee, p)
}

// nothing is a report that nobody signed.
func (a *appraisal) nothing(q quoted) (*proven, *refusal) {
	if len(q.endorsements) != 0 {
		return nil, &refusal{reason: BadEvidence, got: "insecure evidence with endorsements"}
	}
	a.unchecked("signature", "nothing signed this evidence")
	if x := a.reportData(q, q.report); x != nil {
		return nil, x
	}
	rv := a.in.Reference
	a.unchecked("measurement", fmt.Sprintf("insecure evidence holds none; the release %s %s has %d reference values", rv.Name, rv.Version, len(rv.Values)))
	return &proven{}, nil
}

func (a *appraisal) reportData(q quoted, got []byte) *refusal {
	return a.expect(BadReportData, bytes.Equal(got, q.reportData[:]), fmt.Sprintf("%x", q.reportData), fmt.Sprintf("%.64x", got), q.from)
}

// endorsements are the vendor's statements about q: what the client holds goes before what the enclave sent,
// and a session's before the key's.
func (a *appraisal) endorsements(q quoted) []byte {
	switch {
	case len(a.in.Collateral) > 0:
		return a.in.Collateral
	case len(q.endorsements) > 0:
		return q.endorsements
	}
	return a.doc.Endorsements
}

// freshness wants what the policy names. The window in the evidence comes from the host's clock: it informs
// and decides nothing. Key evidence is the same for every session of its key.
func (a *appraisal) freshness() *refusal {
	c := &a.doc.Claims
	window := fmt.Sprintf("key %d says it is valid from %s to %s; now %s; the evidence is about the key, not about this session", c.Epoch, unix(c.NotBefore), unix(c.NotAfter), a.in.Now.UTC().Format(time.RFC3339))
	switch a.policy.Freshness {
	case FreshSession:
		return a.session()
	case FreshKey:
		if x := a.beacon(); x != nil {
			return x
		}
	default:
		if a.in.Session == nil {
			a.unchecked("freshness", window)
		}
	}
	if a.in.Session != nil { // not wanted, but what is shown must be right
		return a.session()
	}
	return nil
}

// session appraises session evidence: the same policy, the same machine, the same measurement, about this
// handshake.
func (a *appraisal) session() *refusal {
	s := a.in.Session
	if s == nil {
		return &refusal{BadFreshness, "evidence about this session", "none", "policy"}
	}
	if s.Missing != "" {
		return &refusal{BadFreshness, "evidence about this session", s.Missing, "policy"}
	}
	d, err := evidence.ParseSession(s.Document)
	if err != nil {
		return &refusal{reason: BadEvidence, got: err.Error()}
	}
	if d.Platform != a.doc.Platform {
		return &refusal{BadPlatform, a.doc.Platform, "session evidence of " + d.Platform, "key evidence"}
	}
	root, err := d.Root(evidence.SessionLeaf(s.HandshakeHash, s.Nonce, a.in.Static))
	if err != nil {
		return &refusal{reason: BadEvidence, got: err.Error()}
	}
	a.prefix = "session "
	defer func() { a.prefix = "" }()
	p, x := a.quote(quoted{d.Report, d.Endorsements, evidence.SessionReportData(root), "handshake"})
	if x != nil {
		return x
	}
	if p.machine != a.first.machine {
		return &refusal{BadMachine, "machine " + a.first.machine, p.machine, "key evidence"}
	}
	if registersOf(p) != registersOf(a.first) {
		return &refusal{BadMeasurement, registersOf(a.first), registersOf(p), "key evidence"}
	}
	a.prefix = ""
	a.ok("freshness", "evidence about this session", fmt.Sprintf("leaf %d of %d under one report", d.Index, d.Size), "handshake")
	return nil
}

func unix(sec int64) string { return time.Unix(sec, 0).UTC().Format(time.RFC3339) }

// vendorOf names the root that a chain ended in.
func vendorOf(root, vendor string) string {
	if root == vendor {
		return vendor + "'s"
	}
	return root + " of the policy, NOT " + vendor + "'s"
}

// short names a list in a line.
func short(list []string) string {
	if len(list) > 3 {
		return fmt.Sprintf("%s or %d more", list[0], len(list)-1)
	}
	return strings.Join(list, " or ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// Package intel verifies TDX quotes: the attestation key's signature over the quote, the quoting enclave's
// report about that key, the PCK certificate under it and its chain to Intel's root, and Intel's statements
// (collateral) about how current all of that is. It works offline and judges nothing that the quote's body
// says: [tally/enclave/appraise] does.
//
// The quote is Intel's "TDX DCAP Quoting Library API", A.3 (version 4) and A.4 (version 5); collateral is what the
// Provisioning Certification Service, version 4, answers. Parsing, chains and signatures are go-tdx-guest's,
// which fetches nothing here.
package intel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	"github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"
)

// MaxQuote is the size in bytes of the largest quote read.
const MaxQuote = 64 << 10

//go:embed roots/intel-sgx-root-ca.pem
var intelRoot []byte

// A Quote is a quote whose signatures are those of Intel hardware.
type Quote struct {
	Body
	Raw        []byte
	Message    any                 // the quote as go-tdx-guest parses it
	PCK        pcs.PckExtensions   // what the platform's certificate says: PPID, FMSPC, TCB
	Root       string              // "Intel", or the SHA-256 of the root that stands in its place
	Collateral *VerifiedCollateral // nil: none was given, and nothing is known of how current the platform is
}

// A Body is what a quote says about the trust domain, and of which quoting enclave it comes.
type Body struct {
	Version               uint16
	QEVendor              []byte // 16 bytes
	PCESVN, QESVN         uint16 // of the header
	TeeTCBSVN, TeeTCBSVN2 []byte // 16 bytes; the second only from TDX 1.5 in version 5
	MRSEAM, MRSignerSEAM  []byte // 48 bytes
	SEAMAttributes        []byte // 8 bytes
	TDAttributes, XFAM    []byte // 8 bytes
	MRTD, MRConfigID      []byte // 48 bytes
	MROwner, MROwnerConf  []byte // 48 bytes
	RTMR                  [][]byte
	ReportData            []byte // 64 bytes
	MRServiceTD           []byte // 48 bytes, or nil where the quote has none
}

// Parse reads a quote of version 4 or 5 and verifies nothing. The message is go-tdx-guest's.
func Parse(raw []byte) (*Body, any, error) {
	if len(raw) > MaxQuote {
		return nil, nil, fmt.Errorf("TDX quote: %d bytes, want at most %d", len(raw), MaxQuote)
	}
	m, err := quoteToProto(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("TDX quote: %w", err)
	}
	b := new(Body)
	switch q := m.(type) {
	case *tdx.QuoteV4:
		b.header(q.GetHeader())
		b.body(q.GetTdQuoteBody())
	case *tdx.QuoteV5:
		b.header(q.GetHeader())
		b.body5(q.GetTdQuoteBodyDescriptor().GetTdQuoteBodyV5())
	default:
		return nil, nil, fmt.Errorf("TDX quote: %T, want version 4 or 5", m)
	}
	if len(b.RTMR) != 4 || len(b.ReportData) != 64 || len(b.MRTD) != 48 || len(b.TDAttributes) != 8 || len(b.XFAM) != 8 || len(b.TeeTCBSVN) != 16 {
		return nil, nil, errors.New("TDX quote: a field of the body is missing")
	}
	return b, m, nil
}

// quoteToProto turns a panic of the parser over foreign bytes into an error, and wants that the parser has
// lost no byte. Hosts pad quotes with zeros; anything else after the last field is refused.
func quoteToProto(raw []byte) (m any, err error) {
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, fmt.Errorf("not in the form of a quote: %v", r)
		}
	}()
	if m, err = abi.QuoteToProto(raw); err != nil {
		return nil, err
	}
	again, err := abi.QuoteToAbiBytes(m)
	if err != nil {
		return nil, err
	}
	extra, ok := m.(interface{ GetExtraBytes() []byte })
	if !bytes.Equal(raw, again) || !ok || len(bytes.Trim(extra.GetExtraBytes(), "\x00")) != 0 {
		return nil, errors.New("bytes that belong to no field")
	}
	return m, nil
}

func (b *Body) header(h *tdx.Header) {
	b.Version, b.QEVendor = uint16(h.GetVersion()), h.GetQeVendorId()
	b.PCESVN, b.QESVN = le16(h.GetPceSvn()), le16(h.GetQeSvn())
}

func le16(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return uint16(b[0]) | uint16(b[1])<<8
}

func (b *Body) body(q *tdx.TDQuoteBody) {
	b.TeeTCBSVN, b.MRSEAM, b.MRSignerSEAM, b.SEAMAttributes = q.GetTeeTcbSvn(), q.GetMrSeam(), q.GetMrSignerSeam(), q.GetSeamAttributes()
	b.TDAttributes, b.XFAM, b.MRTD, b.MRConfigID = q.GetTdAttributes(), q.GetXfam(), q.GetMrTd(), q.GetMrConfigId()
	b.MROwner, b.MROwnerConf, b.RTMR, b.ReportData = q.GetMrOwner(), q.GetMrOwnerConfig(), q.GetRtmrs(), q.GetReportData()
}

func (b *Body) body5(q *tdx.TDQuoteBodyV5) {
	b.TeeTCBSVN, b.MRSEAM, b.MRSignerSEAM, b.SEAMAttributes = q.GetTeeTcbSvn(), q.GetMrSeam(), q.GetMrSignerSeam(), q.GetSeamAttributes()
	b.TDAttributes, b.XFAM, b.MRTD, b.MRConfigID = q.GetTdAttributes(), q.GetXfam(), q.GetMrTd(), q.GetMrConfigId()
	b.MROwner, b.MROwnerConf, b.RTMR, b.ReportData = q.GetMrOwner(), q.GetMrOwnerConfig(), q.GetRtmrs(), q.GetReportData()
	b.TeeTCBSVN2, b.MRServiceTD = q.GetTeeTcbSvn2(), q.GetMrServiceTd()
}

// Verify checks that raw is a quote of Intel hardware. With collateral (Collateral, JSON) it also wants Intel
// to say that the platform, its TDX module and its quoting enclave are up to date and not revoked. root
// stands in the place of Intel's: for tests, and for nothing else; nil means Intel's.
func Verify(ctx context.Context, raw, collateral []byte, root *x509.Certificate, now time.Time) (*Quote, error) {
	body, m, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	q := &Quote{Body: *body, Raw: raw, Message: m, Root: "Intel"}
	if root != nil {
		sum := sha256.Sum256(root.Raw)
		q.Root = hex.EncodeToString(sum[:])
	} else if root, err = pemCertificate(intelRoot); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	chain, err := verify.ExtractChainFromQuote(m)
	if err != nil {
		return nil, fmt.Errorf("TDX quote: %w", err)
	}
	ext, err := pcs.PckCertificateExtensions(chain.PCKCertificate)
	if err != nil {
		return nil, fmt.Errorf("TDX quote: %w", err)
	}
	q.PCK = *ext
	opt := &verify.Options{TrustedRoots: pool, Getter: shut{}, Now: &verify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now}}
	if len(collateral) > 0 {
		c, err := ParseCollateral(collateral)
		if err != nil {
			return nil, err
		}
		opt.GetCollateral, opt.CheckRevocations, opt.Getter = true, true, c
		if q.Collateral, err = c.check(ext, body, now); err != nil {
			return nil, err
		}
	}
	if err := verify.TdxQuoteContext(ctx, m, opt); err != nil {
		return nil, fmt.Errorf("TDX quote: %w", err)
	}
	return q, nil
}

// shut is a door to the network that does not open.
type shut struct{}

func (shut) Get(string) (map[string][]string, []byte, error) {
	return nil, nil, errors.New("no network here")
}

func pemCertificate(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("certificate: want one PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}

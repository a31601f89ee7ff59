package intel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/pcs"
)

// CollateralSchema names the format of a collateral file.
const CollateralSchema = "tally.tdx-collateral/v1"

// MaxCollateral is the size in bytes of the largest collateral read.
const MaxCollateral = 256 << 10

// A Collateral is what Intel's Provisioning Certification Service says about a kind of platform, as it
// answered: bodies are kept byte for byte, because they are signed. Issuer chains are PEM, signing certificate
// first and root last; lists are DER, base64 in JSON.
type Collateral struct {
	Schema          string `json:"schema"`
	TCBInfo         string `json:"tcb_info"` // body of /tdx/certification/v4/tcb?fmspc=
	TCBInfoChain    string `json:"tcb_info_issuer_chain"`
	QEIdentity      string `json:"qe_identity"` // body of /tdx/certification/v4/qe/identity
	QEIdentityChain string `json:"qe_identity_issuer_chain"`
	PCKCRL          []byte `json:"pck_crl"` // body of /sgx/certification/v4/pckcrl?ca=&encoding=der
	RootCRL         []byte `json:"root_ca_crl"`
}

// A VerifiedCollateral is what verified collateral says.
type VerifiedCollateral struct {
	Status           string    // of the platform, its TDX module and its quoting enclave: the worst of them
	EvaluationNumber int       // tcbEvaluationDataNumber, the lower of the two statements
	Issued           time.Time // the older of the two statements
	NextUpdate       time.Time // the earlier of the two
	Advisories       []string
}

// ParseCollateral reads a collateral file: one JSON object with exactly the fields of Collateral.
func ParseCollateral(b []byte) (*Collateral, error) {
	if len(b) > MaxCollateral {
		return nil, fmt.Errorf("TDX collateral: %d bytes, want at most %d", len(b), MaxCollateral)
	}
	c := new(Collateral)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("TDX collateral: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("TDX collateral: data after the object")
	}
	if c.Schema != CollateralSchema {
		return nil, fmt.Errorf("TDX collateral: schema %.64q, want %q", c.Schema, CollateralSchema)
	}
	for _, f := range []struct {
		name string
		size int
	}{{"tcb_info", len(c.TCBInfo)}, {"tcb_info_issuer_chain", len(c.TCBInfoChain)}, {"qe_identity", len(c.QEIdentity)},
		{"qe_identity_issuer_chain", len(c.QEIdentityChain)}, {"pck_crl", len(c.PCKCRL)}, {"root_ca_crl", len(c.RootCRL)}} {
		if f.size == 0 {
			return nil, fmt.Errorf("TDX collateral: %s: missing", f.name)
		}
	}
	return c, nil
}

// Marshal writes the file.
func (c *Collateral) Marshal() ([]byte, error) {
	c.Schema = CollateralSchema
	b, err := json.MarshalIndent(c, "", " ")
	return append(b, '\n'), err
}

// Get answers in the place of Intel's service, which go-tdx-guest asks. The list of the root is the only
// thing asked for by an address that the collateral itself names.
func (c *Collateral) Get(address string) (map[string][]string, []byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	head := func(name, chain string) map[string][]string {
		// What a tool or an editor left behind the last certificate means nothing, and go-tdx-guest takes no byte there.
		return map[string][]string{name: {url.QueryEscape(strings.TrimRight(chain, "\x00 \t\r\n"))}}
	}
	switch {
	case strings.HasSuffix(u.Path, "/tcb"):
		return head(pcs.TcbInfoIssuerChainPhrase, c.TCBInfoChain), []byte(c.TCBInfo), nil
	case strings.HasSuffix(u.Path, "/qe/identity"):
		return head(pcs.SgxQeIdentityIssuerChainPhrase, c.QEIdentityChain), []byte(c.QEIdentity), nil
	case strings.HasSuffix(u.Path, "/pckcrl"):
		// The list is verified with the chain in the quote; the one asked for here is only looked at for its dates.
		return head(pcs.SgxPckCrlIssuerChainPhrase, c.QEIdentityChain), c.PCKCRL, nil
	}
	return nil, c.RootCRL, nil
}

// check reads the two statements and computes the platform's status itself: go-tdx-guest looks at the TDX
// module's alone where there is one, and at no dates before which a statement does not hold. Signatures are
// verified by the caller, after this, over the same bytes.
func (c *Collateral) check(pck *pcs.PckExtensions, body *Body, now time.Time) (*VerifiedCollateral, error) {
	var info pcs.TdxTcbInfo
	var qe pcs.QeIdentity
	if err := unmarshalOnce([]byte(c.TCBInfo), &info); err != nil {
		return nil, fmt.Errorf("TDX collateral: tcb_info: %w", err)
	}
	if err := unmarshalOnce([]byte(c.QEIdentity), &qe); err != nil {
		return nil, fmt.Errorf("TDX collateral: qe_identity: %w", err)
	}
	t, e := info.TcbInfo, qe.EnclaveIdentity
	for _, s := range []struct {
		name     string
		from, to time.Time
	}{{"tcb_info", t.IssueDate, t.NextUpdate}, {"qe_identity", e.IssueDate, e.NextUpdate}} {
		if now.Before(s.from) || now.After(s.to) {
			return nil, fmt.Errorf("TDX collateral: %s: of %s to %s, now %s", s.name, stamp(s.from), stamp(s.to), stamp(now))
		}
	}
	level, err := platformLevel(t.TcbLevels, pck, body.TeeTCBSVN)
	if err != nil {
		return nil, err
	}
	if level.TcbStatus != pcs.TcbComponentStatusUpToDate {
		return nil, fmt.Errorf("TDX collateral: the platform's TCB is %s, want UpToDate (advisories %s)", level.TcbStatus, strings.Join(level.AdvisoryIDs, " "))
	}
	return &VerifiedCollateral{Status: string(level.TcbStatus), EvaluationNumber: min(t.TcbEvaluationDataNumber, e.TcbEvaluationDataNumber),
		Issued: earlier(t.IssueDate, e.IssueDate), NextUpdate: earlier(t.NextUpdate, e.NextUpdate), Advisories: level.AdvisoryIDs}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// platformLevel finds the platform's TCB level (Intel PCS, "Get TDX TCB Info", steps 1 to 3): the first of the
// list, which descends, that is not above the platform in any component. From module version 1 on the first
// two components of TEE_TCB_SVN belong to the module's own list, which go-tdx-guest checks.
func platformLevel(levels []pcs.TcbLevel, pck *pcs.PckExtensions, svn []byte) (*pcs.TcbLevel, error) {
	first := 0
	if svn[1] > 0 {
		first = 2
	}
	for i := range levels {
		l := &levels[i].Tcb
		if len(l.SgxTcbcomponents) != 16 || len(l.TdxTcbcomponents) != 16 || len(pck.TCB.CPUSvnComponents) != 16 {
			return nil, fmt.Errorf("TDX collateral: tcb_info: level %d has not 16 components of each kind", i)
		}
		ok := pck.TCB.PCESvn >= l.Pcesvn
		for j := range 16 {
			ok = ok && pck.TCB.CPUSvnComponents[j] >= l.SgxTcbcomponents[j].Svn
			ok = ok && (j < first || svn[j] >= l.TdxTcbcomponents[j].Svn)
		}
		if ok {
			return &levels[i], nil
		}
	}
	return nil, errors.New("TDX collateral: tcb_info: no level is as low as the platform")
}

// unmarshalOnce refuses a key that stands twice: what is signed and what is read must be one thing.
func unmarshalOnce(b []byte, v any) error {
	if err := noDuplicates(json.NewDecoder(bytes.NewReader(b)), 0); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

const maxDepth = 32

func noDuplicates(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("more than %d levels", maxDepth)
	}
	d, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if d == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			// encoding/json matches names without regard to case.
			k := strings.ToLower(fmt.Sprint(key))
			if seen[k] {
				return fmt.Errorf("key %.40q twice", k)
			}
			seen[k] = true
		}
		if err := noDuplicates(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

package policy

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"tally/enclave/appraise"
	"tally/enclave/appraise/amd"
	"tally/release"
)

// Evidence says which evidence of an enclave is accepted.
type Evidence struct {
	appraise.Policy
}

// Accepts reports whether the policy names the platform.
func (e Evidence) Accepts(platform string) bool {
	return slices.Contains(e.Platforms, platform)
}

type evidenceYAML struct {
	Platforms []string  `yaml:"platforms"`
	Freshness string    `yaml:"freshness"`
	MaxAge    string    `yaml:"freshness-max-age"`
	Again     string    `yaml:"reappraise"`
	SNP       *snpYAML  `yaml:"snp"`
	TDX       *tdxYAML  `yaml:"tdx"`
	VTPM      *vtpmYAML `yaml:"vtpm"`

	Azure *azureYAML `yaml:"vtpm-azure"`
	SVSM  *svsmYAML  `yaml:"vtpm-svsm"`
}

type snpYAML struct {
	TCB        []tcbYAML `yaml:"tcb,required"`
	Firmware   string    `yaml:"firmware,required"`
	Signers    []string  `yaml:"signers,required"`
	VMPL       int       `yaml:"vmpl,required"`
	GuestSVN   int       `yaml:"guest-svn"`
	SMT        string    `yaml:"smt,required"`
	AliasCheck string    `yaml:"alias-check,required"`
	CRL        string    `yaml:"revocation-list,required"`
	Chips      []string  `yaml:"chips,required"`
	HostData   string    `yaml:"host-data"`
	IDKeys     []string  `yaml:"id-keys"`
	Roots      string    `yaml:"roots"`
}

type tcbYAML struct {
	Product    string `yaml:"product,required"`
	FMC        *int   `yaml:"fmc"`
	BootLoader int    `yaml:"boot-loader,required"`
	TEE        int    `yaml:"tee,required"`
	SNP        int    `yaml:"snp,required"`
	Microcode  int    `yaml:"microcode,required"`
}

type tdxYAML struct {
	EvaluationNumber int      `yaml:"tcb-evaluation-number,required"`
	TeeTCBSVN        string   `yaml:"tee-tcb-svn,required"`
	PCESVN           int      `yaml:"pce-svn,required"`
	MRSEAM           []string `yaml:"mrseam,required"`
	Attributes       []string `yaml:"attributes,required"`
	XFAM             []string `yaml:"xfam,required"`
	PPIDs            []string `yaml:"ppids,required"`
	MRConfigID       string   `yaml:"mrconfigid"`
	MROwner          string   `yaml:"mrowner"`
	MROwnerConfig    string   `yaml:"mrownerconfig"`
	MRServiceTD      string   `yaml:"mrservicetd"`
	Root             string   `yaml:"root"`
}

type vtpmYAML struct {
	PCR0 []string `yaml:"pcr0,required"`
	PCR2 []string `yaml:"pcr2,required"`
}

type azureYAML struct {
	PCR0       []string `yaml:"pcr0,required"`
	PCR2       []string `yaml:"pcr2,required"`
	Paravisors []string `yaml:"paravisors,required"`
	SNP        *snpYAML `yaml:"snp,required"`
}

type svsmYAML struct {
	PCR0  []string `yaml:"pcr0,required"`
	PCR2  []string `yaml:"pcr2,required"`
	SVSMs []string `yaml:"svsms,required"`
	SNP   *snpYAML `yaml:"snp,required"`
}

// evidence reads the section, and holds what it says of each platform to what an appraisal will want. A
// platform that is named and left undescribed is no mistake: its evidence is refused.
func (r *reader) evidence(y *evidenceYAML, log *release.LogPolicy) (e Evidence) {
	const path = "evidence"
	e.Platforms = r.platforms(y.Platforms, path+".platforms")
	e.Freshness = appraise.Freshness(r.word(y.Freshness, path+".freshness", "", "session", "key", "none"))
	e.Beacons = r.beacons(y, log, path)
	e.Reappraise = r.reappraise(y.Again, path+".reappraise")
	if y.SNP != nil {
		e.SNP = r.snp(y.SNP, path+".snp")
	}
	if y.TDX != nil {
		e.TDX = r.tdx(y.TDX, path+".tdx")
	}
	if y.VTPM != nil {
		e.VTPM = &appraise.VTPM{PCR0: y.VTPM.PCR0, PCR2: y.VTPM.PCR2}
	}
	if y.Azure != nil {
		e.Azure = &appraise.Azure{VTPM: appraise.VTPM{PCR0: y.Azure.PCR0, PCR2: y.Azure.PCR2}, Paravisors: y.Azure.Paravisors, SNP: *r.snp(y.Azure.SNP, path+".vtpm-azure.snp")}
	}
	if y.SVSM != nil {
		e.SVSM = &appraise.SVSM{VTPM: appraise.VTPM{PCR0: y.SVSM.PCR0, PCR2: y.SVSM.PCR2}, SVSMs: y.SVSM.SVSMs, SNP: *r.snp(y.SVSM.SNP, path+".vtpm-svsm.snp")}
	}
	for _, s := range []struct {
		name  string
		there bool
	}{{"snp", y.SNP != nil}, {"tdx", y.TDX != nil}, {"vtpm-unendorsed", y.VTPM != nil}, {"vtpm-azure", y.Azure != nil}, {"vtpm-svsm", y.SVSM != nil}} {
		name, section := s.name, strings.TrimSuffix(s.name, "-unendorsed")
		switch named := e.Accepts(name); {
		case r.err != nil || !s.there:
		case !named:
			r.fail(path+"."+section, "%s: stands here, but %q is not among the platforms", section, name)
		default:
			if err := e.Check(name); err != nil {
				r.fail(path, "%v", err)
			}
		}
	}
	return e
}

// reappraise reads how old an appraisal may be in a session that goes on.
func (r *reader) reappraise(s, path string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > appraise.MaxReappraise {
		r.fail(path, "%.64q: want a time up to %v, such as \"10m\"", s, appraise.MaxReappraise)
		return 0
	}
	return d
}

func (r *reader) snp(y *snpYAML, path string) *appraise.SNP {
	p := &appraise.SNP{TCB: map[string]appraise.SNPTCB{}, Signers: y.Signers, Chips: y.Chips, IDKeys: y.IDKeys,
		VMPL: uint32(r.number(y.VMPL, path+".vmpl", 3)), GuestSVN: uint32(r.number(y.GuestSVN, path+".guest-svn", 1<<31-1)),
		AllowSMT:         r.word(y.SMT, path+".smt", "allow", "refuse") == "allow",
		IgnoreAliasCheck: r.word(y.AliasCheck, path+".alias-check", "ignore", "require") == "ignore",
		IgnoreCRL:        r.word(y.CRL, path+".revocation-list", "ignore", "require") == "ignore"}
	for i, t := range y.TCB {
		at := fmt.Sprintf("%s.tcb.%d", path, i)
		if _, twice := p.TCB[t.Product]; twice {
			r.fail(at, "product %.20q twice", t.Product)
		}
		if (t.FMC != nil) != (t.Product == "Turin") {
			r.fail(at+".fmc", "product %.20q: want fmc with Turin, and with no other", t.Product)
		}
		fmc := 0
		if t.FMC != nil {
			fmc = r.number(*t.FMC, at+".fmc", 255)
		}
		p.TCB[t.Product] = appraise.SNPTCB{FMC: uint8(fmc), BootLoader: uint8(r.number(t.BootLoader, at+".boot-loader", 255)), TEE: uint8(r.number(t.TEE, at+".tee", 255)),
			SNP: uint8(r.number(t.SNP, at+".snp", 255)), Microcode: uint8(r.number(t.Microcode, at+".microcode", 255))}
	}
	major, minor, _ := strings.Cut(y.Firmware, ".")
	a, aerr := strconv.ParseUint(major, 10, 8)
	b, berr := strconv.ParseUint(minor, 10, 8)
	if p.Firmware = [2]uint8{uint8(a), uint8(b)}; aerr != nil || berr != nil {
		r.fail(path+".firmware", "firmware %.20q: want the lowest API version, such as \"1.55\"", y.Firmware)
	}
	copy(p.HostData[:], r.hex(y.HostData, path+".host-data", 32))
	if y.Roots != "" {
		if c := r.certificates(y.Roots, path+".roots", 2, 3); c != nil {
			p.Roots = &amd.Roots{ARK: c[0], ASK: c[1]}
			if len(c) == 3 {
				p.Roots.ASVK = c[2]
			}
		}
	}
	return p
}

func (r *reader) tdx(y *tdxYAML, path string) *appraise.TDX {
	p := &appraise.TDX{EvaluationNumber: r.number(y.EvaluationNumber, path+".tcb-evaluation-number", 1<<31-1), TeeTCBSVN: r.hex(y.TeeTCBSVN, path+".tee-tcb-svn", 16),
		PCESVN: uint16(r.number(y.PCESVN, path+".pce-svn", 1<<16-1)), MRSEAM: y.MRSEAM, Attributes: y.Attributes, XFAM: y.XFAM, PPIDs: y.PPIDs}
	copy(p.MRConfigID[:], r.hex(y.MRConfigID, path+".mrconfigid", 48))
	copy(p.MROwner[:], r.hex(y.MROwner, path+".mrowner", 48))
	copy(p.MROwnerConfig[:], r.hex(y.MROwnerConfig, path+".mrownerconfig", 48))
	copy(p.MRServiceTD[:], r.hex(y.MRServiceTD, path+".mrservicetd", 48))
	if y.Root != "" {
		if c := r.certificates(y.Root, path+".root", 1, 1); c != nil {
			p.Root = c[0]
		}
	}
	return p
}

func (r *reader) word(s, path string, words ...string) string {
	if !slices.Contains(words, s) {
		r.fail(path, "%.40q: want %s", s, strings.TrimPrefix(strings.Join(words, " or "), " or "))
	}
	return s
}

func (r *reader) number(n int, path string, most int) int {
	if n < 0 || n > most {
		r.fail(path, "%d: want 0 to %d", n, most)
		return 0
	}
	return n
}

// hex reads so many bytes, or none where nothing stands.
func (r *reader) hex(s, path string, size int) []byte {
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size || hex.EncodeToString(b) != s {
		r.fail(path, "%.100q: want %d lower-case hex digits", s, 2*size)
		return nil
	}
	return b
}

// certificates reads a PEM file of so many certificates.
func (r *reader) certificates(file, path string, least, most int) (all []*x509.Certificate) {
	data, err := r.read(file)
	for err == nil && len(strings.TrimSpace(string(data))) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil || block.Type != "CERTIFICATE" {
			err = fmt.Errorf("%s: want PEM certificates and nothing else", file)
			break
		}
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
	if err == nil && (len(all) < least || len(all) > most) {
		err = fmt.Errorf("%s: %d certificates, want %d to %d", file, len(all), least, most)
	}
	if err != nil {
		r.fail(path, "%v", err)
		return nil
	}
	return all
}

package appraise

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/gpu"
)

// A Policy says which evidence is accepted. The zero Policy accepts none; so does the zero SNP, TDX or VTPM:
// what a policy does not say is refused, never taken as "any".
type Policy struct {
	Platforms []string  // names such as "snp" or "insecure"; empty: none
	Freshness Freshness // must be said for every platform but "insecure"
	Beacons   *Beacons  // must be there for freshness key
	SNP       *SNP      // must be there for platform snp
	TDX       *TDX      // for tdx
	VTPM      *VTPM     // for vtpm-unendorsed
	Azure     *Azure    // for vtpm-azure
	SVSM      *SVSM     // for vtpm-svsm
	GPU       *GPUs     // nil: evidence that binds GPUs is refused; otherwise such that binds none

	// Reappraise is how old an appraisal may be when something is sent in the session that it accepted: package client
	// asks for what is wanted anew and judges again. 0: DefaultReappraise; at most MaxReappraise.
	Reappraise time.Duration
}

// Times of Policy.Reappraise: a day is the longest that a session and its key live.
const (
	DefaultReappraise = time.Hour
	MaxReappraise     = 24 * time.Hour
)

// ReappraiseAfter is Reappraise with its default.
func (p *Policy) ReappraiseAfter() time.Duration {
	if p.Reappraise == 0 {
		return DefaultReappraise
	}
	return p.Reappraise
}

// Freshness says what must show that evidence was not made long ago.
type Freshness string

// What a policy may want.
const (
	FreshSession Freshness = "session" // the hardware signed this session's handshake
	FreshKey     Freshness = "key"     // the key is no older than a cosigned checkpoint: Beacons
	FreshNone    Freshness = "none"    // nothing: whoever once stole the key can use it for ever
)

// Any, alone in a list of machines or keys, accepts every one.
const Any = "any"

// An SNP says which SEV-SNP reports are accepted. Debugging and migration agents never are.
type SNP struct {
	TCB              map[string]SNPTCB // lowest by product line (Milan, Genoa, Turin); a product that is not named is refused
	Firmware         [2]uint8          // lowest API version of the AMD-SP firmware: major, minor
	Signers          []string          // vcek, vlek
	VMPL             uint32
	GuestSVN         uint32   // lowest
	AllowSMT         bool     // the machine may have hyper-threads on
	IgnoreAliasCheck bool     // ALIAS_CHECK_COMPLETE need not be set (BadRAM)
	IgnoreCRL        bool     // AMD's revocation list need not be at hand; one that is, is checked
	Chips            []string // CHIP_IDs, 128 hex digits; or Any
	HostData         [32]byte
	IDKeys           []string   // SHA-384 of keys that may have signed an ID block, 96 hex digits; or Any. Empty: there must be no ID block
	Roots            *amd.Roots // in place of AMD's, for tests; every check that rests on them says so
}

// An SNPTCB is a floor: each component on its own. FMC is Turin's alone.
type SNPTCB struct{ FMC, BootLoader, TEE, SNP, Microcode uint8 }

// A TDX says which TDX quotes are accepted. Debugging never is; SEPT_VE_DISABLE must be set; Intel's collateral
// must be at hand and say UpToDate.
type TDX struct {
	EvaluationNumber int               // lowest tcbEvaluationDataNumber of the collateral, at least 1
	TeeTCBSVN        []byte            // lowest TEE_TCB_SVN, 16 bytes, each on its own
	PCESVN           uint16            // lowest, of the platform's certificate
	MRSEAM           []string          // TDX modules, 96 hex digits; or Any (collateral still holds the module to Intel's list)
	Attributes       []string          // TD_ATTRIBUTES, 16 hex digits each, in the order of the bytes
	XFAM             []string          // likewise
	PPIDs            []string          // platforms, 32 hex digits; or Any
	MRConfigID       [48]byte          // these four must be equal; zero unless the policy names a value
	MROwner          [48]byte          //
	MROwnerConfig    [48]byte          //
	MRServiceTD      [48]byte          // quotes that have none count as zero
	Root             *x509.Certificate // in place of Intel's, for tests; every check that rests on it says so
}

// A VTPM says which quotes of a TPM are accepted that no vendor's certificate stands behind.
type VTPM struct {
	PCR0, PCR2 []string // SHA-256 PCRs of the firmwares allowed, 64 hex digits
}

// An Azure says which quotes of the TPM of an Azure confidential VM are accepted. The TPM is kept by Azure's paravisor,
// whose code is in SNP's launch digest and in nobody else's hands: what it is trusted for, and which of its builds, is the
// policy's word.
type Azure struct {
	VTPM
	Paravisors []string // launch digests, 96 hex digits
	SNP        SNP      // of the report that names the TPM's key; VMPL must be 0
}

// An SVSM says which quotes of a TPM are accepted that an SVSM keeps. Its launch digest covers the SVSM and the firmware above
// it; a digest on the list must be of one that keeps VMPL 0 to itself.
type SVSM struct {
	VTPM
	SVSMs []string // launch digests, 96 hex digits
	SNP   SNP      // of the report that names the TPM's endorsement key; VMPL must be 0
}

// GPUs says which GPUs and switches are accepted.
type GPUs struct {
	gpu.Policy
	Roots *gpu.Roots // in place of NVIDIA's, for tests; the Result then says so
}

// The platforms.
const (
	snpPlatform  = "snp"
	tdxPlatform  = "tdx"
	vtpmPlatform = "vtpm-unendorsed"

	azurePlatform = "vtpm-azure"
	svsmPlatform  = "vtpm-svsm"
	insecure      = "insecure"
)

// Products are the SNP product lines that this version can verify. Genoa is all of Zen 4: Bergamo and Siena too.
func Products() []string { return []string{"Genoa", "Milan", turin} }

const turin = "Turin" // the one with an FMC in its TCB

// Check returns an error unless the policy says all that platform needs.
func (p *Policy) Check(platform string) error {
	if p.Reappraise < 0 || p.Reappraise > MaxReappraise {
		return fmt.Errorf("reappraise %v: want a time up to %v", p.Reappraise, MaxReappraise)
	}
	if platform != insecure {
		switch p.Freshness {
		case FreshSession, FreshKey, FreshNone:
		default:
			return fmt.Errorf("freshness %.20q: want session, key or none", p.Freshness)
		}
	}
	if p.GPU != nil {
		if err := p.GPU.Check(); err != nil {
			return fmt.Errorf("gpu: %w", err)
		}
	}
	if p.Freshness == FreshKey && (p.Beacons == nil || p.Beacons.Dates == nil || p.Beacons.MaxAge <= 0) {
		return fmt.Errorf("freshness key: the policy does not say whose checkpoints, and how old they may be")
	}
	switch platform {
	case insecure:
		return nil
	case snpPlatform:
		return p.SNP.check()
	case tdxPlatform:
		return p.TDX.check()
	case vtpmPlatform:
		return p.VTPM.check("vtpm")
	case azurePlatform:
		return p.Azure.check()
	case svsmPlatform:
		return p.SVSM.check()
	}
	return nil // refused later: unsupported
}

func (s *SNP) check() error {
	if s == nil {
		return fmt.Errorf("snp: the policy does not say which reports it accepts")
	}
	if len(s.TCB) == 0 {
		return fmt.Errorf("snp: tcb: want the lowest TCB of at least one product")
	}
	for _, name := range slices.Sorted(maps.Keys(s.TCB)) {
		if !slices.Contains(Products(), name) {
			return fmt.Errorf("snp: tcb: product %.20q: want one of %s", name, strings.Join(Products(), ", "))
		}
		if name != turin && s.TCB[name].FMC != 0 {
			return fmt.Errorf("snp: tcb: %s: has no FMC, want none", name)
		}
	}
	for _, name := range s.Signers {
		if name != "vcek" && name != "vlek" {
			return fmt.Errorf("snp: signers: %.20q: want vcek or vlek", name)
		}
	}
	switch {
	case len(s.Signers) == 0:
		return fmt.Errorf("snp: signers: want vcek, vlek or both")
	case s.Firmware == [2]uint8{}:
		return fmt.Errorf("snp: firmware: want the lowest version")
	case s.VMPL > 3:
		return fmt.Errorf("snp: vmpl %d: want 0 to 3", s.VMPL)
	}
	if err := checkList("snp: chips", s.Chips, 64, true); err != nil {
		return err
	}
	return checkList("snp: id-keys", s.IDKeys, 48, false)
}

func (t *TDX) check() error {
	if t == nil {
		return fmt.Errorf("tdx: the policy does not say which quotes it accepts")
	}
	if t.EvaluationNumber < 1 || len(t.TeeTCBSVN) != 16 {
		return fmt.Errorf("tdx: want tcb-evaluation-number from 1 and tee-tcb-svn of 16 bytes")
	}
	for _, l := range []struct {
		name string
		list []string
		size int
	}{{"mrseam", t.MRSEAM, 48}, {"attributes", t.Attributes, 8}, {"xfam", t.XFAM, 8}, {"ppids", t.PPIDs, 16}} {
		if l.size == 8 && slices.Contains(l.list, Any) {
			return fmt.Errorf("tdx: %s: want values, not %q", l.name, Any)
		}
		if err := checkList("tdx: "+l.name, l.list, l.size, true); err != nil {
			return err
		}
	}
	return nil
}

func (v *VTPM) check(section string) error {
	if v == nil {
		return fmt.Errorf("%s: the policy does not say which firmware it accepts", section)
	}
	if slices.Contains(v.PCR0, Any) || slices.Contains(v.PCR2, Any) {
		return fmt.Errorf("%s: pcr0, pcr2: want values, not %q", section, Any)
	}
	if err := checkList(section+": pcr0", v.PCR0, 32, true); err != nil {
		return err
	}
	return checkList(section+": pcr2", v.PCR2, 32, true)
}

func (z *Azure) check() error {
	if z == nil {
		return fmt.Errorf("vtpm-azure: the policy does not say which paravisor and firmware it accepts")
	}
	return checkKept("vtpm-azure", "paravisor", z.Paravisors, &z.VTPM, &z.SNP)
}

func (v *SVSM) check() error {
	if v == nil {
		return fmt.Errorf("vtpm-svsm: the policy does not say which SVSM and firmware it accepts")
	}
	return checkKept("vtpm-svsm", "svsm", v.SVSMs, &v.VTPM, &v.SNP)
}

// checkKept holds a section to the rules of TPMs that something at VMPL 0 keeps.
func checkKept(section, keeper string, digests []string, v *VTPM, s *SNP) error {
	if slices.Contains(digests, Any) {
		return fmt.Errorf("%s: %ss: want launch digests, not %q", section, keeper, Any)
	}
	if err := checkList(section+": "+keeper+"s", digests, 48, true); err != nil {
		return err
	}
	if err := v.check(section); err != nil {
		return err
	}
	if s.VMPL != 0 {
		return fmt.Errorf("%s: snp: vmpl %d: want 0, the %s's: at another the guest itself could have asked for the report", section, s.VMPL, keeper)
	}
	if err := s.check(); err != nil {
		return fmt.Errorf("%s: %w", section, err)
	}
	return nil
}

// checkList wants lower-case hex of size bytes each, or Any alone.
func checkList(name string, list []string, size int, wanted bool) error {
	if wanted && len(list) == 0 {
		return fmt.Errorf("%s: want at least one", name)
	}
	for i, s := range list {
		if s == Any && len(list) == 1 {
			continue
		}
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != size || hex.EncodeToString(b) != s {
			return fmt.Errorf("%s: %d: %.40q: want %d lower-case hex digits, or %q alone", name, i, s, 2*size, Any)
		}
		if slices.Contains(list[:i], s) {
			return fmt.Errorf("%s: %d: twice", name, i)
		}
	}
	return nil
}

// allows reports whether list has s or accepts any.
func allows(list []string, s string) bool {
	return slices.Contains(list, s) || len(list) == 1 && list[0] == Any
}

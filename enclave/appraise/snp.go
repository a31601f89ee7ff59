package appraise

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/validate"

	"tally/enclave/appraise/amd"
)

// Bits of an SNP report (SEV-SNP Firmware ABI, tables 10 and 24).
const (
	policySMT       = 1 << 16
	policyMigration = 1 << 18
	policyDebug     = 1 << 19
	policyCXL       = 1 << 21

	platformSMT        = 1 << 0
	platformAliasCheck = 1 << 5
	platformKnown      = 1<<7 - 1 // SMT, TSME, ECC, RAPL off, ciphertext hiding, alias check, IOMMU writes safe; after them SEV-TIO
)

// hostTables is said of every SNP report.
const hostTables = "the host's ACPI tables are not measured on SNP, and their code runs in the guest's kernel: init refuses tables that are not listed, which is late"

// snpPolicy is what the policy says of the processor's report on this platform.
func (a *appraisal) snpPolicy() *SNP {
	switch a.doc.Platform {
	case azurePlatform:
		return &a.policy.Azure.SNP
	case svsmPlatform:
		return &a.policy.SVSM.SNP
	}
	return a.policy.SNP
}

// snp appraises a report: everything but the measurement.
func (a *appraisal) snp(q quoted) (*proven, *refusal) {
	p := a.snpPolicy()
	r, err := a.snpVerify(q)
	if err != nil {
		return nil, &refusal{reason: BadSignature, got: err.Error()}
	}
	vendor := vendorOf(r.Root, "AMD")
	for _, step := range []func() *refusal{
		func() *refusal {
			return a.expect(BadSignature, slices.Contains(p.Signers, r.Signer), "signature of "+strings.Join(p.Signers, " or "), fmt.Sprintf("%s of a %s, root %s", r.Signer, r.Product, vendor), "policy")
		},
		func() *refusal { return a.reportData(q, r.GetReportData()) },
		func() *refusal { return a.snpRevocation(r) },
		func() *refusal { return a.snpGuestPolicy(r) },
		func() *refusal { return a.snpTCB(r) },
		func() *refusal {
			return a.expect(BadMachine, allows(p.Chips, hex.EncodeToString(r.GetChipId())), "chip "+short(p.Chips), fmt.Sprintf("%x", r.GetChipId()), "policy")
		},
		func() *refusal { return a.snpConfiguration(r) },
		func() *refusal { return a.snpSecondOpinion(q, r) },
	} {
		if x := step(); x != nil {
			return nil, x
		}
	}
	a.unchecked("host-tables", hostTables)
	return &proven{machine: fmt.Sprintf("%x", r.GetChipId()), registers: map[string]string{"launch_digest": hex.EncodeToString(r.GetMeasurement())}, snp: r}, nil
}

// snpVerify looks at the certificates once: session evidence with the key evidence's, by the same hardware and
// about the same guest, is verified with the key that they are for.
func (a *appraisal) snpVerify(q quoted) (*amd.Report, error) {
	if a.first != nil && len(q.endorsements) == 0 {
		if r, ok, err := a.first.snp.Next(q.report); ok {
			return r, err
		}
	}
	return a.in.Memo.Verify(q.report, a.endorsements(q), a.snpPolicy().Roots, a.in.Now)
}

func (a *appraisal) snpRevocation(r *amd.Report) *refusal {
	if r.Revocation == "" && a.snpPolicy().IgnoreCRL {
		a.unchecked("revocation", "no revocation list at hand, and the policy does not want one")
		return nil
	}
	return a.expect(BadRevocation, r.Revocation != "", "AMD's revocation list beside the report", orNone(r.Revocation), "policy")
}

// snpGuestPolicy holds what the host asked for and where the report was made to the policy.
func (a *appraisal) snpGuestPolicy(r *amd.Report) *refusal {
	p, guest, info := a.snpPolicy(), r.GetPolicy(), r.GetPlatformInfo()
	got := fmt.Sprintf("guest policy %#x", guest)
	if x := a.expect(BadGuestPolicy, guest&policyDebug == 0, "debugging off", got, "policy"); x != nil {
		return x
	}
	noAgent := strings.Repeat("f", 64) == hex.EncodeToString(r.GetReportIdMa())
	if x := a.expect(BadGuestPolicy, guest&policyMigration == 0 && noAgent, "no migration agent", got+", REPORT_ID_MA "+hex.EncodeToString(r.GetReportIdMa()), "policy"); x != nil {
		return x
	}
	if x := a.expect(BadGuestPolicy, guest&policyCXL == 0, "no memory over CXL", got, "policy"); x != nil {
		return x
	}
	if x := a.expect(BadGuestPolicy, info&^platformKnown == 0, fmt.Sprintf("platform info of the bits %#x", platformKnown), fmt.Sprintf("platform info %#x", info), "policy"); x != nil {
		return x
	}
	if x := a.expect(BadGuestPolicy, p.AllowSMT || info&platformSMT == 0, "hyper-threads off", fmt.Sprintf("platform info %#x", info), "policy"); x != nil {
		return x
	}
	if x := a.expect(BadVMPL, r.GetVmpl() == p.VMPL, fmt.Sprintf("VMPL %d", p.VMPL), fmt.Sprintf("VMPL %d", r.GetVmpl()), "policy"); x != nil {
		return x
	}
	if p.IgnoreAliasCheck && info&platformAliasCheck == 0 {
		a.unchecked("alias-check", "ALIAS_CHECK_COMPLETE is not set, and the policy does not want it: memory modules may lie about their size (BadRAM)")
		return nil
	}
	return a.expect(BadAliasCheck, info&platformAliasCheck != 0, "ALIAS_CHECK_COMPLETE", fmt.Sprintf("platform info %#x", info), "policy")
}

// snpTCB holds the firmware to the floors of its product: what the certificate is for, what runs now and what
// ran at launch.
func (a *appraisal) snpTCB(r *amd.Report) *refusal {
	floor, ok := a.snpPolicy().TCB[r.Product]
	if !ok {
		return &refusal{BadTCB, "one of the products in the policy", "product " + r.Product, "policy"}
	}
	if x := a.expect(BadTCB, uint64(r.Certificate) == r.GetReportedTcb(), fmt.Sprintf("reported TCB %#x", uint64(r.Certificate)), fmt.Sprintf("%#x", r.GetReportedTcb()), r.Signer+"'s certificate"); x != nil {
		return x
	}
	for _, c := range []struct {
		name string
		tcb  uint64
	}{{"reported", r.GetReportedTcb()}, {"committed", r.GetCommittedTcb()}, {"current", r.GetCurrentTcb()}, {"launch", r.GetLaunchTcb()}} {
		got := tcbOf(r.Product, c.tcb)
		if x := a.expect(BadTCB, floor.atMost(got), c.name+" TCB from "+floor.text(r.Product), got.text(r.Product), "policy"); x != nil {
			return x
		}
	}
	return a.snpVersions(r)
}

// snpVersions holds the firmware's version to the policy, and what the report says was committed to what it says runs.
func (a *appraisal) snpVersions(r *amd.Report) *refusal {
	committed := [3]uint32{r.GetCommittedMajor(), r.GetCommittedMinor(), r.GetCommittedBuild()}
	current := [3]uint32{r.GetCurrentMajor(), r.GetCurrentMinor(), r.GetCurrentBuild()}
	want := a.snpPolicy().Firmware
	high := slices.Compare(committed[:2], []uint32{uint32(want[0]), uint32(want[1])}) >= 0
	if x := a.expect(BadTCB, high, fmt.Sprintf("committed firmware from %d.%d", want[0], want[1]), fmt.Sprintf("%d.%d", committed[0], committed[1]), "policy"); x != nil {
		return x
	}
	runs := tcbOf(r.Product, r.GetCurrentTcb())
	for _, c := range []struct {
		name string
		tcb  uint64
	}{{"reported", r.GetReportedTcb()}, {"committed", r.GetCommittedTcb()}} {
		got := tcbOf(r.Product, c.tcb)
		if x := a.expect(BadTCB, got.atMost(runs), "a "+c.name+" TCB up to the current one: "+runs.text(r.Product), got.text(r.Product), "the report"); x != nil {
			return x
		}
	}
	return a.expect(BadTCB, slices.Compare(committed[:2], current[:2]) <= 0 && committed[2] <= current[2],
		fmt.Sprintf("committed firmware up to the current %d.%d build %d", current[0], current[1], current[2]), fmt.Sprintf("%d.%d build %d", committed[0], committed[1], committed[2]), "the report")
}

// tcbOf splits a TCB_VERSION (SEV-SNP Firmware ABI, tables 4 and 5).
func tcbOf(product string, v uint64) SNPTCB {
	if product == turin {
		return SNPTCB{FMC: uint8(v), BootLoader: uint8(v >> 8), TEE: uint8(v >> 16), SNP: uint8(v >> 24), Microcode: uint8(v >> 56)}
	}
	return SNPTCB{BootLoader: uint8(v), TEE: uint8(v >> 8), SNP: uint8(v >> 48), Microcode: uint8(v >> 56)}
}

// atMost says whether no component of t is above u's.
func (t SNPTCB) atMost(u SNPTCB) bool {
	return t.FMC <= u.FMC && t.BootLoader <= u.BootLoader && t.TEE <= u.TEE && t.SNP <= u.SNP && t.Microcode <= u.Microcode
}

// text names the components that the product has.
func (t SNPTCB) text(product string) string {
	s := fmt.Sprintf("boot loader %d, TEE %d, SNP %d, microcode %d", t.BootLoader, t.TEE, t.SNP, t.Microcode)
	if product == turin {
		s = fmt.Sprintf("FMC %d, ", t.FMC) + s
	}
	return s
}

// snpConfiguration holds what the host can hand a guest past its measurement.
func (a *appraisal) snpConfiguration(r *amd.Report) *refusal {
	p := a.snpPolicy()
	if x := a.expect(BadConfiguration, [32]byte(r.GetHostData()) == p.HostData, fmt.Sprintf("HOST_DATA %x", p.HostData), fmt.Sprintf("%x", r.GetHostData()), "policy"); x != nil {
		return x
	}
	if x := a.expect(BadConfiguration, r.GetGuestSvn() >= p.GuestSVN, fmt.Sprintf("GUEST_SVN from %d", p.GuestSVN), fmt.Sprint(r.GetGuestSvn()), "policy"); x != nil {
		return x
	}
	key := hex.EncodeToString(r.GetIdKeyDigest())
	none := strings.Trim(key, "0") == "" && allZero(r.GetFamilyId()) && allZero(r.GetImageId()) && allZero(r.GetAuthorKeyDigest())
	if len(p.IDKeys) == 0 {
		return a.expect(BadConfiguration, none, "no ID block", "ID block of key "+key, "policy")
	}
	return a.expect(BadConfiguration, allows(p.IDKeys, key), "ID block of key "+short(p.IDKeys), key, "policy")
}

// snpSecondOpinion asks go-sev-guest the same questions. It skips what its options leave out, so that every
// one of them is filled in here. It cannot read the certificate of a Turin, whose TCB it would take apart wrongly.
func (a *appraisal) snpSecondOpinion(q quoted, r *amd.Report) *refusal {
	if r.Product == turin {
		return nil
	}
	if err := validate.SnpAttestation(r.Attestation, a.snpOptions(q, r)); err != nil {
		return &refusal{reason: BadGuestPolicy, got: "go-sev-guest: " + err.Error()}
	}
	return nil
}

func (a *appraisal) snpOptions(q quoted, r *amd.Report) *validate.Options {
	p := a.snpPolicy()
	vmpl := int(p.VMPL)
	floor := p.TCB[r.Product]
	parts := kds.TCBParts{BlSpl: floor.BootLoader, TeeSpl: floor.TEE, SnpSpl: floor.SNP, UcodeSpl: floor.Microcode}
	o := &validate.Options{
		// The most that a guest may be: SMT is the host's to have, by AllowSMT, and the guest's policy only permits it.
		GuestPolicy: abi.SnpPolicy{SMT: true, CXLAllowed: false, Debug: false, MigrateMA: false},
		ReportData:  q.reportData[:], HostData: p.HostData[:], MinimumGuestSvn: p.GuestSVN, VMPL: &vmpl,
		MinimumTCB: parts, MinimumLaunchTCB: parts, MinimumVersion: uint16(p.Firmware[0])<<8 | uint16(p.Firmware[1]),
		PermitProvisionalFirmware: true, // the committed TCB has passed the floor above
		// PlatformInfo is left out: the library refuses the bit for IOMMU writes, which it does not know. snpGuestPolicy has them all.
		// No one value is wanted of these: they have passed the steps above, or name this guest alone.
		Measurement: r.GetMeasurement(), ChipID: r.GetChipId(), ReportID: r.GetReportId(), ReportIDMA: r.GetReportIdMa(),
		FamilyID: r.GetFamilyId(), ImageID: r.GetImageId(),
	}
	if len(p.IDKeys) > 0 {
		o.RequireIDBlock, o.TrustedIDKeyHashes = true, [][]byte{r.GetIdKeyDigest()}
	}
	return o
}

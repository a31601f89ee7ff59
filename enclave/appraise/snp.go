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

	platformSMT        = 1 << 0
	platformAliasCheck = 1 << 5
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
		got := tcbOf(c.tcb)
		high := got.BootLoader >= floor.BootLoader && got.TEE >= floor.TEE && got.SNP >= floor.SNP && got.Microcode >= floor.Microcode
		if x := a.expect(BadTCB, high, c.name+" TCB from "+floor.String(), got.String(), "policy"); x != nil {
			return x
		}
	}
	v, want := [2]uint8{uint8(r.GetCommittedMajor()), uint8(r.GetCommittedMinor())}, a.snpPolicy().Firmware
	high := v[0] > want[0] || v[0] == want[0] && v[1] >= want[1]
	return a.expect(BadTCB, high, fmt.Sprintf("committed firmware from %d.%d", want[0], want[1]), fmt.Sprintf("%d.%d", v[0], v[1]), "policy")
}

// tcbOf splits a TCB_VERSION of Milan and Genoa.
func tcbOf(v uint64) SNPTCB {
	return SNPTCB{BootLoader: uint8(v), TEE: uint8(v >> 8), SNP: uint8(v >> 48), Microcode: uint8(v >> 56)}
}

// String names the components.
func (t SNPTCB) String() string {
	return fmt.Sprintf("boot loader %d, TEE %d, SNP %d, microcode %d", t.BootLoader, t.TEE, t.SNP, t.Microcode)
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
// one of them is filled in here.
func (a *appraisal) snpSecondOpinion(q quoted, r *amd.Report) *refusal {
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
		PlatformInfo:              &abi.SnpPlatformInfo{SMTEnabled: p.AllowSMT, TSMEEnabled: true, AliasCheckComplete: !p.IgnoreAliasCheck},
		// No one value is wanted of these: they have passed the steps above, or name this guest alone.
		Measurement: r.GetMeasurement(), ChipID: r.GetChipId(), ReportID: r.GetReportId(), ReportIDMA: r.GetReportIdMa(),
		FamilyID: r.GetFamilyId(), ImageID: r.GetImageId(),
	}
	if len(p.IDKeys) > 0 {
		o.RequireIDBlock, o.TrustedIDKeyHashes = true, [][]byte{r.GetIdKeyDigest()}
	}
	return o
}

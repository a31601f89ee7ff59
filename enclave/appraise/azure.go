package appraise

import (
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"slices"

	"tally/enclave/appraise/hcl"
	"tally/enclave/appraise/tpm"
)

// azureTrust is said of every quote of an Azure TPM.
const azureTrust = "Azure's paravisor keeps this TPM and could sign what it likes: its launch digest is on the policy's list, and nobody outside can compute it"

// azure appraises a quote of the TPM of an Azure confidential VM: AMD's processor signed the report in which the
// paravisor names the TPM's key, and that key signed the quote.
func (a *appraisal) azure(q quoted) (*proven, *refusal) {
	r, certificates, err := a.hclReport(q)
	if err != nil {
		return nil, &refusal{reason: BadEvidence, got: err.Error()}
	}
	hardware, x := a.snp(quoted{r.SNP, certificates, r.ReportData, "runtime data of the paravisor"})
	if x != nil {
		return nil, x
	}
	if x := a.keeper("paravisor", a.policy.Azure.Paravisors, hardware, azureTrust); x != nil {
		return nil, x
	}
	e, err := tpm.Verify(q.report)
	if err != nil {
		return nil, &refusal{reason: BadSignature, got: err.Error()}
	}
	want, got := "TPM key with modulus "+modulus(r.Key), "no RSA key"
	if key, ok := e.Key.(*rsa.PublicKey); ok {
		got = "TPM key with modulus " + modulus(key)
	}
	if x := a.expect(BadSignature, want == got, want, got, "runtime data of the paravisor"); x != nil {
		return nil, x
	}
	p, x := a.booted(q, e, &a.policy.Azure.VTPM)
	if x != nil {
		return nil, x
	}
	p.machine, p.snp = hardware.machine+", TPM key "+e.KeyName, hardware.snp
	return p, nil
}

// keeper holds whoever keeps a machine's TPM, what the processor measured at launch, to the policy's list.
func (a *appraisal) keeper(what string, list []string, hardware *proven, trust string) *refusal {
	digest := hardware.registers["launch_digest"]
	if x := a.expect(BadMeasurement, slices.Contains(list, digest), what+" "+short(list), what+" "+digest, "policy"); x != nil {
		return x
	}
	a.unchecked(what, trust)
	return nil
}

// hclReport is the paravisor's report with the certificates of the processor's: those that the client holds, if it does. A
// session's evidence has none of its own.
func (a *appraisal) hclReport(q quoted) (*hcl.Report, []byte, error) {
	r, certificates, err := hcl.ParseEndorsements(a.keyEndorsements(q))
	if err != nil {
		return nil, nil, err
	}
	if len(a.in.Collateral) == 0 && len(certificates) == 0 {
		return nil, nil, fmt.Errorf("HCL endorsements: no certificate of AMD's key came with them, and none is at hand")
	}
	return r, certificates, nil
}

// keyEndorsements is what stands behind a TPM's key: beside a session's quote there is nothing, as it has the same key.
func (a *appraisal) keyEndorsements(q quoted) []byte {
	if len(q.endorsements) == 0 {
		return a.doc.Endorsements
	}
	return q.endorsements
}

// modulus is all of one, for equality, and short enough for a line.
func modulus(k *rsa.PublicKey) string { return hex.EncodeToString(k.N.Bytes()) }

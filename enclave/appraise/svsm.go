package appraise

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"slices"

	"tally/enclave/appraise/svsm"
	"tally/enclave/appraise/tpm"
)

// svsmTrust is said of every quote of an SVSM's TPM.
const svsmTrust = "the SVSM keeps this TPM and could sign what it likes: its launch digest is on the policy's list, and anybody can compute it"

// A Credential is what an enclave's TPM made of a client's challenge.
type Credential struct {
	Challenge *tpm.Challenge // NewChallenge's
	Answer    []byte         // as received
	Missing   string         // why there is none, where it was asked for
}

// NewChallenge makes a challenge for the TPM in key evidence of an SVSM's guest (Wants.Credential). Nothing in that
// evidence need be true yet: the appraisal holds the challenge to what was proved.
func NewChallenge(rand io.Reader, document []byte) (*tpm.Challenge, error) {
	a := &appraisal{in: Input{Document: document}, result: &Result{}}
	if x := a.parse(); x != nil {
		return nil, errors.New(x.got)
	}
	e, err := tpm.Verify(a.doc.Report)
	if err != nil {
		return nil, err
	}
	r, _, err := svsm.ParseEndorsements(a.doc.Endorsements)
	if err != nil {
		return nil, err
	}
	return tpm.NewChallenge(rand, e.KeyName, r.Manifest)
}

// svsm appraises a quote of the TPM that an SVSM keeps: AMD's processor signed the SVSM's word for the TPM's endorsement key.
// That the quote's key is of that TPM, credential shows.
func (a *appraisal) svsm(q quoted) (*proven, *refusal) {
	e, err := tpm.Verify(q.report)
	if err != nil {
		return nil, &refusal{reason: BadSignature, got: err.Error()}
	}
	if _, ok := e.Key.(*ecdsa.PublicKey); !ok {
		return nil, &refusal{reason: BadEvidence, got: "vtpm-svsm evidence by a key that is not ECC"}
	}
	r, certificates, err := svsm.ParseEndorsements(a.keyEndorsements(q))
	if err == nil && len(a.in.Collateral) == 0 && len(certificates) == 0 {
		err = errors.New("SVSM endorsements: no certificate of AMD's key came with them, and none is at hand")
	}
	var nonce [64]byte
	if err == nil {
		nonce, err = svsm.Nonce(e.KeyName)
	}
	if err != nil {
		return nil, &refusal{reason: BadEvidence, got: err.Error()}
	}
	hardware, x := a.snp(quoted{r.SNP, certificates, r.ReportData(nonce), "manifest of the SVSM"})
	if x != nil {
		return nil, x
	}
	if x := a.keeper("svsm", a.policy.SVSM.SVSMs, hardware, svsmTrust); x != nil {
		return nil, x
	}
	if x := a.noPlainGuest(hardware); x != nil {
		return nil, x
	}
	p, x := a.booted(q, e, &a.policy.SVSM.VTPM)
	if x != nil {
		return nil, x
	}
	p.machine, p.snp = hardware.machine+", TPM key "+e.KeyName, hardware.snp
	p.key, p.endorsement = e.KeyName, r.Manifest
	return p, nil
}

// noPlainGuest refuses a digest that got onto the policy's list by mistake: where the release says that no SVSM is in it, the
// guest itself asked for the report, with whatever manifest it liked.
func (a *appraisal) noPlainGuest(hardware *proven) *refusal {
	digest := hardware.registers["launch_digest"]
	for _, v := range valuesOf(a.in.Reference, "snp") {
		if v.Digest.String() == digest && v.Platform.SVSM == "" && v.Platform.IGVM == "" {
			return &refusal{BadMeasurement, "the launch digest of an SVSM", fmt.Sprintf("%s, of platform %.64s, which has none", digest, v.Platform.Name), "release"}
		}
	}
	return nil
}

// credential wants the TPM of an SVSM to have shown that it holds both keys: the guest that asked the SVSM for its report
// could have named any key.
func (a *appraisal) credential() *refusal {
	if a.doc.Platform != svsmPlatform {
		return nil
	}
	const want = "the TPM's answer to a challenge about the quote's key"
	c := a.in.Credential
	switch {
	case c == nil || c.Challenge == nil:
		return &refusal{BadSignature, want, "none: a TPM gives it in a session, to the client that asks", "client"}
	case c.Missing != "":
		return &refusal{BadSignature, want, c.Missing, "client"}
	case c.Challenge.KeyName != a.first.key || !slices.Equal(c.Challenge.EK, a.first.endorsement):
		return &refusal{BadSignature, want, "an answer about other keys", "client"}
	}
	got := fmt.Sprintf("%d bytes, which are not it", len(c.Answer))
	if c.Challenge.Opened(c.Answer) {
		got = "the endorsement key's TPM opened a challenge about key " + a.first.key
	}
	return a.expect(BadSignature, c.Challenge.Opened(c.Answer), want, got, "client")
}

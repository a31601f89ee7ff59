package appraise

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"slices"
	"strings"

	"tally/enclave/appraise/tpm"
	"tally/measure"
)

// vtpm appraises a quote of a TPM whose key nobody answers for: it shows how the machine booted, if the host
// is honest.
func (a *appraisal) vtpm(q quoted) (*proven, *refusal) {
	if len(q.endorsements) != 0 {
		return nil, &refusal{reason: BadEvidence, got: "vtpm-unendorsed evidence with endorsements"}
	}
	e, err := tpm.Verify(q.report)
	if err != nil {
		return nil, &refusal{reason: BadSignature, got: err.Error()}
	}
	if _, ok := e.Key.(*ecdsa.PublicKey); !ok {
		return nil, &refusal{reason: BadEvidence, got: "vtpm-unendorsed evidence by a key that is not ECC"}
	}
	a.unchecked("signature", "key "+e.KeyName+" signed the quote; nothing says whose it is")
	return a.booted(q, e, a.policy.VTPM)
}

// booted holds a quote to what it must be about, and to what the policy alone says of the boot.
func (a *appraisal) booted(q quoted, e *tpm.Evidence, policy *VTPM) (*proven, *refusal) {
	want := tpm.Qualifying(q.reportData)
	if x := a.expect(BadReportData, bytes.Equal(e.Qualifying, want), fmt.Sprintf("qualifying data %x", want), fmt.Sprintf("%x", e.Qualifying), q.from); x != nil {
		return nil, x
	}
	p := &proven{machine: e.KeyName, registers: map[string]string{}, parts: []measure.Part{measure.PartFirmware}}
	for i, v := range e.PCR {
		p.registers[fmt.Sprintf("pcr%d", i)] = fmt.Sprintf("%x", v)
	}
	for _, c := range []struct {
		name string
		list []string
	}{{"pcr0", policy.PCR0}, {"pcr2", policy.PCR2}} {
		if x := a.expect(BadMeasurement, slices.Contains(c.list, p.registers[c.name]), c.name+" "+short(c.list), c.name+" "+orNone(p.registers[c.name]), "policy"); x != nil {
			return nil, x
		}
	}
	// A host can add to the command line and hand over credentials without moving PCR 4 or 11.
	zero := strings.Repeat("0", 64)
	for _, name := range []string{"pcr12", "pcr13"} {
		if x := a.expect(BadMeasurement, p.registers[name] == zero, name+" "+zero, name+" "+orNone(p.registers[name]), "tally"); x != nil {
			return nil, x
		}
	}
	return p, nil
}

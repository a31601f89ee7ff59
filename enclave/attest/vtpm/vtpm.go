// Package vtpm is the attester of machines with a TPM 2.0: one that no vendor answers for, whose quotes show how the
// machine booted to those who trust its host (the host can forge this, and clients say so on every line), or that of an
// Azure confidential VM, whose key is named in a report of the processor.
package vtpm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave/appraise/tpm"
)

// Platform is the name of this kind of evidence.
const Platform = "vtpm-unendorsed"

// An Attester holds a TPM and a key in it that signs nothing but what the TPM says itself. It may be used
// from several goroutines; the TPM takes one command at a time.
type Attester struct {
	mu  sync.Mutex
	tpm transport.TPM
	key tpm2.NamedHandle
	pub []byte // TPMT_PUBLIC

	platform     string
	endorsements []byte
	kept         bool // the key is not ours: it stays in the TPM
}

// New makes an attestation key in t: a primary key of the owner's hierarchy, by template. It is made anew
// at each start and never stored.
func New(t transport.TPM) (*Attester, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template())}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("vtpm: attestation key: %w", err)
	}
	return &Attester{tpm: t, key: tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, pub: rsp.OutPublic.Bytes(), platform: Platform}, nil
}

// template is what the key is made by; package tpm accepts no other kind.
func template() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
	}
}

// Close forgets the key, if New made it.
func (a *Attester) Close() error {
	if a.kept {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := tpm2.FlushContext{FlushHandle: a.key.Handle}.Execute(a.tpm)
	return err
}

// Platform returns "vtpm-unendorsed" or, of NewAzure's, "vtpm-azure", or of an SVSM "vtpm-svsm".
func (a *Attester) Platform() string { return a.platform }

// tries is how often a quote is asked for whose PCRs were extended while they were read.
const tries = 5

// Attest returns a quote over the SHA-256 PCRs that tpm.PCRs lists, in the form of package tpm, and what stands behind its
// key: nothing, or what package hcl describes.
func (a *Attester) Attest(ctx context.Context, reportData [64]byte) (report, endorsements []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range tries {
		if err := ctx.Err(); err != nil {
			return nil, nil, context.Cause(ctx)
		}
		if report, err = a.quote(reportData); err != nil {
			return nil, nil, fmt.Errorf("vtpm: %w", err)
		}
		if _, err = tpm.Verify(report); err == nil {
			return report, a.endorsements, nil
		}
	}
	return nil, nil, fmt.Errorf("vtpm: the TPM's own quote is not accepted: %w", err)
}

func (a *Attester) quote(reportData [64]byte) ([]byte, error) {
	pcrs, err := a.read()
	if err != nil {
		return nil, err
	}
	q, err := tpm2.Quote{SignHandle: tpm2.AuthHandle{Handle: a.key.Handle, Name: a.key.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: tpm.Qualifying(reportData)}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: selection(tpm.PCRs())}.Execute(a.tpm)
	if err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	return tpm.Marshal(q.Quoted.Bytes(), tpm2.Marshal(q.Signature), a.pub, pcrs)
}

// read reads the PCRs; a TPM answers with as many at a time as it likes.
func (a *Attester) read() (map[uint][32]byte, error) {
	out, left := map[uint][32]byte{}, tpm.PCRs()
	for len(left) > 0 {
		ask := left[:min(8, len(left))]
		rsp, err := tpm2.PCRRead{PCRSelectionIn: selection(ask)}.Execute(a.tpm)
		if err != nil {
			return nil, fmt.Errorf("PCRs: %w", err)
		}
		if len(rsp.PCRValues.Digests) != len(ask) {
			return nil, fmt.Errorf("PCRs: %d values, want %d of the bank SHA-256", len(rsp.PCRValues.Digests), len(ask))
		}
		for i, d := range rsp.PCRValues.Digests {
			if len(d.Buffer) != 32 {
				return nil, errors.New("PCRs: a value that is not of SHA-256")
			}
			out[ask[i]] = [32]byte(d.Buffer)
		}
		left = left[len(ask):]
	}
	return out, nil
}

func selection(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

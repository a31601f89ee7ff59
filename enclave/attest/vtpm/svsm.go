package vtpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave/appraise/svsm"
	"tally/enclave/appraise/tpm"
	"tally/enclave/attest/snp"
	"tally/enclave/attest/tsm"
)

// SVSMPlatform is the name of the evidence of a TPM that an SVSM keeps.
const SVSMPlatform = "vtpm-svsm"

// An SVSM is an Attester that shows clients that its key is the TPM's.
type SVSM struct {
	*Attester
	ek tpm2.NamedHandle

	turn chan struct{} // one challenge at a time: many must not come between the TPM and a report
}

// NewSVSM makes an attestation key in t, finds the endorsement key there, and has the SVSM beneath this guest vouch for
// that, through client (linuxtsm.MakeClient in a guest).
func NewSVSM(ctx context.Context, t transport.TPM, client configfsi.Client) (*SVSM, error) {
	a, err := New(t)
	if err != nil {
		return nil, err
	}
	s := &SVSM{Attester: a, turn: make(chan struct{}, 1)}
	if err := s.endorse(ctx, client); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	a.platform = SVSMPlatform
	return s, nil
}

// endorse makes the endorsement key, which is the same each time (TCG EK Credential Profile, template L-1), and gets the report
// about it.
func (s *SVSM) endorse(ctx context.Context, client configfsi.Client) error {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(s.tpm)
	if err != nil {
		return fmt.Errorf("vtpm: endorsement key: %w", err)
	}
	s.ek = tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}
	nonce, err := svsm.Nonce(fmt.Sprintf("%x", s.key.Name.Buffer))
	if err != nil {
		return fmt.Errorf("vtpm: %w", err)
	}
	service := tsm.Service{Provider: svsm.Provider, GUID: svsm.ServiceTPM, ManifestVersion: svsm.ManifestVersion}
	report, manifest, certificates, err := tsm.New(client, snp.Provider, true).GetService(ctx, service, nonce)
	if err != nil {
		return fmt.Errorf("vtpm: %w", err)
	}
	if !bytes.Equal(manifest, rsp.OutPublic.Bytes()) {
		return errors.New("vtpm: the SVSM vouches for another endorsement key than this TPM's")
	}
	if s.endorsements, err = svsm.Endorsements(&svsm.Report{SNP: report, Manifest: manifest}, certificates); err != nil {
		return fmt.Errorf("vtpm: %w", err)
	}
	return nil
}

// Activate has the TPM open a challenge (tpm.Challenge): it does that only for the key that Attest signs with.
func (s *SVSM) Activate(ctx context.Context, challenge []byte) ([]byte, error) {
	id, encrypted, err := tpm.SplitChallenge(challenge)
	if err != nil {
		return nil, fmt.Errorf("vtpm: %w", err)
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rsp, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: s.key.Handle, Name: s.key.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: s.ek.Handle, Name: s.ek.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, byEndorsement)},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: id},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
	}.Execute(s.tpm)
	if err != nil {
		return nil, fmt.Errorf("vtpm: challenge: %w", err)
	}
	return rsp.CertInfo.Buffer, nil
}

// byEndorsement is the policy of the template (PolicyA): whoever may use the endorsement hierarchy, whose authorization is empty.
func byEndorsement(t transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: session, NonceTPM: nonce}.Execute(t)
	return err
}

// Close forgets both keys.
func (s *SVSM) Close() error {
	err := s.Attester.Close()
	if s.ek.Handle == 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ekErr := tpm2.FlushContext{FlushHandle: s.ek.Handle}.Execute(s.tpm)
	return errors.Join(err, ekErr)
}

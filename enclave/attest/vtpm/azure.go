package vtpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave/appraise/hcl"
	"tally/enclave/appraise/tpm"
)

// AzurePlatform is the name of the evidence of an Azure confidential VM's TPM.
const AzurePlatform = "vtpm-azure"

// Where Azure keeps things in the TPM of a confidential VM ("Confidential VM guest attestation design", Microsoft).
const (
	azureReport = tpm2.TPMHandle(0x01400001) // NV index of the paravisor's report
	azureKey    = tpm2.TPMHandle(0x81000003) // the attestation key that it names
)

// ErrNotAzure means that the TPM has no paravisor's report.
var ErrNotAzure = errors.New("vtpm: not the TPM of an Azure confidential VM")

// NewAzure takes the attestation key that Azure's paravisor has put into t. certificates are those of AMD's key, in
// the form that platform snp has; nil where clients have them.
func NewAzure(t transport.TPM, certificates []byte) (*Attester, error) {
	raw, err := readNV(t, azureReport)
	if err != nil {
		return nil, err
	}
	report, err := hcl.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("vtpm: %w", err)
	}
	endorsements, err := hcl.Endorsements(report, certificates)
	if err != nil {
		return nil, fmt.Errorf("vtpm: %w", err)
	}
	rsp, err := tpm2.ReadPublic{ObjectHandle: azureKey}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("vtpm: attestation key %#x: %w", uint32(azureKey), err)
	}
	pub := rsp.OutPublic.Bytes()
	if err := tpm.IsKey(pub, report.Key); err != nil {
		return nil, fmt.Errorf("vtpm: attestation key %#x: %w", uint32(azureKey), err)
	}
	return &Attester{tpm: t, key: tpm2.NamedHandle{Handle: azureKey, Name: rsp.Name}, pub: pub, platform: AzurePlatform, endorsements: endorsements, kept: true}, nil
}

// nvChunk is how many bytes a TPM returns at a time; all return so many.
const nvChunk = 512

// readNV reads an index with the owner's authorization, which is empty on Azure.
func readNV(t transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	pub, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	var rc tpm2.TPMRC
	switch {
	case errors.As(err, &rc) && rc.Is(tpm2.TPMRCHandle):
		return nil, ErrNotAzure
	case err != nil:
		return nil, fmt.Errorf("vtpm: NV index %#x: %w", uint32(index), err)
	}
	nv, err := pub.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("vtpm: NV index %#x: %w", uint32(index), err)
	}
	if nv.DataSize > hcl.MaxReport {
		return nil, fmt.Errorf("vtpm: NV index %#x: %d bytes, want at most %d", uint32(index), nv.DataSize, hcl.MaxReport)
	}
	var out []byte
	for len(out) < int(nv.DataSize) {
		n := min(nvChunk, int(nv.DataSize)-len(out))
		rsp, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex: tpm2.NamedHandle{Handle: index, Name: pub.NVName}, Size: uint16(n), Offset: uint16(len(out))}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("vtpm: NV index %#x: %w", uint32(index), err)
		}
		if len(rsp.Data.Buffer) != n {
			return nil, fmt.Errorf("vtpm: NV index %#x: %d bytes read, want %d", uint32(index), len(rsp.Data.Buffer), n)
		}
		out = append(out, rsp.Data.Buffer...)
	}
	return out, nil
}

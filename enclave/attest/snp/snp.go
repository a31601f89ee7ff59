// Package snp is the attester of SEV-SNP guests: reports come from the AMD secure processor through the
// kernel's configfs-tsm. The endorsements are the certificate table that the host adds, when it does; it is not
// trusted, clients follow it to AMD's root.
package snp

import (
	"context"

	"github.com/google/go-configfs-tsm/configfs/configfsi"

	"tally/enclave/attest/tsm"
)

// Platform is the name of this kind of evidence; Provider is the kernel's name of the device.
const (
	Platform = "snp"
	Provider = "sev_guest"
)

// An Attester asks the kernel. It may be used from several goroutines; requests take turns.
type Attester struct{ source *tsm.Source }

// New returns an attester over client (linuxtsm.MakeClient in a guest).
func New(client configfsi.Client) *Attester {
	return &Attester{tsm.New(client, Provider, true)}
}

// Platform returns "snp".
func (*Attester) Platform() string { return Platform }

// Attest returns a report with reportData, and the host's certificates or nothing.
func (a *Attester) Attest(ctx context.Context, reportData [64]byte) (report, endorsements []byte, err error) {
	return a.source.Get(ctx, reportData)
}

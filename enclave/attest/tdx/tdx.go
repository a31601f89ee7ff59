// Package tdx is the attester of trust domains: quotes come from the quoting enclave through the kernel's
// configfs-tsm. A quote holds its own certificates; collateral is the client's to have.
package tdx

import (
	"context"

	"github.com/google/go-configfs-tsm/configfs/configfsi"

	"tally/enclave/attest/tsm"
)

// Platform is the name of this kind of evidence; Provider is the kernel's name of the device.
const (
	Platform = "tdx"
	Provider = "tdx_guest"
)

// An Attester asks the kernel. It may be used from several goroutines; requests take turns.
type Attester struct{ source *tsm.Source }

// New returns an attester over client (linuxtsm.MakeClient in a guest).
func New(client configfsi.Client) *Attester {
	return &Attester{tsm.New(client, Provider, false)}
}

// Platform returns "tdx".
func (*Attester) Platform() string { return Platform }

// Attest returns a quote with reportData and no endorsements.
func (a *Attester) Attest(ctx context.Context, reportData [64]byte) (quote, endorsements []byte, err error) {
	return a.source.Get(ctx, reportData)
}

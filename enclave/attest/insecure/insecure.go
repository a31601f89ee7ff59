// Package insecure is the attester of machines without a TEE. Its reports are signed by nobody: the host
// can forge this. Clients refuse them unless their policy names the platform "insecure", and mark every
// line of the result.
package insecure

import "context"

// Platform is the name that a policy must spell out.
const Platform = "insecure"

// An Attester makes reports that are REPORTDATA itself, unsigned.
type Attester struct{}

// Platform returns "insecure".
func (Attester) Platform() string { return Platform }

// Attest returns the 64 bytes of reportData as the report, and no endorsements.
func (Attester) Attest(_ context.Context, reportData [64]byte) (report, endorsements []byte, err error) {
	return reportData[:], nil, nil
}

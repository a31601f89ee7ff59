// Package tally holds what `tally init` gives to a new image: the sources of the guest's two programs, as
// they are in this repository, and the files of examples/minimal. A maintainer outside a checkout then
// builds the very guest that this tally was released with, from source.
package tally

import "embed"

// Guest holds go.mod, go.sum, LICENSE and every source file that cmd/init and cmd/enclave are built from
// (and tests beside them), by their paths in the repository. A test fails when a package is missing.
//
//go:embed go.mod go.sum LICENSE
//go:embed cmd/init/*.go cmd/enclave/*.go internal/guest/*.go internal/erase/*.go
//go:embed enclave/*.go enclave/channel/*.go enclave/channel/vsock/*.go enclave/channel/ws/*.go enclave/confer/*.go enclave/confer/listen/*.go enclave/evidence/*.go enclave/infer/*.go enclave/operate/*.go enclave/secrets/*.go enclave/appraise/tpm/*.go enclave/appraise/hcl/*.go enclave/appraise/svsm/*.go
//go:embed enclave/appraise/gpu/*.go enclave/appraise/gpu/roots enclave/attest/gpu/*.go
//go:embed enclave/attest/insecure/*.go enclave/attest/snp/*.go enclave/attest/tdx/*.go enclave/attest/tsm/*.go enclave/attest/vtpm/*.go
var Guest embed.FS

// Example holds examples/minimal: image.yaml and what it names beside it.
//
//go:embed examples/minimal/image.yaml examples/minimal/rootfs examples/minimal/firmware
var Example embed.FS

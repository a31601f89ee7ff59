module tally/measure/internal/oracles

go 1.26.0

require (
	github.com/canonical/go-efilib v1.6.0
	github.com/google/gce-tcb-verifier v0.3.1
	github.com/google/go-sev-guest v0.15.0
	github.com/google/go-tdx-guest v0.3.2-0.20260305110651-91f9a52f36c7
	github.com/ulikunitz/xz v0.5.15
	github.com/virtee/sev-snp-measure-go v0.0.0-20260408174629-fd0cc4c95d62
	tally v0.0.0
)

require (
	github.com/google/logger v1.1.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	golang.org/x/crypto v0.55.0 // indirect
	golang.org/x/exp v0.0.0-20251023183803-a4bb9ffd2546 // indirect
	golang.org/x/sys v0.47.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace tally => ../../..

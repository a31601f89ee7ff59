package gpu

import (
	"errors"
	"fmt"
)

// A Reason is a stable word for why evidence is refused; scripts rely on it.
type Reason string

// The reasons. Those up to RIMExpired mean that something is not verified, the others that what is
// verified is not what the policy wants.
const (
	BadReport    Reason = "report"        // not a report in the form that this version reads
	BadChain     Reason = "chain"         // the certificates do not lead to the device root
	BadSignature Reason = "signature"     // the report is not signed by the certificate's key
	BadFWID      Reason = "fwid"          // report and certificate are of different firmware
	BadRIM       Reason = "rim"           // not a manifest in the form that this version reads
	RIMSignature Reason = "rim-signature" // the manifest is not what its signer signed
	RIMChain     Reason = "rim-chain"     // its signer does not lead to the RIM root
	RIMExpired   Reason = "rim-expired"   // its signer's certificate is not valid now and nothing pins the file
	BadOCSP      Reason = "ocsp"          // a response is missing, not signed by the issuer, or not about the certificate

	NoPolicy       Reason = "policy"       // the policy accepts nothing
	BadBinding     Reason = "binding"      // not the set of devices that the enclave's evidence binds
	BadNonce       Reason = "nonce"        // the report answers another question
	BadArch        Reason = "architecture" // not of a kind that the policy names, or not of the kind it says it is
	RIMMissing     Reason = "rim-missing"  // no manifest for what the report says it runs
	RIMUnpinned    Reason = "rim-unpinned" // a manifest that the release does not name
	RIMConflict    Reason = "rim-conflict" // two manifests claim one measurement
	BadMeasurement Reason = "measurement"  // a measurement is none of the alternatives
	Rollback       Reason = "rollback"     // driver or VBIOS below the policy's floor
	BadTopology    Reason = "topology"     // GPUs and switches are linked to others than those that gave evidence
	BadMode        Reason = "mode"         // confidential computing off, developer tools on, or another mode
	Revoked        Reason = "revoked"      // a certificate is revoked or on hold
	OCSPStale      Reason = "ocsp-stale"   // a response is older than the policy allows, or no longer valid
	NoDevices      Reason = "no-devices"   // fewer devices than the policy wants
)

// Unverified reports whether the reason is one of cryptography, not of policy.
func (r Reason) Unverified() bool {
	switch r {
	case BadReport, BadChain, BadSignature, BadFWID, BadRIM, RIMSignature, RIMChain, RIMExpired, BadOCSP:
		return true
	}
	return false
}

// An Error is a refusal.
type Error struct {
	Reason Reason
	Err    error
}

// Error returns the cause; the reason is a field of its own.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) error {
	return &Error{r, fmt.Errorf(format, args...)}
}

// reasonOf returns the reason that err carries, or the given one.
func reasonOf(err error, otherwise Reason) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return otherwise
}

// Status is the outcome of one check.
type Status string

// The outcomes.
const (
	OK         Status = "ok"
	Failed     Status = "failed"
	NotChecked Status = "not-checked"
)

// A Check is one step.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Want   string `json:"want,omitempty"`
	Got    string `json:"got,omitempty"`
	From   string `json:"from,omitempty"` // where the expectation came from
}

// A DeviceResult says what was found about one device. What stands in it beside the checks is shown by the
// checks that passed, and empty after the one that failed.
type DeviceResult struct {
	Arch      Arch    `json:"arch"`
	Chip      string  `json:"chip,omitempty"`
	ID        string  `json:"id,omitempty"` // serial number of the leaf's subject
	Driver    string  `json:"driver,omitempty"`
	VBIOS     string  `json:"vbios,omitempty"`
	Mode      Mode    `json:"mode,omitempty"`
	Measured  int     `json:"measured"`  // measurements that are as a manifest says
	Passed    int     `json:"passed"`    // passed over: NVDEC0 is disabled
	Uncovered int     `json:"uncovered"` // that no manifest says anything about
	Reason    Reason  `json:"reason,omitempty"`
	Checks    []Check `json:"checks"`

	key  string
	err  error
	pdi  pdi
	sees map[pdi]bool
}

// A Result says what was found.
type Result struct {
	Accepted bool           `json:"accepted"`
	Reason   Reason         `json:"reason,omitempty"`
	Checks   []Check        `json:"checks"` // of all devices together
	Devices  []DeviceResult `json:"devices"`
}

func newResult() *Result { return &Result{Checks: []Check{}, Devices: []DeviceResult{}} }

func (r *Result) refused(err error) (*Result, error) {
	r.Reason = reasonOf(err, BadReport)
	return r, err
}

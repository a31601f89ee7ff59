package appraise

import (
	"fmt"
)

// A Reason is a stable word for why evidence is refused; scripts rely on it.
type Reason string

// The reasons.
const (
	PolicyEmpty    Reason = "policy"      // the policy accepts no evidence at all
	BadEvidence    Reason = "evidence"    // not a document in the form that this version reads
	BadPlatform    Reason = "platform"    // the policy does not name the platform
	BadKey         Reason = "key"         // the evidence is for another key than the channel's
	BadAuthority   Reason = "authority"   // the evidence is for another service
	BadReportData  Reason = "report-data" // the report is not about these claims
	BadMeasurement Reason = "measurement" // there is nothing to compare with, or it differs
	Unsupported    Reason = "unsupported" // this version cannot verify it, so it is refused

	BadSignature     Reason = "signature"     // not signed by the vendor's hardware, or not so that it can be verified
	BadRevocation    Reason = "revocation"    // revoked, or nobody can tell
	BadTCB           Reason = "tcb"           // firmware or module below the floor, or not up to date
	BadGuestPolicy   Reason = "guest-policy"  // debugging, migration, or other properties that the policy does not allow
	BadVMPL          Reason = "vmpl"          // reported from another privilege level
	BadAliasCheck    Reason = "alias-check"   // memory was not checked for aliases
	BadMachine       Reason = "machine"       // not one of the machines allowed
	BadConfiguration Reason = "configuration" // the host handed the guest something past its measurement
	BadFreshness     Reason = "freshness"     // nothing shows that the evidence is new
	BadGPU           Reason = "gpu"           // GPUs that the policy does not accept, or none where it wants some
)

// Status is the outcome of one check.
type Status string

// The outcomes. A Result holds at most one Failed check, the last one made.
const (
	OK         Status = "ok"
	Failed     Status = "failed"
	NotChecked Status = "not-checked"
)

// A Check is one step of an appraisal.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Want   string `json:"want,omitempty"`
	Got    string `json:"got,omitempty"`
	From   string `json:"from,omitempty"` // where the expectation came from
	Note   string `json:"note,omitempty"` // Note of the platform
}

// A Result says what was found, step by step.
type Result struct {
	Accepted bool    `json:"accepted"`
	Reason   Reason  `json:"reason,omitempty"` // of a refusal
	Platform string  `json:"platform,omitempty"`
	Insecure bool    `json:"insecure"` // nothing that the host cannot forge signed the evidence
	Checks   []Check `json:"checks"`
}

// An Error is a refusal. It carries the Result up to the check that failed.
type Error struct {
	Result *Result
	Err    error
}

// Error says the reason, and that the host can forge the evidence where it can.
func (e *Error) Error() string {
	s := "appraisal: " + string(e.Result.Reason) + ": " + e.Err.Error()
	if e.Result.Insecure {
		s += " (" + Note(e.Result.Platform) + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A refusal is a check that failed.
type refusal struct {
	reason          Reason
	want, got, from string
}

func (r *refusal) Error() string {
	if r.want == "" {
		return r.got
	}
	return fmt.Sprintf("%s, want %s (from the %s)", r.got, r.want, r.from)
}

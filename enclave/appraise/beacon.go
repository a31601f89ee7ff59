package appraise

import (
	"time"
)

// Beacons says which beacons show that a key is new. A beacon is a checkpoint of a transparency log with the
// cosignatures of its witnesses; it stands in the key evidence, and the hardware's report is about it, so that
// the key was not there before the witnesses had cosigned.
type Beacons struct {
	// Dates verifies a beacon and returns the time at which it did not exist yet, by the word of so many
	// witnesses as the policy wants.
	Dates BeaconDates

	// MaxAge is how long ago that may be, at most.
	MaxAge time.Duration
}

// BeaconDates is what a policy knows of a log and its witnesses.
type BeaconDates interface {
	// Cosigned verifies the log's signature on a checkpoint and the cosignatures, all of which is foreign
	// text, and returns the time since which the quorum is met.
	Cosigned(checkpoint []byte) (time.Time, error)

	// String names the log and the quorum.
	String() string
}

// skew is how far clocks of witnesses may be ahead of ours.
const skew = 5 * time.Minute

// beacon wants the key to be no older than a checkpoint that is not old.
func (a *appraisal) beacon() *refusal {
	b := a.policy.Beacons
	want := "a checkpoint of " + b.Dates.String() + ", cosigned at most " + b.MaxAge.String() + " ago"
	refuse := func(got string) *refusal { return &refusal{BadFreshness, want, got, "policy"} }
	note := a.doc.Claims.Beacon
	if len(note) == 0 {
		return refuse("no beacon in the key evidence")
	}
	at, err := b.Dates.Cosigned(note)
	if err != nil {
		return refuse(err.Error())
	}
	when, age := "cosigned "+at.UTC().Format(time.RFC3339), a.in.Now.Sub(at)
	switch {
	case age < -skew:
		return refuse(when + ", which is not yet")
	case age > b.MaxAge:
		return refuse(when + ", " + age.Truncate(time.Second).String() + " ago")
	}
	a.ok("freshness", want, when+": the key is no older than that", "policy")
	return nil
}

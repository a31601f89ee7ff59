package policy

import (
	"time"

	"tally/enclave/appraise"
	"tally/release"
)

// dates are the log and the witnesses of the release part, which date an enclave's key as they vouch for its
// release.
type dates struct {
	key    release.LogKey
	quorum release.Quorum
}

// Cosigned implements appraise.BeaconDates.
func (d dates) Cosigned(checkpoint []byte) (time.Time, error) {
	if _, err := d.key.OpenCheckpoint(checkpoint); err != nil {
		return time.Time{}, err
	}
	return d.quorum.Met(checkpoint)
}

// String names the log and who must have cosigned.
func (d dates) String() string { return d.key.Origin() + " (" + d.quorum.String() + ")" }

// beacons reads what freshness: key needs.
func (r *reader) beacons(y *evidenceYAML, log *release.LogPolicy, path string) *appraise.Beacons {
	if y.Freshness != string(appraise.FreshKey) {
		if y.MaxAge != "" {
			r.fail(path+".freshness-max-age", "freshness-max-age: stands here without \"freshness: key\"")
		}
		return nil
	}
	b := &appraise.Beacons{Dates: dates{log.Key, log.Quorum}}
	var err error
	if b.MaxAge, err = time.ParseDuration(y.MaxAge); err != nil || b.MaxAge <= 0 {
		r.fail(path+".freshness", "freshness-max-age %.64q: want a time such as \"36h\" with freshness: key", y.MaxAge)
	}
	if log.Quorum.IsZero() { // so it is, too, where no log is named
		r.fail(path+".freshness", "freshness key: want release.log with a witness-policy: its witnesses say how old a key may be")
	}
	return b
}

package rebuild

import (
	"errors"
	"fmt"

	"tally/mkimage"
	"tally/release"
)

// An Attestation says where a rebuild statement went.
type Attestation struct {
	Result  string         `json:"result"`           // reproduced or differs
	Bundle  string         `json:"bundle,omitempty"` // file
	Payload release.Digest `json:"payload_sha256"`
	KeyID   release.Digest `json:"key_id"`

	Identity *release.Certified `json:"identity,omitempty"` // of a certificate
	Log      string             `json:"log,omitempty"`      // origin; empty: not logged
	Index    *int64             `json:"log_index,omitempty"`
	Referrer string             `json:"referrer,omitempty"` // HOST/PATH@sha256:… in a registry
}

// Statement says that the release s, whose payload has that digest, was rebuilt with the result r. The manifest is
// that of the rebuild; index holds the inputs of it whose chain to a signed index was checked in this run, by kind,
// name and version (see Key): for the others only their hash speaks.
func Statement(s *release.Statement, payload release.Digest, r *Report, m *mkimage.Manifest, index map[string]bool, tally release.TallyBuild) (*release.Rebuild, error) {
	rel := s.Predicate.Release
	p := release.RebuildPredicate{
		Release: release.RebuiltRelease{Statement: payload, Name: rel.Name, Version: rel.Version, Sequence: rel.Sequence},
		Result:  release.Differs, Tally: tally, Checked: []release.CheckedInput{},
		Inputs: release.Inputs{Spec: release.Digest(m.Spec.SHA256), Lock: release.Digest(m.Lock.SHA256), Sources: release.Digest(m.Sources.SHA256)},
	}
	for _, in := range m.Inputs {
		c := release.CheckedInput{Kind: in.Kind, Name: in.Name, Version: in.Version, SHA256: release.Digest(in.SHA256), Verified: "hash"}
		if index[Key(in)] {
			c.Verified = "index"
		}
		p.Checked = append(p.Checked, c)
	}
	if r.Reproduced {
		p.Result = release.Reproduced
	}
	for _, row := range r.Subjects {
		d := release.Difference{Name: row.Name, Status: string(row.Status)}
		var err error
		if row.Status == Match {
			continue
		}
		if d.Want, err = optional(row.Want); err == nil {
			d.Got, err = optional(row.Got)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", row.Name, err)
		}
		p.Differences = append(p.Differences, d)
	}
	b := &release.Rebuild{Type: release.StatementType, Subject: s.Subject, PredicateType: release.RebuildType, Predicate: p}
	if r.Reproduced && p.Inputs != s.Predicate.Inputs {
		return nil, errors.New("rebuild statement: the same files from other inputs than the release's")
	}
	if r.Reproduced {
		if err := s.CheckWires(Wires(m)); err != nil {
			return nil, fmt.Errorf("rebuild statement: %w", err)
		}
	}
	_, err := b.Marshal()
	return b, err
}

// Wires are the protocols beside tally/1 that a manifest's configuration asks for.
func Wires(m *mkimage.Manifest) []string {
	if m.Config == nil {
		return nil
	}
	return m.Config.Wires
}

// Key names an input.
func Key(in mkimage.Input) string { return in.Kind + "\x00" + in.Name + "\x00" + in.Version }

func optional(s string) (*release.Digest, error) {
	if s == "" {
		return nil, nil
	}
	d, err := release.ParseDigest(s)
	return &d, err
}

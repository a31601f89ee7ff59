package release

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// The JSON form, field by field in protobuf's names. Fields of other modes (certificate chains, inclusion
// promises) are not known here and so refused.
type bundleJSON struct {
	MediaType            string       `json:"mediaType"`
	VerificationMaterial materialJSON `json:"verificationMaterial"`
	DSSEEnvelope         envelopeJSON `json:"dsseEnvelope"`
}

type materialJSON struct {
	PublicKey   *hintJSON       `json:"publicKey,omitempty"`
	Certificate *rawJSON        `json:"certificate,omitempty"`
	TlogEntries []entryJSON     `json:"tlogEntries,omitempty"`
	Timestamps  *timestampsJSON `json:"timestampVerificationData,omitempty"`
}

type rawJSON struct {
	RawBytes base64Bytes `json:"rawBytes"`
}

type timestampsJSON struct {
	RFC3161 []timestampJSON `json:"rfc3161Timestamps"`
}

type timestampJSON struct {
	Signed base64Bytes `json:"signedTimestamp"`
}

type hintJSON struct {
	Hint string `json:"hint"`
}

type entryJSON struct {
	LogIndex          decimal     `json:"logIndex"`
	LogID             logIDJSON   `json:"logId"`
	KindVersion       kindVersion `json:"kindVersion"`
	InclusionProof    proofJSON   `json:"inclusionProof"`
	CanonicalizedBody base64Bytes `json:"canonicalizedBody"`
}

type logIDJSON struct {
	KeyID base64Bytes `json:"keyId"`
}

type kindVersion struct {
	Kind    string `json:"kind"`
	Version string `json:"version"`
}

type proofJSON struct {
	LogIndex   decimal        `json:"logIndex"`
	RootHash   base64Bytes    `json:"rootHash"`
	TreeSize   decimal        `json:"treeSize"`
	Hashes     []base64Bytes  `json:"hashes"`
	Checkpoint checkpointJSON `json:"checkpoint"`
}

type checkpointJSON struct {
	Envelope string `json:"envelope"`
}

type envelopeJSON struct {
	Payload     base64Bytes     `json:"payload"`
	PayloadType string          `json:"payloadType"`
	Signatures  []signatureJSON `json:"signatures"`
}

// A signature has no keyid: stock cosign refuses one that repeats the hint.
type signatureJSON struct {
	Sig base64Bytes `json:"sig"`
}

func (j *bundleJSON) bundle() (*Bundle, error) {
	env := &j.DSSEEnvelope
	switch {
	case j.MediaType != MediaType:
		return nil, fmt.Errorf("mediaType %.80q, want %q", j.MediaType, MediaType)
	case env.PayloadType != PayloadType:
		return nil, fmt.Errorf("dsseEnvelope.payloadType %.80q, want %q", env.PayloadType, PayloadType)
	case len(env.Signatures) != 1:
		return nil, fmt.Errorf("dsseEnvelope has %d signatures, want 1", len(env.Signatures))
	case len(env.Payload) == 0 || len(env.Payload) > MaxStatement:
		return nil, fmt.Errorf("dsseEnvelope.payload has %d bytes, want 1 to %d", len(env.Payload), MaxStatement)
	case len(env.Signatures[0].Sig) == 0 || len(env.Signatures[0].Sig) > maxSignature:
		return nil, fmt.Errorf("dsseEnvelope signature has %d bytes, want 1 to %d", len(env.Signatures[0].Sig), maxSignature)
	case len(j.VerificationMaterial.TlogEntries) > maxEntries:
		return nil, fmt.Errorf("%d log entries, want at most %d", len(j.VerificationMaterial.TlogEntries), maxEntries)
	}
	b := &Bundle{Envelope: Envelope{env.Payload, env.Signatures[0].Sig}}
	if err := j.VerificationMaterial.signer(b); err != nil {
		return nil, err
	}
	for i := range j.VerificationMaterial.TlogEntries {
		e, err := j.VerificationMaterial.TlogEntries[i].entry()
		switch {
		case err != nil:
			return nil, err
		case b.EntryIn(e.LogID) != nil:
			return nil, fmt.Errorf("two entries in log %x", e.LogID)
		case i == 0:
			b.Entry = e
		default:
			b.Others = append(b.Others, e)
		}
	}
	return b, nil
}

// signer fills in who signed: a key's name, or a certificate with timestamps.
func (j *materialJSON) signer(b *Bundle) error {
	if (j.PublicKey == nil) == (j.Certificate == nil) {
		return errors.New("verificationMaterial: want either a publicKey or a certificate")
	}
	if j.PublicKey != nil {
		b.Hint = j.PublicKey.Hint
		if id, err := base64.StdEncoding.Strict().DecodeString(b.Hint); err != nil || len(id) != 32 || len(b.Hint) != 44 {
			return fmt.Errorf("publicKey.hint %.80q: want a SHA-256 in base64", b.Hint)
		}
		if j.Timestamps != nil {
			return errors.New("timestampVerificationData beside a publicKey: nothing would check it")
		}
		return nil
	}
	b.Certificate = j.Certificate.RawBytes
	if len(b.Certificate) == 0 || len(b.Certificate) > maxCert {
		return fmt.Errorf("certificate has %d bytes, want 1 to %d", len(b.Certificate), maxCert)
	}
	if j.Timestamps == nil || len(j.Timestamps.RFC3161) == 0 || len(j.Timestamps.RFC3161) > maxTimestamps {
		return fmt.Errorf("timestampVerificationData: want 1 to %d timestamps beside a certificate", maxTimestamps)
	}
	for _, t := range j.Timestamps.RFC3161 {
		if len(t.Signed) == 0 || len(t.Signed) > maxTimestamp {
			return fmt.Errorf("timestamp has %d bytes, want 1 to %d", len(t.Signed), maxTimestamp)
		}
		b.Timestamps = append(b.Timestamps, t.Signed)
	}
	return nil
}

func (j *entryJSON) entry() (*Entry, error) {
	p := &j.InclusionProof
	switch {
	case j.KindVersion != leafKind:
		return nil, fmt.Errorf("log entry is a %.32q %.32q, want %q %q", j.KindVersion.Kind, j.KindVersion.Version, leafKind.Kind, leafKind.Version)
	case p.LogIndex != j.LogIndex:
		return nil, errors.New("log entry and inclusion proof have different indexes")
	case p.TreeSize <= p.LogIndex:
		return nil, fmt.Errorf("inclusion proof: index %d in a tree of %d", p.LogIndex, p.TreeSize)
	case len(p.Hashes) > maxProof:
		return nil, fmt.Errorf("inclusion proof has %d hashes, want at most %d", len(p.Hashes), maxProof)
	case len(p.Checkpoint.Envelope) > maxCheckpoint:
		return nil, fmt.Errorf("checkpoint has %d bytes, want at most %d", len(p.Checkpoint.Envelope), maxCheckpoint)
	case len(p.RootHash) != 32 || len(j.LogID.KeyID) != 32:
		return nil, errors.New("inclusion proof: rootHash and logId want 32 bytes each")
	}
	e := &Entry{
		LogID: [32]byte(j.LogID.KeyID), Index: int64(j.LogIndex), TreeSize: int64(p.TreeSize), RootHash: [32]byte(p.RootHash),
		Checkpoint: p.Checkpoint.Envelope, Body: j.CanonicalizedBody,
	}
	for i, h := range p.Hashes {
		if len(h) != 32 {
			return nil, fmt.Errorf("inclusion proof: hash %d has %d bytes, want 32", i, len(h))
		}
		e.Proof = append(e.Proof, [32]byte(h))
	}
	return e, nil
}

// Marshal returns the bundle as compact JSON with a trailing newline.
func (b *Bundle) Marshal() ([]byte, error) {
	j := bundleJSON{MediaType: MediaType, DSSEEnvelope: envelopeJSON{
		Payload: b.Envelope.Payload, PayloadType: PayloadType, Signatures: []signatureJSON{{b.Envelope.Signature}},
	}}
	if m := &j.VerificationMaterial; b.Certificate == nil {
		m.PublicKey = &hintJSON{b.Hint}
	} else {
		m.Certificate, m.Timestamps = &rawJSON{b.Certificate}, &timestampsJSON{}
		for _, t := range b.Timestamps {
			m.Timestamps.RFC3161 = append(m.Timestamps.RFC3161, timestampJSON{t})
		}
	}
	for _, e := range b.entries() {
		p := proofJSON{
			LogIndex: decimal(e.Index), RootHash: e.RootHash[:], TreeSize: decimal(e.TreeSize), Hashes: []base64Bytes{},
			Checkpoint: checkpointJSON{e.Checkpoint},
		}
		for _, h := range e.Proof {
			p.Hashes = append(p.Hashes, h[:])
		}
		j.VerificationMaterial.TlogEntries = append(j.VerificationMaterial.TlogEntries, entryJSON{
			LogIndex: decimal(e.Index), LogID: logIDJSON{e.LogID[:]}, KindVersion: leafKind, InclusionProof: p, CanonicalizedBody: e.Body,
		})
	}
	out, err := marshalCompact(j)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	out = append(out, '\n')
	if _, err := ParseBundle(out); err != nil {
		return nil, err // never write what we would not read
	}
	return out, nil
}

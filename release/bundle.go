package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	// MediaType is the one bundle version this package reads and writes
	// (github.com/sigstore/protobuf-specs, protos/sigstore_bundle.proto).
	MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

	// MaxBundle is the size in bytes above which a bundle is refused unread: a statement in base64
	// with its proof.
	MaxBundle = MaxStatement/3*4 + 256<<10

	maxEntries    = 4        // logs
	maxProof      = 64       // hashes: a tree of 2^63 leaves needs no more
	maxCheckpoint = 64 << 10 // bytes, room for many cosignatures
	maxSignature  = 128      // bytes; P-256 in DER has at most 72
	maxCert       = 16 << 10 // bytes
	maxTimestamps = 4
	maxTimestamp  = 16 << 10 // bytes each
)

// A Bundle is a DSSE envelope with what is needed to verify it, decoded but not verified. It is signed either by
// a key, which Hint names, or by the key of a certificate.
type Bundle struct {
	Envelope    Envelope
	Hint        string   // names the signing key; see PublicKey.Hint
	Certificate []byte   // DER; nil: a key
	Timestamps  [][]byte // RFC 3161 responses about the signature; beside a certificate only
	Entry       *Entry   // nil until the bundle is logged

	// Others are entries in further logs, such as Rekor, for who looks there. Each entry is in another log.
	Others []*Entry
}

// EntryIn is the entry in the log with that identity (see LogKey.ID), or nil.
func (b *Bundle) EntryIn(id [32]byte) *Entry {
	for _, e := range b.entries() {
		if e.LogID == id {
			return e
		}
	}
	return nil
}

func (b *Bundle) entries() []*Entry {
	if b.Entry == nil {
		return b.Others
	}
	return append([]*Entry{b.Entry}, b.Others...)
}

// An Envelope is a DSSE envelope (github.com/secure-systems-lab/dsse) of PayloadType with its one signature.
type Envelope struct {
	Payload   []byte
	Signature []byte // ASN.1 DER
}

// PAE returns the pre-authentication encoding, the bytes that are signed (DSSE protocol.md).
func (e *Envelope) PAE() []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(PayloadType), PayloadType, len(e.Payload), e.Payload)
}

// An Entry proves that a leaf is in a log.
type Entry struct {
	LogID      [32]byte // see LogKey.ID
	Index      int64    // of the leaf, from 0
	TreeSize   int64
	RootHash   [32]byte
	Proof      [][32]byte // inclusion proof, RFC 6962 order
	Checkpoint string     // signed note (C2SP tlog-checkpoint), with its cosignatures
	Body       []byte     // the leaf; a verifier rebuilds it and compares
}

// MaxFile is the size in bytes of a release's bundle with what stands after it.
const MaxFile = MaxBundle + 24<<20

// maxParts bounds how many bundles one file has: the release's, the channel statement's, revocations and rebuilds.
const maxParts = 64

// MaxChannelBundle is what the bundle of a channel statement may have.
const MaxChannelBundle = MaxChannel/3*4 + 256<<10

// Split takes a file apart into its bundles: the release's and, after it, in any order, those of the channel
// statement, of revocations and of rebuilds. White space between them carries no meaning.
func Split(data []byte) ([][]byte, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("bundle: %d bytes, want at most %d", len(data), MaxFile)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	var parts [][]byte
	for {
		var part json.RawMessage
		err := dec.Decode(&part)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		parts = append(parts, part)
		if len(parts) > maxParts {
			return nil, fmt.Errorf("bundle: more than %d bundles in one file", maxParts)
		}
	}
	if len(parts) == 0 {
		return nil, errors.New("bundle: the file is empty")
	}
	return parts, nil
}

// ParseBundle decodes a bundle and checks its shape; it proves nothing.
func ParseBundle(data []byte) (*Bundle, error) {
	if len(data) > MaxBundle {
		return nil, fmt.Errorf("bundle: %d bytes, want at most %d", len(data), MaxBundle)
	}
	var j bundleJSON
	if err := unmarshalStrict(data, &j); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b, err := j.bundle()
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}

// ParseEntry reads one log entry in the form in which it stands in a bundle and in which Rekor v2 answers, where
// fields that a bundle does not have are left aside. It proves nothing; see Entry.Check.
func ParseEntry(data []byte) (*Entry, error) {
	if len(data) > MaxBundle {
		return nil, fmt.Errorf("log entry: %d bytes, want at most %d", len(data), MaxBundle)
	}
	var j entryJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("log entry: %w", err)
	}
	return j.entry()
}

package release

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// algCosignature is the signature type of an Ed25519 cosignature (C2SP tlog-cosignature).
const algCosignature = 0x04

// timestampedSize is the length of a cosignature: a time and an Ed25519 signature.
const timestampedSize = 8 + ed25519.SignatureSize

// A WitnessKey is the Ed25519 key with which a witness cosigns checkpoints.
type WitnessKey struct {
	name string
	hash uint32
	pub  ed25519.PublicKey
}

// ParseWitnessKey reads a verifier key "NAME+HASH+BASE64" (C2SP signed-note) of type 4, an Ed25519 cosigner.
func ParseWitnessKey(vkey string) (WitnessKey, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, b64, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != algCosignature {
		return WitnessKey{}, fmt.Errorf("witness key %.128q: want NAME+HASH+KEY with an Ed25519 cosigner's key (type 4)", vkey)
	}
	k, err := NewWitnessKey(name, raw[1:])
	if err != nil {
		return WitnessKey{}, err
	}
	if form := k.String(); form != vkey {
		return WitnessKey{}, fmt.Errorf("witness key %.128q: its hash is %08x, its one form %s", vkey, k.hash, form)
	}
	return k, nil
}

// NewWitnessKey names a key: pub are its 32 bytes.
func NewWitnessKey(name string, pub ed25519.PublicKey) (WitnessKey, error) {
	if name == "" || len(name) > 253 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '+' }) {
		return WitnessKey{}, fmt.Errorf("witness name %.80q: want 1 to 253 printable characters without space and +", name)
	}
	if len(pub) != ed25519.PublicKeySize {
		return WitnessKey{}, fmt.Errorf("witness key: %d bytes, want %d", len(pub), ed25519.PublicKeySize)
	}
	id := sha256.Sum256(append([]byte(name+"\n\x04"), pub...))
	return WitnessKey{name, binary.BigEndian.Uint32(id[:]), slices.Clone(pub)}, nil
}

// Name is the witness's name, which stands on its signature lines.
func (k WitnessKey) Name() string { return k.name }

// String returns the verifier key.
func (k WitnessKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.hash, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, k.pub...)))
}

// Cosign returns the signature line of a cosignature on the text of a checkpoint at the time now.
func (k WitnessKey) Cosign(text []byte, private ed25519.PrivateKey, now time.Time) (string, error) {
	if !k.pub.Equal(private.Public()) {
		return "", errors.New("cosignature: the private key is not the witness's")
	}
	if now.Unix() <= 0 {
		return "", fmt.Errorf("cosignature: time %s: want one after 1970", now)
	}
	raw := binary.BigEndian.AppendUint32(nil, k.hash)
	raw = binary.BigEndian.AppendUint64(raw, uint64(now.Unix()))
	raw = append(raw, ed25519.Sign(private, cosigned(text, uint64(now.Unix())))...)
	return "— " + k.name + " " + base64.StdEncoding.EncodeToString(raw) + "\n", nil
}

// cosigned is the message under an Ed25519 cosignature.
func cosigned(text []byte, t uint64) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(t, 10)+"\n"), text...)
}

// find looks for the witness's cosignature among the lines of a note. A line under its name and hash that
// does not verify makes the whole note malformed (C2SP signed-note).
func (k WitnessKey) find(text string, sigs []note.Signature) (at time.Time, found bool, err error) {
	for _, s := range sigs {
		if s.Name != k.name || s.Hash != k.hash {
			continue
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		if err != nil || len(raw) != 4+timestampedSize {
			return at, false, fmt.Errorf("cosignature of %q: want %d bytes in base64", k.name, 4+timestampedSize)
		}
		t := binary.BigEndian.Uint64(raw[4:])
		if t == 0 || t > math.MaxInt64 || !ed25519.Verify(k.pub, cosigned([]byte(text), t), raw[12:]) {
			return at, false, fmt.Errorf("cosignature of %q does not verify", k.name)
		}
		if got := time.Unix(int64(t), 0); !found || got.After(at) {
			at, found = got, true
		}
	}
	return at, found, nil
}

// A Quorum is a rule about who must have cosigned: a witness, or a group of which some must have. The zero
// Quorum is met by nobody.
type Quorum struct {
	witness *WitnessKey
	members []Quorum
	need    int // of the members
}

// IsZero says that q is no rule.
func (q Quorum) IsZero() bool { return q.witness == nil && len(q.members) == 0 }

// Witnesses lists the keys that may count.
func (q Quorum) Witnesses() (keys []WitnessKey) {
	if q.witness != nil {
		return []WitnessKey{*q.witness}
	}
	for _, m := range q.members {
		keys = append(keys, m.Witnesses()...) // each in one place: see ParseWitnessPolicy
	}
	return keys
}

func (q Quorum) String() string {
	switch {
	case q.witness != nil:
		return q.witness.name
	case q.IsZero():
		return "nobody"
	}
	var names []string
	for _, m := range q.members {
		names = append(names, m.String())
	}
	return fmt.Sprintf("%d of (%s)", q.need, strings.Join(names, ", "))
}

// met returns the time since which the quorum has been met: of the cosignatures that are needed, with the
// latest chosen where there is a choice, the earliest.
func (q Quorum) met(times map[string]time.Time) (time.Time, bool) {
	if q.witness != nil {
		t, ok := times[string(q.witness.pub)]
		return t, ok
	}
	var all []time.Time
	for _, m := range q.members {
		if t, ok := m.met(times); ok {
			all = append(all, t)
		}
	}
	if q.need < 1 || len(all) < q.need {
		return time.Time{}, false
	}
	slices.SortFunc(all, func(a, b time.Time) int { return b.Compare(a) })
	return all[q.need-1], true
}

// Met verifies the cosignatures on a checkpoint whose log signature was verified before, and returns the
// time since which the quorum is met (see C2SP tlog-cosignature for what a witness then vouches for).
func (q Quorum) Met(checkpoint []byte) (time.Time, error) {
	if q.IsZero() || len(checkpoint) > maxCheckpoint {
		return time.Time{}, fmt.Errorf("checkpoint: no quorum to hold it against, or larger than %d bytes", maxCheckpoint)
	}
	n, err := note.Open(checkpoint, note.VerifierList()) // parses the lines; all are unknown to it
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		n, err = unverified.Note, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("checkpoint: %w", err)
	}
	times := map[string]time.Time{}
	var have []string
	for _, k := range q.Witnesses() {
		at, ok, err := k.find(n.Text, n.UnverifiedSigs)
		if err != nil {
			return time.Time{}, err
		}
		if ok {
			times[string(k.pub)] = at
			have = append(have, k.name)
		}
	}
	at, ok := q.met(times)
	if !ok {
		return time.Time{}, fmt.Errorf("checkpoint: cosigned by %d of the policy's witnesses (%s), want %s", len(have), strings.Join(have, ", "), q)
	}
	return at, nil
}

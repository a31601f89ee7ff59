package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var leafKind = kindVersion{"hashedrekord", "0.0.2"}

// LeafBody returns the log entry for an envelope signed by k: a Rekor v2 hashedrekord 0.0.2 over the
// SHA-256 of the envelope's pre-authentication encoding, in the canonical JSON of RFC 8785. Stock Sigstore
// verifiers rebuild the same bytes ("hashedrekord over DSSE").
func LeafBody(e *Envelope, k PublicKey) []byte {
	d := sha256.Sum256(e.PAE())
	b64 := base64.StdEncoding.EncodeToString
	kind, raw := "publicKey", k.der
	if k.cert != nil {
		kind, raw = "x509Certificate", k.cert
	}
	return fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"%s"},`+
		`"signature":{"content":"%s","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","%s":{"rawBytes":"%s"}}}}}}`,
		b64(d[:]), b64(e.Signature), kind, b64(raw))
}

// LeafHash is the RFC 6962 hash of a leaf.
func LeafHash(body []byte) Digest { return Digest(tlog.RecordHash(body)) }

// A LogKey is the Ed25519 public key of a transparency log with the log's name (its origin).
type LogKey struct {
	vkey     string
	verifier note.Verifier
	pub      ed25519.PublicKey
}

// ParseLogKey reads a verifier key "ORIGIN+HASH+BASE64" (C2SP signed-note). The origin must be a bare host
// name: Sigstore verifiers compare it with the host part of the log's URL.
func ParseLogKey(vkey string) (LogKey, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return LogKey{}, fmt.Errorf("log key %.128q: %w", vkey, err)
	}
	if err := CheckOrigin(v.Name()); err != nil {
		return LogKey{}, err
	}
	parts := strings.SplitN(vkey, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != 1 {
		return LogKey{}, fmt.Errorf("log key %.128q: want an Ed25519 key", vkey)
	}
	// The note library takes the hash in capitals, stray bits and line ends, too: one key would have many names.
	if form := fmt.Sprintf("%s+%08x+%s", v.Name(), v.KeyHash(), base64.StdEncoding.EncodeToString(raw)); form != vkey {
		return LogKey{}, fmt.Errorf("log key %.128q: want it in its one form, %s", vkey, form)
	}
	return LogKey{vkey, v, raw[1:]}, nil
}

// CheckOrigin says why s cannot be a log's name, or nil: a bare lower-case host name of at most 253 bytes.
func CheckOrigin(s string) error {
	ok := len(s) > 0 && len(s) <= 253
	for _, label := range strings.Split(s, ".") {
		ok = ok && label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-' &&
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	}
	if !ok {
		return fmt.Errorf("log origin %.80q: want a bare host name in lower case, without port and path", s)
	}
	return nil
}

// Origin is the log's name, the first line of its checkpoints.
func (k LogKey) Origin() string { return k.verifier.Name() }

// String returns the verifier key.
func (k LogKey) String() string { return k.vkey }

// IsZero says that k holds no key.
func (k LogKey) IsZero() bool { return k.verifier == nil }

// ID is how bundles and trusted roots name the log: SHA-256(origin ‖ 0x0a ‖ 0x01 ‖ key), of which the
// verifier key and note signatures carry the first four bytes.
func (k LogKey) ID() [32]byte {
	return sha256.Sum256(append([]byte(k.Origin()+"\n\x01"), k.pub...))
}

// PKIX returns the key as a DER SubjectPublicKeyInfo.
func (k LogKey) PKIX() ([]byte, error) { return x509.MarshalPKIXPublicKey(k.pub) }

// OpenCheckpoint checks the log's signature on a checkpoint (C2SP tlog-checkpoint) and returns the tree it
// commits to. Signature lines of other keys are not verified. The note library takes any padding bits after
// a signature; here a checkpoint has one form, so that no byte of a bundle is free.
func (k LogKey) OpenCheckpoint(text []byte) (tlog.Tree, error) {
	if k.IsZero() {
		return tlog.Tree{}, errors.New("checkpoint: no log key to check it with")
	}
	if len(text) > maxCheckpoint {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %d bytes, want at most %d", len(text), maxCheckpoint)
	}
	n, err := note.Open(text, note.VerifierList(k.verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	for _, s := range slices.Concat(n.Sigs, n.UnverifiedSigs) {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return tlog.Tree{}, fmt.Errorf("checkpoint: signature of %.80q: not canonical base64", s.Name)
		}
	}
	return parseCheckpoint([]byte(n.Text), k.Origin())
}

// maxLeaves bounds a tree: golang.org/x/mod/sumdb/tlog looks for the power of two below a larger one without end, and
// whoever holds a log's key can sign any size.
const maxLeaves = 1<<62 - 1

// parseCheckpoint reads the signed text: origin, size, root hash in base64, then extension lines, none of them empty.
func parseCheckpoint(text []byte, origin string) (tlog.Tree, error) {
	lines := bytes.SplitN(text, []byte("\n"), 4)
	if len(lines) != 4 || string(lines[0]) != origin {
		return tlog.Tree{}, fmt.Errorf("checkpoint: origin %.80q, want %q", lines[0], origin)
	}
	var size decimal
	var root base64Bytes
	if err := size.UnmarshalText(lines[1]); err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: size: %w", err)
	}
	if size > maxLeaves {
		return tlog.Tree{}, fmt.Errorf("checkpoint: size %d, want less than 2^62", size)
	}
	if err := root.UnmarshalText(lines[2]); err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, errors.New("checkpoint: root hash: want 32 bytes in base64")
	}
	if bytes.HasPrefix(lines[3], []byte("\n")) || bytes.Contains(lines[3], []byte("\n\n")) {
		return tlog.Tree{}, errors.New("checkpoint: an extension line is empty")
	}
	return tlog.Tree{N: int64(size), Hash: tlog.Hash(root)}, nil
}

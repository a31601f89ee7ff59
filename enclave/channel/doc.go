// Package channel is the encrypted channel of tally/1 between a client and an enclave: a Noise handshake
// that carries the enclave's evidence, then typed, padded records with an authenticated end.
//
//	-> e, [ML-KEM key]                      kind, authority and offered kinds in clear, bound by the prologue
//	<- e, ee, s, es, [ciphertext], evidence
//	-> s, se, [psk]                         sent only after the client accepted the evidence
//
// A client that holds evidence from an earlier session ([Pin]) reconnects in one round trip:
//
//	-> [ciphertext], e, es, s, ss, digest   the ciphertext is for the ML-KEM key of the evidence
//	<- e, ee, se, [psk]                     and the evidence only when it is not the client's
//
// What is about one session, or too large for a handshake, a client asks for once the session is open:
// [Mux.Ask].
//
// The wire format is specified in PROTOCOL.md beside this file. The package treats evidence as bytes: whoever
// calls [Client] passes the function that judges it, and until that function has returned nil there is no
// [Conn] and no way to send anything.
//
// Errors fail closed: after the first error of a direction, that direction of the Conn is dead for good,
// and a connection that ends without an authenticated CLOSE reports [ErrTruncated]. The peer is never told
// why.
package channel

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// A Kind says which handshake is spoken. It is the first byte on the wire and part of the prologue.
type Kind byte

// The kinds of handshake. [Config] lists Classical and Hybrid only; the others follow from a [Pin].
const (
	// Classical is Noise_XX_25519_AESGCM_SHA256. What is recorded today can be read by whoever has a
	// quantum computer later, so that both sides have to ask for it.
	Classical Kind = 0x01

	// Hybrid is Noise_XXpsk3_25519_AESGCM_SHA256 whose PSK is an ML-KEM-768 shared secret. It is the
	// default.
	Hybrid Kind = 0x03

	// ClassicalReconnect is Noise_IK_25519_AESGCM_SHA256 with a pinned key. A server that no longer has
	// the key goes on with ClassicalFallback.
	ClassicalReconnect Kind = 0x02

	// HybridReconnect is Noise_IKpsk2_25519_AESGCM_SHA256 with a pinned key; the PSK is encapsulated to
	// the ML-KEM-768 key of the same evidence. A server that no longer has the key says so, and the
	// client begins anew with Hybrid.
	HybridReconnect Kind = 0x04

	// ClassicalFallback is Noise_XXfallback_25519_AESGCM_SHA256. It answers ClassicalReconnect only, and
	// is never on offer.
	ClassicalFallback Kind = 0x0f
)

// String says how strong the handshake is, and which Noise pattern it has.
func (k Kind) String() string {
	switch k {
	case Classical:
		return "classical (XX, X25519)"
	case Hybrid:
		return "hybrid (XXpsk3, X25519 and ML-KEM-768)"
	case ClassicalReconnect:
		return "classical reconnect (IK, X25519)"
	case HybridReconnect:
		return "hybrid reconnect (IKpsk2, X25519 and ML-KEM-768)"
	case ClassicalFallback:
		return "classical fallback (XXfallback, X25519)"
	}
	return fmt.Sprintf("kind 0x%02x", byte(k))
}

// reply is the first byte of the enclave's answer to a handshake of this kind.
func (k Kind) reply() byte { return byte(k) | 0x80 }

// family is the full handshake of the same strength; a kind of no meaning is its own.
func (k Kind) family() Kind {
	switch k {
	case ClassicalReconnect, ClassicalFallback:
		return Classical
	case HybridReconnect:
		return Hybrid
	}
	return k
}

// known reports whether a client may begin with k.
func (k Kind) known() bool { return k >= Classical && k <= HybridReconnect }

// reconnects reports whether k begins with a pinned key.
func (k Kind) reconnects() bool { return k == ClassicalReconnect || k == HybridReconnect }

// A PublicKey is an X25519 public key (RFC 7748).
type PublicKey [32]byte

// A Peer is what a handshake has shown about the other side.
type Peer struct {
	Kind    Kind
	Static  PublicKey // whose private half the peer has just used
	Binding [32]byte  // the Noise handshake hash; all zero while the client judges the evidence
	Payload []byte    // client side: the evidence, exactly as received now or when it was pinned
	Nonce   [32]byte  // of a reconnecting client: its choice, fresh in each session; otherwise zero
}

// A Config holds what both sides need. Every field without a stated default must be set.
type Config struct {
	// Authority names the service that the client selected (see evidence.CheckAuthority). A server
	// refuses any other than its own.
	Authority string

	// Kinds are the kinds that this side accepts; empty means Hybrid only. A client tries the
	// strongest; a server refuses a client that could do better than it asks for.
	Kinds []Kind

	// Rand is the source of every key of this side but the encapsulation of ML-KEM, for which the
	// standard library has its own.
	Rand io.Reader

	// Now is the clock by which keys are changed; it is read at each record sent.
	Now func() time.Time

	// Observe is told of this session's records, in the goroutine that sends or receives them, which waits for it; may be nil.
	Observe func(RecordEvent)

	// Timeout bounds the whole handshake; 0 means HandshakeTimeout.
	Timeout time.Duration

	// RekeyAfter is the number of records after which a direction changes its key; 0 means
	// MaxRecordsPerKey, which is also the maximum. The receiver holds its peer to the maximum.
	RekeyAfter int

	// Pin is what a client kept of an earlier session with this service; nil means a full handshake.
	// It is of no meaning to a server.
	Pin *Pin

	// MaxPayload bounds the evidence, in bytes, that a client accepts; 0 means DefaultMaxPayload.
	MaxPayload int
}

// A RecordEvent is a change of a direction's key, or what one record in 64 took to encrypt or decrypt.
type RecordEvent struct {
	Sent    bool // by this side
	Rekeyed bool
	Took    time.Duration // by Config.Now; of a key that changed, 0
}

// Limits and defaults.
const (
	HandshakeTimeout  = 10 * time.Second
	MaxRecordsPerKey  = 1 << 14          // records under one key and direction: at most 256 MiB
	MaxKeyAge         = 10 * time.Minute // after which the next record sent changes the key first
	MaxData           = 16376            // payload bytes in one record
	MaxHello          = 4096             // bytes of a handshake message that a server reads
	DefaultMaxPayload = 56 << 10         // bytes of evidence with its framing
)

// Errors to branch on. A Noise or framing error of any other sort is fatal and carries no detail about the
// secret part.
var (
	// ErrTruncated means that the peer or the network ended the connection without an authenticated
	// CLOSE: what was received may not be all that was sent.
	ErrTruncated = errors.New("channel: connection ended without an authenticated close")

	// ErrClosed means that this side has already closed its direction.
	ErrClosed = errors.New("channel: closed")

	// ErrDecrypt means that a message was not made by the peer for this place in this session.
	ErrDecrypt = errors.New("channel: message does not decrypt")

	// ErrReplay means that a reconnect begins with the ephemeral key of an earlier one.
	ErrReplay = errors.New("channel: reconnect repeated")
)

// A RefusedError is the server's answer that it does not take this handshake. It is not authenticated:
// anybody on the way can send it. It never makes a client retry with less.
type RefusedError struct{ Code Refusal }

// Error says why, and that it is nobody's word.
func (e *RefusedError) Error() string {
	return "channel: the enclave, or somebody on the way, refused the handshake: " + e.Code.String()
}

// A Refusal is the code of a RefusedError.
type Refusal byte

// The codes.
const (
	RefusedHeader    Refusal = 1 // header not understood
	RefusedKind      Refusal = 2 // kind not accepted, or weaker than both sides can do
	RefusedAuthority Refusal = 3 // another service than the one asked for
	RefusedBusy      Refusal = 4 // no session free
	RefusedKey       Refusal = 5 // a reconnect for a key not, or no longer, in use: begin anew
	RefusedGPU       Refusal = 6 // the enclave lost a GPU and serves nobody until its GPUs are verified again
)

// String is the reason in words.
func (r Refusal) String() string {
	switch r {
	case RefusedHeader:
		return "header not understood"
	case RefusedKind:
		return "kind of handshake not accepted"
	case RefusedAuthority:
		return "not the service asked for"
	case RefusedBusy:
		return "busy"
	case RefusedKey:
		return "key no longer in use"
	case RefusedGPU:
		return "it lost a GPU and serves nobody until its GPUs are verified again"
	}
	return fmt.Sprintf("code %d", byte(r))
}

// The first byte of a server's payload says what follows.
const (
	InlineEvidence = 1 // the evidence document
	pinnedEvidence = 2 // nothing: the evidence is what the client has pinned. Never seen by a Verify
)

// Package confer speaks the wire protocol of Confer's confer-proxy, release 0.1.14, as a client and as the one who listens.
//
//	one binary WebSocket message = one Noise message (Noise_XX_25519_AESGCM_SHA256, empty prologue)
//	message 2 carries JSON: platform, attestation, manifest, manifestBundle
//	transport message = encrypted NoiseTransportFrame (protobuf); frames of one chunk_id make a message
//	message = WebsocketRequest or WebsocketResponse (protobuf)
//
// It is here so that one client can speak to both kinds of enclave and show what each of them proves. It is
// not tally/1 and gives less, all of it by the protocol's design: the report's data is the bare static key, without nonce,
// time or transcript, so that evidence can be as old as the key; nothing authenticates the end of an answer or of the
// session; there is no rekey, no padding and no cancel. A caller that needs one of these uses package channel.
//
// An enclave of ours listens to it only where its measured configuration asks for that (package listen), with a static key
// of its own, and its evidence of tally/1 never travels in it: this package does not know of any. [ReportData] says why a
// report about a key here is no evidence there, and the other way round.
//
// The codec takes exactly what is known: a field that release 0.1.14 does not have, or has once and got twice, is
// an error. What the peer can make this side hold is bounded by [Limits].
package confer

import (
	"errors"
	"fmt"
)

// Sizes in bytes.
const (
	MaxNoiseMessage = 65535                // of one WebSocket message
	maxPlaintext    = MaxNoiseMessage - 16 // of one frame
	maxChunk        = maxPlaintext - 30    // payload of one frame, as confer-proxy cuts them
	maxHandshake    = 4096                 // of a handshake message that confer-proxy reads
)

// Limits bound what the peer can make this side hold. A zero field means its default.
type Limits struct {
	Message int // bytes of one message; 8 MiB
	Held    int // bytes of all messages that are not whole yet; 16 MiB
	Pending int // messages that are not whole yet; 16
	Chunks  int // frames of one message; 1024
}

func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		v    *int
		std  int
		name string
	}{{&l.Message, 8 << 20, "message"}, {&l.Held, 16 << 20, "held"}, {&l.Pending, 16, "pending"}, {&l.Chunks, 1024, "chunks"}} {
		if *f.v < 0 {
			return l, fmt.Errorf("confer: limits: %s: %d, want a positive number", f.name, *f.v)
		}
		if *f.v == 0 {
			*f.v = f.std
		}
	}
	return l, nil
}

// ErrEnded means that the connection ended. The protocol has no authenticated end: what came before may not
// be all that was sent.
var ErrEnded = errors.New("confer: connection ended; nothing says that the answer was whole")

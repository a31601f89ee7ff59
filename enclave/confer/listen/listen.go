// Package listen is the listening side of Confer's wire protocol (package confer), for an enclave whose measured
// configuration asks for it: a client made for confer-proxy talks to the same engine.
//
//	GET  /ping                       200 PONG
//	POST /v1/vllm/chat/completions   {"messages", "model", "temperature", "maxTokens", "stream", "json", "thinking", "webSearch", "clientTools"}
//	POST /v1/embeddings              {"texts", "isQuery"}
//
// at the WebSocket path /websocket; all else is 404 there, document extraction too. A streamed answer is one response
// with status 200 for each piece, whose body is one JSON object: {"type":"token","content"}, at the end
// {"type":"client_tool_call","tool_call_id","tool_name","tool_arguments"} for each call of a tool of the client's
// ("tool_call" for one that the client has not), and last {"type":"completion","context_tokens","max_context_tokens"},
// which has "pending_tool_calls": true with calls. Spaces behind the object make its length a multiple of 256 bytes,
// so that it does not show the token's. Without "completion" an answer is incomplete. There are no tools of this side:
// webSearch and thinking are read and change nothing. "isQuery" puts "query: " before each text, as confer-proxy does.
//
// # What it proves, and what not
//
// Message 2 carries what confer-proxy's does: a platform, a report about the listener's static key, and a manifest with its
// bundle, which are the host's and foreign. The key is made when the listener starts and is none of tally/1's; it takes
// no new session after 24 hours or 1000 of them. Evidence of tally/1 (package evidence) never travels here, and the report about this
// key is no evidence there: confer.ReportData. What a client cannot have by this protocol, it does not have from here either
// (package confer says what that is); of its token, in the URL's query, nothing is read. For TDX the attestation is the quote itself, in
// base64: Intel Trust Authority, whose word confer-proxy sends, is no service that an enclave could ask without a key of
// the operator's. Clients of Confer's that want that word refuse it.
//
// # Limits
//
// Sessions, handshakes in time, requests at a time in a session, bytes of a request and of what is held of requests
// that are not whole, silence, age, and the time to take an answer: Options.
package listen

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"tally/enclave"
	"tally/enclave/confer"
	"tally/enclave/infer"
)

// Path is where confer-proxy takes WebSocket connections.
const Path = "/websocket"

// Options are what Serve needs. Fields without a stated default must be set.
type Options struct {
	Attester enclave.Attester
	Engine   enclave.PerSession // speaks the wire of package infer
	Rand     io.Reader          // crypto/rand.Reader
	Now      func() time.Time   // time.Now
	Logger   *slog.Logger       // told of starts, ends and refusals; never of what is said
	Observe  func(enclave.Event)

	// ContextTokens is what clients are told that a conversation may have at most. The engine's limit is the engine's.
	ContextTokens int64

	// InsecureAttester lets an attester stand behind the listener that is neither snp nor tdx, under its own name, which no
	// client of Confer's knows. It is for tests.
	InsecureAttester bool

	// Manifest fetches what the host says that the enclave should be, and a Sigstore bundle over it, for a new key. It is
	// passed on unread; where there is none, both are empty. nil: there is none.
	Manifest func(ctx context.Context) (manifest, bundle []byte, err error)

	MaxSessions      int           // open at a time; 0: 64
	MaxRequests      int           // in progress at a time in a session; 0: 4
	HandshakeTimeout time.Duration // 0: 10 s
	IdleTimeout      time.Duration // of a session in which nothing is asked and nothing comes; 0: 5 min
	StallTimeout     time.Duration // for a client to take one message; 0: 30 s
	SessionLifetime  time.Duration // 0: 24 h
	KeyLifetime      time.Duration // after which a key takes no new session; 0: 24 h
	KeySessions      int           // after so many sessions likewise; 0: 1000

	limits confer.Limits
}

func (o Options) withDefaults() (Options, error) {
	if o.Attester == nil || o.Engine == nil || o.Rand == nil || o.Now == nil || o.Logger == nil || o.Observe == nil || o.ContextTokens < 1 {
		return o, errors.New("confer listener: options: want Attester, Engine, Rand, Now, Logger, Observe and ContextTokens")
	}
	for _, f := range []struct {
		v   *int
		std int
	}{{&o.MaxSessions, 64}, {&o.MaxRequests, 4}, {&o.KeySessions, 1000}} {
		if *f.v == 0 {
			*f.v = f.std
		}
		if *f.v < 1 {
			return o, errors.New("confer listener: options: a limit below 1")
		}
	}
	for _, f := range []struct {
		v   *time.Duration
		std time.Duration
	}{{&o.HandshakeTimeout, 10 * time.Second}, {&o.IdleTimeout, 5 * time.Minute}, {&o.StallTimeout, 30 * time.Second}, {&o.SessionLifetime, 24 * time.Hour}, {&o.KeyLifetime, 24 * time.Hour}} {
		if *f.v == 0 {
			*f.v = f.std
		}
		if *f.v < 1 {
			return o, errors.New("confer listener: options: a time below 1 ns")
		}
	}
	// A request is a body that package infer takes, with its frame around it; small ones may come beside it.
	const message = infer.MaxBody + infer.MaxHead
	o.limits = confer.Limits{Message: message, Held: message + 1<<20, Pending: 16, Chunks: message/(32<<10) + 1}
	return o, nil
}

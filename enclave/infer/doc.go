// Package infer is the OpenAI surface of an enclave: it carries HTTP-shaped requests over the exchanges of
// a session, checks them, and hands them to an engine that listens on a UNIX socket (llama.cpp's server,
// vLLM, or any other that speaks the OpenAI API).
//
//	POST /v1/chat/completions   POST /v1/completions   POST /v1/embeddings   GET /v1/models
//
// # The wire
//
// One exchange (tally/enclave/channel/PROTOCOL.md) is one request and its answer. Both start with a head:
//
//	u16 big-endian length N, 2 to 4096 | N bytes of JSON | the body, up to the stream's END
//
//	request   {"method":"POST","path":"/v1/models","type":"application/json"}
//	response  {"status":200,"type":"text/event-stream"}
//
// The JSON is compact, its keys stand in this order, each of them always; any other spelling is refused.
// `type` is the content type and may be empty. No other header crosses: neither the client's (API keys,
// agent, cookies) nor the engine's. A path has no query. Server-sent events are the body, passed on as they
// come. A request that begins with the bytes ff ff never gets here: the enclave takes it (package secrets), or it is
// a head that is too long. An END whose status is not OK means that the answer is incomplete, whatever the status in its head.
//
// # What is checked
//
// A body is one JSON object of at most MaxBody bytes and MaxDepth levels, no key of it stands twice, and
// each is one of the known ones of its path (fields in body.go). n and best_of are at most 1; the number
// of tokens is bounded, also when the client does not say. Keys that select a slot or a cache are not known: the package sets
// cache_prompt (llama.cpp) to false and cache_salt (vLLM) to a secret of the session, so that no session
// can learn from timing or from usage what another one has sent. Tools, response formats and messages go
// through as they are. The bodies of all requests together, and those of a session, have a limit (MaxBodies);
// what finds no room is refused, unless it is small.
//
// # Errors
//
// A refusal is an OpenAI error object with a constant text: `type` invalid_request_error (4xx) or
// server_error (5xx), `code` one of the Code constants. It says nothing that the client did not send.
package infer

// Limits.
const (
	MaxHead     = 4096                // bytes of JSON in a head
	MaxBody     = 8<<20 - MaxHead - 2 // bytes of a request's body, so that head and body are 8 MiB
	MaxDepth    = 64                  // levels of arrays and objects in it
	MaxBodies   = 256 << 20           // bytes of all requests' bodies at a time, an eighth of it for a session
	MaxResponse = 64 << 20            // bytes of an answer, after which it is cut off as incomplete
)

// The paths served.
const (
	PathChat        = "/v1/chat/completions"
	PathCompletions = "/v1/completions"
	PathEmbeddings  = "/v1/embeddings"
	PathModels      = "/v1/models"
)

// A Code is the stable word of a refusal.
type Code string

// The codes.
const (
	CodeHead        Code = "bad_head"           // 400: head not understood
	CodePath        Code = "unknown_path"       // 404
	CodeMethod      Code = "method_not_allowed" // 405
	CodeType        Code = "unsupported_type"   // 415: body is not application/json
	CodeTooLong     Code = "request_too_long"   // 413
	CodeJSON        Code = "bad_json"           // 400
	CodeField       Code = "bad_parameter"      // 400
	CodeUnavailable Code = "engine_unavailable" // 503: nothing listens; the request was not begun
	CodeBusy        Code = "engine_busy"        // 503: no room for its body; the request was not begun
	CodeEngine      Code = "engine_failed"      // 502: it ended or spoke no HTTP before its answer began
)

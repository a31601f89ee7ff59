package infer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// A refusal ends a request with a status, a code and a constant text.
type refusal struct {
	status int
	code   Code
	text   string
}

func (r *refusal) Error() string { return string(r.code) + ": " + r.text }

// body is the OpenAI error object.
func (r *refusal) body() []byte {
	kind := "invalid_request_error"
	if r.status >= 500 {
		kind = "server_error"
	}
	b, _ := json.Marshal(map[string]any{"error": map[string]any{ // strings always marshal
		"message": r.text, "type": kind, "param": nil, "code": r.code}})
	return b
}

// fields are the keys that a request of each path may have: OpenAI's, less those that store or route
// (store, metadata, service_tier, user, prompt_cache_key), and the usual samplers of local engines.
var fields = map[string]map[string]bool{
	PathChat: set(`model messages stream stream_options tools tool_choice parallel_tool_calls functions function_call response_format
		max_completion_tokens logprobs top_logprobs reasoning_effort modalities prediction verbosity chat_template_kwargs`, sampling),
	PathCompletions: set("model prompt suffix stream stream_options echo best_of logprobs", sampling),
	PathEmbeddings:  set("model input encoding_format dimensions", ""),
}

const sampling = `max_tokens n temperature top_p top_k min_p typical_p seed stop frequency_penalty presence_penalty repeat_penalty
	repetition_penalty logit_bias grammar json_schema ignore_eos min_tokens`

func set(words ...string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(strings.Join(words, " ")) {
		m[w] = true
	}
	return m
}

var (
	badJSON  = &refusal{400, CodeJSON, "the body is not one JSON object in UTF-8 whose keys are unique, at most 64 levels deep"}
	badKey   = &refusal{400, CodeField, "the body has a parameter that is not known for this path"}
	badCount = &refusal{400, CodeField, "n and best_of may be 1, token limits must be whole numbers up to the enclave's, logprobs at most 20"}
)

// prepare checks a request's body and returns the one for the engine.
func prepare(path string, body []byte, salt [32]byte, maxTokens int64) ([]byte, *refusal) {
	o, no := object(body, fields[path])
	if no != nil {
		return nil, no
	}
	if path == PathEmbeddings {
		return body, nil
	}
	limits := map[string]int64{"n": 1, "best_of": 1, "max_tokens": maxTokens, "max_completion_tokens": maxTokens, "min_tokens": maxTokens, "top_logprobs": 20}
	if path == PathCompletions {
		limits["logprobs"] = 20
	}
	for k, limit := range limits {
		if v, there := o[k]; there && !within(v, limit) {
			return nil, badCount
		}
	}
	if !given(o["max_tokens"]) && !given(o["max_completion_tokens"]) {
		o["max_tokens"], _ = json.Marshal(maxTokens)
	}
	o["cache_prompt"] = json.RawMessage("false")
	o["cache_salt"], _ = json.Marshal(hex.EncodeToString(salt[:]))
	out, err := json.Marshal(o)
	if err != nil {
		return nil, badJSON
	}
	return out, nil
}

// given reports whether a parameter is set to something: null is OpenAI's word for its absence.
func given(v json.RawMessage) bool { return len(v) > 0 && string(v) != "null" }

// within reports whether v is absent (null) or a whole number from 0 to limit.
func within(v json.RawMessage, limit int64) bool {
	if !given(v) {
		return true
	}
	var n int64
	return json.Unmarshal(v, &n) == nil && n >= 0 && n <= limit
}

// object reads one JSON object of bounded depth with unique keys. It ends at the first key that is not known: a body of a
// million others would cost seconds, and many times its size in memory.
func object(b []byte, known map[string]bool) (map[string]json.RawMessage, *refusal) {
	if !utf8.Valid(b) || !shallow(b) || !json.Valid(b) {
		return nil, badJSON
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, badJSON
	}
	o := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		key, isKey := t.(string)
		if _, twice := o[key]; err != nil || !isKey || twice {
			return nil, badJSON
		}
		if !known[key] {
			return nil, badKey
		}
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			return nil, badJSON
		}
		o[key] = v
	}
	return o, nil
}

// shallow counts brackets outside strings.
func shallow(b []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

var errLong = errors.New("infer: answer too long")

// Package infertest is an OpenAI-compatible engine for tests: it echoes what it is asked, in the shapes of
// llama.cpp's server, without a model.
package infertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An Engine listens on Socket. What it answers depends on the last message's text or the prompt:
//
//	"die"      the connection breaks before an answer
//	"break"    the connection breaks in the middle of a stream
//	"hang"     nothing comes until the client goes
//	"endless"  events come until the client goes
//	"tool"     a tool call, when the request has tools
//	other      the text, a word an event
type Engine struct {
	Socket string

	mu       sync.Mutex
	server   *http.Server
	requests []map[string]any
	headers  []http.Header
	gone     chan time.Time
}

// Start starts an engine that ends with the test.
func Start(t testing.TB) *Engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{Socket: filepath.Join(dir, "s"), gone: make(chan time.Time, 16)}
	t.Cleanup(func() { e.Stop(); os.RemoveAll(dir) })
	e.Restart(t)
	return e
}

// Restart listens again after Stop.
func (e *Engine) Restart(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("unix", e.Socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: e.handler()}
	e.mu.Lock()
	e.server = s
	e.mu.Unlock()
	go s.Serve(ln)
}

// Stop kills the engine and its connections.
func (e *Engine) Stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server.Close()
}

// Gone reports when a client left a "hang" or an "endless" request.
func (e *Engine) Gone() <-chan time.Time { return e.gone }

// patience is how long a busy machine may take over what takes milliseconds.
const patience = 30 * time.Second

// Await waits until the engine has n requests in all: one that its client leaves before that may never come.
func (e *Engine) Await(t testing.TB, n int) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		all, _ := e.Requests()
		if len(all) >= n {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("the engine has %d requests, want %d", len(all), n)
		}
	}
}

// AwaitGone waits until a client has left a "hang" or an "endless" request.
func (e *Engine) AwaitGone(t testing.TB) {
	t.Helper()
	select {
	case <-e.gone:
	case <-time.After(patience):
		t.Fatal("the engine works on for a client that has gone")
	}
}

// Requests returns the bodies and headers seen so far.
func (e *Engine) Requests() ([]map[string]any, []http.Header) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]map[string]any(nil), e.requests...), append([]http.Header(nil), e.headers...)
}

func (e *Engine) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"status":"ok"}`) })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"object": "list", "data": []any{map[string]any{"id": "fake", "object": "model", "created": 0, "owned_by": "tally"}}})
	})
	mux.HandleFunc("POST /v1/embeddings", func(w http.ResponseWriter, r *http.Request) {
		o, ok := e.read(w, r)
		if !ok {
			return
		}
		texts, list := o["input"].([]any)
		if !list {
			texts = []any{o["input"]}
		}
		var data []any
		for i := range texts { // backwards: the index counts
			i = len(texts) - 1 - i
			data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": []float64{float64(i) + 0.5, -0.25}})
		}
		answer(w, map[string]any{"object": "list", "model": "fake", "usage": usage(1), "data": data})
	})
	mux.HandleFunc("POST /v1/completions", e.generate)
	mux.HandleFunc("POST /v1/chat/completions", e.generate)
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Server", "fake-engine")
	json.NewEncoder(w).Encode(v)
}

func usage(n int) map[string]int {
	return map[string]int{"prompt_tokens": 1, "completion_tokens": n, "total_tokens": n + 1}
}

func (e *Engine) read(w http.ResponseWriter, r *http.Request) (map[string]any, bool) {
	var o map[string]any
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), 400) // as real engines do, with the content in it
		return nil, false
	}
	io.Copy(io.Discard, r.Body)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = append(e.requests, o)
	e.headers = append(e.headers, r.Header.Clone())
	return o, true
}

// asked is the last message's text, or the prompt.
func asked(o map[string]any) string {
	if all, ok := o["messages"].([]any); ok && len(all) > 0 {
		m, _ := all[len(all)-1].(map[string]any)
		s, _ := m["content"].(string)
		return s
	}
	s, _ := o["prompt"].(string)
	return s
}

func (e *Engine) generate(w http.ResponseWriter, r *http.Request) {
	o, ok := e.read(w, r)
	if !ok {
		return
	}
	text := asked(o)
	switch text {
	case "die":
		panic(http.ErrAbortHandler)
	case "hang":
		<-r.Context().Done()
		e.gone <- time.Now()
		return
	}
	if o["stream"] == true {
		e.stream(w, r, o, text)
		return
	}
	message := map[string]any{"role": "assistant", "content": text}
	if tools, ok := o["tools"].([]any); ok && text == "tool" && len(tools) > 0 {
		message = map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{map[string]any{
			"id": "call_1", "type": "function", "function": map[string]any{"name": "look", "arguments": `{"at":"it"}`}}}}
	}
	choice := map[string]any{"index": 0, "finish_reason": "stop", "message": message, "text": text}
	answer(w, map[string]any{"id": "x", "object": "chat.completion", "created": 0, "model": "fake", "choices": []any{choice}, "usage": usage(len(strings.Fields(text)))})
}

// stream sends a word an event, then the usage if asked for, then [DONE].
func (e *Engine) stream(w http.ResponseWriter, r *http.Request, o map[string]any, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(choices []any, more map[string]any) error {
		v := map[string]any{"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": choices}
		for k, m := range more {
			v[k] = m
		}
		b, _ := json.Marshal(v)
		_, err := fmt.Fprintf(w, "data: %s\n\n", b)
		w.(http.Flusher).Flush()
		return err
	}
	word := func(s string) error {
		return event([]any{map[string]any{"index": 0, "delta": map[string]any{"content": s}, "text": s, "finish_reason": nil}}, nil)
	}
	for text == "endless" {
		if word("more ") != nil || r.Context().Err() != nil {
			e.gone <- time.Now()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	if tools, ok := o["tools"].([]any); ok && text == "tool" && len(tools) > 0 {
		call := func(more map[string]any) {
			more["index"] = 0
			event([]any{map[string]any{"index": 0, "delta": map[string]any{"tool_calls": []any{more}}, "finish_reason": nil}}, nil)
		}
		call(map[string]any{"id": "call_1", "type": "function", "function": map[string]any{"name": "look", "arguments": ""}})
		call(map[string]any{"function": map[string]any{"arguments": `{"at":`}})
		call(map[string]any{"function": map[string]any{"arguments": `"it"}`}})
		text = ""
	}
	words := strings.SplitAfter(text, " ")
	for _, s := range words {
		word(s)
		if text == "break" {
			panic(http.ErrAbortHandler)
		}
	}
	event([]any{map[string]any{"index": 0, "delta": map[string]any{}, "text": "", "finish_reason": "stop"}}, nil)
	if so, ok := o["stream_options"].(map[string]any); ok && so["include_usage"] == true {
		event([]any{}, map[string]any{"usage": usage(len(words))})
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

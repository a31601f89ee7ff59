package listen

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"

	"tally/enclave/confer"
	"tally/enclave/infer"
)

// Limits of an engine's answer, in bytes; those of a whole one and of calls of tools.
const (
	maxLine   = 1 << 20
	maxAnswer = 32 << 20
	maxCalls  = 64
	bucket    = 256 // of a piece's length
)

var errBadAnswer = &refusal{502, "The engine's answer is not understood"}

// ask puts a request to the engine and has read read the answer to its end. Only when both return nil is it whole.
func (x *session) ask(ctx context.Context, path string, body []byte, read func(io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var request bytes.Buffer
	if _, err := (infer.RequestHead{Method: "POST", Path: path, Type: "application/json"}).WriteTo(&request); err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(x.engine.Exchange(ctx, io.MultiReader(&request, bytes.NewReader(body)), w)) // nil is io.EOF
	}()
	err := readAnswer(r, read)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // the engine's own word that it was whole
	}
	cancel()
	r.CloseWithError(io.ErrClosedPipe)
	<-done
	return err
}

// readAnswer passes an answer on, and makes a refusal of one that is none.
func readAnswer(r io.Reader, read func(io.Reader) error) error {
	head, err := infer.ReadResponseHead(r)
	if err != nil {
		return err
	}
	if head.Status == 200 {
		return read(r)
	}
	no := &refusal{int32(head.Status), "The engine refuses"}
	var o struct {
		Error struct{ Message string }
	}
	if b, err := io.ReadAll(io.LimitReader(r, 64<<10)); err == nil && json.Unmarshal(b, &o) == nil && o.Error.Message != "" {
		no.text = o.Error.Message
	}
	return no
}

// chat answers a chat, in one response or in many.
func (x *session) chat(ctx context.Context, r *confer.Request) error {
	if r.Chunk != nil {
		return errBadChat
	}
	body, stream, tools, err := translate(r.Body)
	if err != nil {
		return err
	}
	if !stream {
		var text string
		if err := x.ask(ctx, infer.PathChat, body, func(in io.Reader) (err error) { text, err = readChat(in); return err }); err != nil {
			return err
		}
		return unsent(x.send(ctx, r.ID, 200, text))
	}
	a := &streamed{tools: tools, calls: map[int]*call{}, send: func(v any) error { return unsent(x.piece(ctx, r.ID, v)) }}
	if err := x.ask(ctx, infer.PathChat, body, a.read); err != nil {
		return err
	}
	return a.end(x.opt.ContextTokens)
}

func unsent(err error) error {
	if err != nil {
		return errUnsent
	}
	return nil
}

// piece sends one JSON object of a streamed answer, whose length on the wire says little.
func (x *session) piece(ctx context.Context, id int64, v any) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	text := strings.TrimSuffix(b.String(), "\n")
	return x.send(ctx, id, 200, text+strings.Repeat(" ", (bucket-len(text)%bucket)%bucket))
}

// readChat is the text of an answer that comes in one.
func readChat(r io.Reader) (string, error) {
	var o struct {
		Choices []struct {
			Message struct{ Content *string }
		}
	}
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxAnswer || json.Unmarshal(b, &o) != nil || len(o.Choices) == 0:
		return "", errBadAnswer
	case o.Choices[0].Message.Content == nil:
		return "", nil
	}
	return *o.Choices[0].Message.Content, nil
}

// A streamed answer makes Confer's objects of OpenAI's events.
type streamed struct {
	tools []string
	send  func(any) error
	calls map[int]*call
	size  int // of the calls' arguments
	usage int64
}

type call struct{ id, name, arguments string }

// An event is a chat completion chunk.
type event struct {
	Choices []struct {
		Delta struct {
			Content *string
			Calls   []struct {
				Index    int
				ID       *string
				Function struct{ Name, Arguments *string }
			} `json:"tool_calls"`
		}
	}
	Usage *struct {
		Total int64 `json:"total_tokens"`
	}
}

// token, toolCall and completion are Confer's objects.
type (
	token struct {
		Type    string `json:"type"`
		Content string `json:"content"`
	}
	toolCall struct {
		Type      string `json:"type"`
		ID        string `json:"tool_call_id"`
		Name      string `json:"tool_name"`
		Arguments string `json:"tool_arguments"`
	}
	completion struct {
		Type      string `json:"type"`
		Pending   bool   `json:"pending_tool_calls,omitempty"`
		Tokens    int64  `json:"context_tokens"`
		MaxTokens int64  `json:"max_context_tokens"`
	}
)

// read reads events up to [DONE], without which an answer is not whole.
func (a *streamed) read(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	for in.Scan() {
		data, ok := strings.CutPrefix(in.Text(), "data: ")
		switch {
		case !ok:
			continue
		case data == "[DONE]":
			return nil
		}
		var e event
		if json.Unmarshal([]byte(data), &e) != nil {
			return errBadAnswer
		}
		if err := a.take(&e); err != nil {
			return err
		}
	}
	if in.Err() != nil {
		return in.Err()
	}
	return io.ErrUnexpectedEOF
}

func (a *streamed) take(e *event) error {
	if e.Usage != nil {
		a.usage = e.Usage.Total
	}
	if len(e.Choices) == 0 {
		return nil
	}
	d := &e.Choices[0].Delta
	for _, c := range d.Calls {
		if a.calls[c.Index] == nil {
			a.calls[c.Index] = new(call)
		}
		for _, f := range []struct {
			to   *string
			part *string
			add  bool
		}{{&a.calls[c.Index].id, c.ID, false}, {&a.calls[c.Index].name, c.Function.Name, false}, {&a.calls[c.Index].arguments, c.Function.Arguments, true}} {
			switch {
			case f.part == nil:
			case f.add:
				*f.to += *f.part
			default:
				*f.to = *f.part
			}
			if f.part != nil {
				a.size += len(*f.part)
			}
		}
		if len(a.calls) > maxCalls || a.size > maxLine {
			return errBadAnswer
		}
	}
	if d.Content == nil || *d.Content == "" {
		return nil
	}
	return a.send(token{"token", *d.Content})
}

// end sends the calls and the completion.
func (a *streamed) end(context int64) error {
	pending := false
	for _, i := range slices.Sorted(maps.Keys(a.calls)) {
		c, kind := a.calls[i], "tool_call"
		if slices.Contains(a.tools, c.name) {
			kind, pending = "client_tool_call", true
		}
		if err := a.send(toolCall{kind, c.id, c.name, c.arguments}); err != nil {
			return err
		}
	}
	return a.send(completion{"completion", pending, a.usage, context})
}

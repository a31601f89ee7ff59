package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"tally/enclave/client"
	"tally/enclave/infer"
)

// An answerWriter prints an answer without its control characters. When there is a note, each line has it.
type answerWriter struct {
	w    io.Writer
	note string
	open bool // in the middle of a line
}

func (a *answerWriter) Write(p []byte) (int, error) {
	var b strings.Builder
	for _, r := range string(p) {
		if r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			continue
		}
		if !a.open && a.note != "" {
			b.WriteString("[" + a.note + "] ")
		}
		a.open = r != '\n'
		b.WriteRune(r)
	}
	_, err := io.WriteString(a.w, b.String())
	return len(p), err
}

// end finishes the last line.
func (a *answerWriter) end() error {
	if !a.open {
		return nil
	}
	_, err := a.Write([]byte("\n"))
	return err
}

// A conversation is what was said so far.
type conversation struct {
	http     *http.Client
	model    string
	max      int64
	messages []chatMessage
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (t *conversation) say(role, text string) {
	t.messages = append(t.messages, chatMessage{role, text})
}

// ask says text and writes the answer to w as it comes. Only a whole answer becomes part of the
// conversation.
func (t *conversation) ask(ctx context.Context, text string, w io.Writer) (finish string, err error) {
	request := map[string]any{"messages": append(t.messages[:len(t.messages):len(t.messages)], chatMessage{"user", text}), "stream": true}
	if t.model != "" {
		request["model"] = t.model
	}
	if t.max > 0 {
		request["max_tokens"] = t.max
	}
	body, err := json.Marshal(request)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://enclave"+infer.PathChat, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := t.http.Do(req)
	if err != nil {
		return "", chatError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", refusedAnswer(resp)
	}
	var reply strings.Builder
	finish, err = readEvents(resp.Body, io.MultiWriter(w, &reply))
	if err != nil {
		return "", chatError(err)
	}
	t.say("user", text)
	t.say("assistant", reply.String())
	return finish, nil
}

// chatError says what an incomplete answer is, and that an enclave which is not accepted again is a verdict.
func chatError(err error) error {
	if errors.Is(err, client.ErrIncomplete) {
		return fmt.Errorf("the answer is incomplete: the engine ended before it did: %w", err)
	}
	var ue *url.Error
	if errors.As(err, &ue) { // its URL is made up: the session is the address
		err = fmt.Errorf("no answer of a model: %w", ue.Err)
	}
	return verdictOf(err)
}

// refusedAnswer is the enclave's own refusal, its text made fit for a terminal.
func refusedAnswer(resp *http.Response) error {
	var o struct {
		Error struct{ Message string }
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	if err != nil || o.Error.Message == "" {
		return fmt.Errorf("the enclave answers with status %d", resp.StatusCode)
	}
	return fmt.Errorf("the enclave answers with status %d: %.300q", resp.StatusCode, o.Error.Message)
}

// readEvents writes the text of a stream of chat completion chunks. Only [DONE] is its end.
func readEvents(r io.Reader, w io.Writer) (finish string, err error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		data, ok := strings.CutPrefix(in.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			_, err := io.Copy(io.Discard, r) // the channel's own end is what vouches for the answer
			return finish, err
		}
		var e struct {
			Error   json.RawMessage
			Choices []struct {
				Delta        struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return "", errors.New("the answer has an event that is no JSON object")
		}
		if e.Error != nil {
			return "", errors.New("the engine gave up in the middle of the answer")
		}
		for _, c := range e.Choices {
			if _, err := io.WriteString(w, c.Delta.Content); err != nil {
				return "", err
			}
			if c.FinishReason != "" {
				finish = c.FinishReason
			}
		}
	}
	if err := in.Err(); err != nil {
		return "", err
	}
	return "", errors.New("the answer ended without its end mark")
}

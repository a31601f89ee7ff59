package infer_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sashabaranov/go-openai"

	"tally/enclave/infer"
)

// TestGoClient runs an OpenAI client of Go's that is not ours over the channel, by its HTTP client alone.
func TestGoClient(t *testing.T) {
	w := newWorld(t, nil)
	cfg := openai.DefaultConfig("any key")
	cfg.BaseURL, cfg.HTTPClient = "http://enclave/v1", w.http
	c := openai.NewClientWithConfig(cfg)
	ask := func(text string) openai.ChatCompletionRequest {
		return openai.ChatCompletionRequest{Model: "fake", Messages: []openai.ChatCompletionMessage{{Role: "user", Content: text}}}
	}
	got, err := c.CreateChatCompletion(t.Context(), ask("let there be light"))
	if err != nil || got.Choices[0].Message.Content != "let there be light" || got.Usage.CompletionTokens != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	s, err := c.CreateChatCompletionStream(t.Context(), ask("and it was so"))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for err == nil {
		var part openai.ChatCompletionStreamResponse
		if part, err = s.Recv(); err == nil && len(part.Choices) > 0 {
			said.WriteString(part.Choices[0].Delta.Content)
		}
	}
	if s.Close(); !errors.Is(err, io.EOF) || said.String() != "and it was so" {
		t.Errorf("%q, %v", said.String(), err)
	}
	if all, err := c.ListModels(t.Context()); err != nil || len(all.Models) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	two := ask("x")
	two.N = 2
	var refused *openai.APIError
	if _, err := c.CreateChatCompletion(t.Context(), two); !errors.As(err, &refused) || refused.HTTPStatusCode != 400 || refused.Code != string(infer.CodeField) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	endless, err := c.CreateChatCompletionStream(ctx, ask("endless"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for err == nil {
		_, err = endless.Recv()
	}
	endless.Close()
	w.fake.AwaitGone(t)
}

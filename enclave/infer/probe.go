package infer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxProbe bounds what the engine may answer to a probe, in bytes.
const maxProbe = 1 << 20

// Probe has the engine compute one token with its first model, whether or not Options.Admit lets requests through. The
// error says nothing of the answer's content.
func (e *Engine) Probe(ctx context.Context) error {
	b, err := e.probe(ctx, "GET", PathModels, nil)
	if err != nil {
		return err
	}
	var models struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &models); err != nil || len(models.Data) == 0 {
		return errors.New("infer: the engine names no model")
	}
	body, err := json.Marshal(struct {
		Model     string `json:"model"`
		Prompt    string `json:"prompt"`
		MaxTokens int    `json:"max_tokens"`
	}{models.Data[0].ID, "a", 1})
	if err != nil {
		return err
	}
	if b, err = e.probe(ctx, "POST", PathCompletions, body); err != nil {
		return err
	}
	var answer struct {
		Choices []json.RawMessage `json:"choices"`
	}
	if err := json.Unmarshal(b, &answer); err != nil || len(answer.Choices) == 0 {
		return errors.New("infer: the engine's answer to a probe has no choice")
	}
	return nil
}

func (e *Engine) probe(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	resp, err := e.send(ctx, method, path, body)
	if err != nil {
		return nil, fmt.Errorf("infer: the engine does not answer %s", path)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProbe))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("infer: %s: status %d, want 200 and an answer", path, resp.StatusCode)
	}
	return b, nil
}

package listen

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"tally/enclave/confer"
	"tally/enclave/infer"
)

// maxTexts is how many texts confer-proxy embeds at a time.
const maxTexts = 64

// embed answers a request for embeddings.
func (x *session) embed(ctx context.Context, r *confer.Request) error {
	var in struct {
		Texts   []string `json:"texts"`
		IsQuery *bool    `json:"isQuery"`
	}
	switch {
	case len(r.Body) == 0:
		return errNoBody
	case r.Chunk != nil || decode(r.Body, &in) != nil:
		return &refusal{400, "Invalid EmbeddingRequest body"}
	case len(in.Texts) == 0 || len(in.Texts) > maxTexts:
		return &refusal{400, fmt.Sprintf("texts: want 1 to %d", maxTexts)}
	}
	if in.IsQuery != nil && *in.IsQuery {
		for i := range in.Texts {
			in.Texts[i] = "query: " + in.Texts[i]
		}
	}
	body, err := json.Marshal(map[string]any{"input": in.Texts, "encoding_format": "float"})
	if err != nil {
		return err
	}
	var out []byte
	err = x.ask(ctx, infer.PathEmbeddings, body, func(answer io.Reader) (err error) {
		out, err = readEmbeddings(answer, len(in.Texts))
		return err
	})
	if err != nil {
		return err
	}
	return unsent(x.send(ctx, r.ID, 200, string(out)))
}

// readEmbeddings makes Confer's answer of OpenAI's: one vector for each text, all of one dimension.
func readEmbeddings(r io.Reader, texts int) ([]byte, error) {
	var o struct {
		Data []struct {
			Index     int
			Embedding []json.Number
		}
	}
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxAnswer || json.Unmarshal(b, &o) != nil || len(o.Data) != texts {
		return nil, errBadAnswer
	}
	vectors := make([][]json.Number, texts)
	for _, d := range o.Data {
		if d.Index < 0 || d.Index >= texts || vectors[d.Index] != nil || len(d.Embedding) == 0 || len(d.Embedding) != len(o.Data[0].Embedding) {
			return nil, errBadAnswer
		}
		vectors[d.Index] = d.Embedding
	}
	return json.Marshal(struct {
		Embeddings [][]json.Number `json:"embeddings"`
		Dimension  int             `json:"dimension"`
	}{vectors, len(vectors[0])})
}

package log

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tally/release"
)

const (
	rekorTime   = 60 * time.Second // it answers when a checkpoint commits to the entry
	maxRekor    = 1 << 20          // bytes of an answer
	rekorPath   = "api/v2/log/entries"
	rekorTiles  = "api/v2" // where the public instances serve checkpoint and tiles
	rekorHeader = "X-Log-Index"
)

// A Rekor is a Rekor v2 log (github.com/sigstore/rekor-tiles) that other people run. It takes the same leaf as ours.
type Rekor struct {
	url    *url.URL
	key    release.LogKey
	client *http.Client
}

// OpenRekor returns the log at an http(s) URL that signs its checkpoints with key. It is not asked yet.
func OpenRekor(place string, key release.LogKey, client *http.Client) (*Rekor, error) {
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("rekor %.256q: want a URL with http or https and no query", withoutPassword(place))
	}
	if key.IsZero() {
		return nil, errors.New("rekor: no key to check its answers with")
	}
	return &Rekor{u, key, client}, nil
}

// Key is the log's public key.
func (r *Rekor) Key() release.LogKey { return r.key }

// Add logs a signed envelope and returns its entry, which has been checked. An entry that is there already is read
// from the tiles.
func (r *Rekor) Add(ctx context.Context, e *release.Envelope, signer release.PublicKey) (*release.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, rekorTime)
	defer cancel()
	body := release.LeafBody(e, signer)
	resp, err := r.post(ctx, body)
	if err != nil {
		return nil, fmt.Errorf("rekor: %w", err)
	}
	defer resp.Body.Close()
	data, err := readLimited(resp.Body, maxRekor)
	if err != nil {
		return nil, fmt.Errorf("rekor %s: %w", r.url.Host, err)
	}
	var entry *release.Entry
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusOK:
		entry, err = release.ParseEntry(data)
	case http.StatusConflict:
		entry, err = r.read(ctx, resp.Header.Get(rekorHeader), body)
	default:
		err = fmt.Errorf("HTTP status %d: %.200q", resp.StatusCode, data)
	}
	if err == nil {
		err = entry.Check(body, r.key)
	}
	if err != nil {
		return nil, fmt.Errorf("rekor %s: %w", r.url.Host, err)
	}
	return entry, nil
}

// post asks for the leaf to be logged: its fields, in the names of the request (rekor-tiles, api/proto).
func (r *Rekor) post(ctx context.Context, body []byte) (*http.Response, error) {
	var leaf struct {
		Spec struct {
			V002 struct {
				Data      struct{ Digest json.RawMessage }
				Signature struct {
					Content  json.RawMessage
					Verifier json.RawMessage // key or certificate
				}
			} `json:"hashedRekordV002"`
		}
	}
	if err := json.Unmarshal(body, &leaf); err != nil {
		return nil, err
	}
	v := &leaf.Spec.V002
	req, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest":    v.Data.Digest,
		"signature": map[string]any{"content": v.Signature.Content, "verifier": v.Signature.Verifier},
	}})
	if err != nil {
		return nil, err
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url.JoinPath(rekorPath).String(), bytes.NewReader(req))
	if err != nil {
		return nil, err
	}
	hr.Header.Set("Content-Type", "application/json")
	return r.client.Do(hr)
}

// read makes the entry of a leaf that the log had already, at the index that it names.
func (r *Rekor) read(ctx context.Context, index string, body []byte) (*release.Entry, error) {
	i, err := strconv.ParseInt(index, 10, 64)
	if err != nil || i < 0 {
		return nil, fmt.Errorf("has the entry already, and says at index %.40q", index)
	}
	src, err := OpenSource(r.url.JoinPath(rekorTiles).String(), r.client)
	if err != nil {
		return nil, err
	}
	text, err := src.Read(ctx, CheckpointFile, maxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("has the entry already, at index %d: %w", i, err)
	}
	tree, err := r.key.OpenCheckpoint(text)
	if err != nil {
		return nil, err
	}
	if i >= tree.N {
		return nil, fmt.Errorf("has the entry already, at index %d of %d", i, tree.N)
	}
	proof, err := tlog.ProveRecord(tree.N, i, hashes(ctx, src, tree.N))
	if err != nil {
		return nil, err
	}
	e := &release.Entry{LogID: r.key.ID(), Index: i, TreeSize: tree.N, RootHash: tree.Hash, Checkpoint: string(text), Body: body}
	for _, h := range proof {
		e.Proof = append(e.Proof, h)
	}
	return e, nil
}

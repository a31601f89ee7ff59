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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tally/enclave/infer"
)

// A round is so many streams at once.
type round struct {
	Tokens int           // of all streams
	Wall   time.Duration // from the first request to the last token
	First  time.Duration // to the first token, median of the streams
	CPU    time.Duration // user time of this process: client, and enclave where there is one
}

func (r round) rate() float64 { return float64(r.Tokens) / r.Wall.Seconds() }

// run asks for one round.
func run(ctx context.Context, c *http.Client, streams, tokens, seed int) (round, error) {
	var mu sync.Mutex
	var r round
	var firsts []time.Duration
	var failed error
	cpu, began := userTime(), time.Now()
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			n, first, err := stream(ctx, c, fmt.Sprintf("round %d, stream %d: tell me", seed, i), tokens)
			mu.Lock()
			defer mu.Unlock()
			r.Tokens += n
			firsts = append(firsts, first)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	r.Wall, r.CPU = time.Since(began), userTime()-cpu
	slices.Sort(firsts)
	r.First = firsts[len(firsts)/2]
	return r, failed
}

// stream asks for so many tokens and returns how many the engine says came, and when the first did.
func stream(ctx context.Context, c *http.Client, prompt string, tokens int) (n int, first time.Duration, err error) {
	body, err := json.Marshal(map[string]any{"model": "random", "prompt": prompt, "max_tokens": tokens, "stream": true, "ignore_eos": true,
		"temperature": 0, "stream_options": map[string]bool{"include_usage": true}})
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://engine"+infer.PathCompletions, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("status %d", resp.StatusCode)
	}
	return events(resp.Body, began)
}

// events reads an answer to its end, which must be [DONE] after the usage.
func events(body io.Reader, began time.Time) (n int, first time.Duration, err error) {
	whole := false
	in := bufio.NewScanner(body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		data, ok := strings.CutPrefix(in.Text(), "data: ")
		switch {
		case !ok:
			continue
		case data == "[DONE]":
			whole = true
			continue
		case first == 0:
			first = time.Since(began)
		}
		var event struct {
			Usage *struct {
				Completion int `json:"completion_tokens"`
			} `json:"usage"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return 0, first, err
		}
		if event.Usage != nil {
			n = event.Usage.Completion
		}
	}
	if err := in.Err(); err != nil {
		return n, first, err
	}
	if !whole || n < 1 {
		return n, first, fmt.Errorf("a stream of %d tokens whose end is %v", n, whole)
	}
	return n, first, nil
}

func userTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano())
}

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
	Engine float64       // tokens a second by the engine's own clock, of all streams; 0 where it does not say
}

func (r round) rate() float64 { return float64(r.Tokens) / r.Wall.Seconds() }

// An answer is what a stream's events say.
type answer struct {
	tokens int           // how many the engine says came
	first  time.Duration // to the first
	rate   float64       // tokens a second, by the engine's own clock
}

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
			a, err := stream(ctx, c, fmt.Sprintf("round %d, stream %d: tell me", seed, i), tokens)
			mu.Lock()
			defer mu.Unlock()
			r.Tokens += a.tokens
			r.Engine += a.rate
			firsts = append(firsts, a.first)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	r.Wall, r.CPU = time.Since(began), userTime()-cpu
	slices.Sort(firsts)
	r.First = firsts[len(firsts)/2]
	return r, failed
}

// stream asks for so many tokens.
func stream(ctx context.Context, c *http.Client, prompt string, tokens int) (a answer, err error) {
	body, err := json.Marshal(map[string]any{"model": "random", "prompt": prompt, "max_tokens": tokens, "stream": true, "ignore_eos": true,
		"temperature": 0, "stream_options": map[string]bool{"include_usage": true}})
	if err != nil {
		return a, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://engine"+infer.PathCompletions, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %d", resp.StatusCode)
	}
	return events(resp.Body, began)
}

// events reads an answer to its end, which must be [DONE] after the usage.
func events(body io.Reader, began time.Time) (a answer, err error) {
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
		case a.first == 0:
			a.first = time.Since(began)
		}
		if err := a.event(data); err != nil {
			return a, err
		}
	}
	if err := in.Err(); err != nil {
		return a, err
	}
	if !whole || a.tokens < 1 {
		return a, fmt.Errorf("a stream of %d tokens whose end is %v", a.tokens, whole)
	}
	return a, nil
}

// event reads the usage, and the timings that llama.cpp's server puts into its last event with a choice.
func (a *answer) event(data string) error {
	var event struct {
		Usage *struct {
			Completion int `json:"completion_tokens"`
		} `json:"usage"`
		Timings *struct {
			Rate float64 `json:"predicted_per_second"`
		} `json:"timings"`
	}
	if err := json.Unmarshal([]byte(data), &event); err != nil {
		return err
	}
	if event.Usage != nil {
		a.tokens = event.Usage.Completion
	}
	if event.Timings != nil {
		a.rate = event.Timings.Rate
	}
	return nil
}

func userTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano())
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// A pacer answers as llama.cpp's server on a GPU does: all its streams get a token at the end of each step, a step takes so long,
// and the next begins when those tokens are out. So what holds the engine up makes it slower for good, as it would a GPU. It
// computes nothing: beside it, what the channel costs shows as on a machine whose tokens cost no CPU time.
type pacer struct {
	step time.Duration
	mu   sync.Mutex
	more chan struct{} // a stream came
	open map[*paced]bool
}

// A paced is one stream. Its tokens wait in out, which has room for them all: a slow reader holds up nobody else.
type paced struct {
	left         int
	began, ended time.Time
	out          chan struct{}
}

// serve listens on the socket until ctx is done.
func (p *pacer) serve(ctx context.Context, socket string) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	p.more, p.open = make(chan struct{}, 1), map[*paced]bool{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/completions", p.complete)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	go p.run(ctx)
	return s.Serve(ln)
}

// run makes the steps.
func (p *pacer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.more:
		}
		for p.tokens() {
			compute(p.step)
		}
	}
}

// compute waits a step out in a loop, as CUDA's threads do: timers wake late, later on an idle machine than on a busy one, and would show
// that in place of the channel.
func compute(step time.Duration) {
	const late = 2 * time.Millisecond // a timer is left so much
	end := time.Now().Add(step)
	time.Sleep(step - late)
	for time.Now().Before(end) {
	}
}

// tokens gives each stream one, and says whether there is any.
func (p *pacer) tokens() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.open {
		s.out <- struct{}{}
		if s.left--; s.left == 0 {
			s.ended = time.Now()
			close(s.out)
			delete(p.open, s)
		}
	}
	return len(p.open) > 0
}

// maxPaced is how many tokens a stream may ask for.
const maxPaced = 1 << 16

func (p *pacer) complete(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Max int `json:"max_tokens"`
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.Max < 1 || ask.Max > maxPaced {
		http.Error(w, fmt.Sprintf("want max_tokens of 1 to %d", maxPaced), http.StatusBadRequest)
		return
	}
	s := &paced{left: ask.Max, began: time.Now(), out: make(chan struct{}, ask.Max)}
	p.mu.Lock()
	p.open[s] = true
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	n := 0
	for range s.out {
		// An event of llama.cpp's server, in its length.
		fmt.Fprintf(w, `data: {"choices":[{"text":" word%d","index":0,"logprobs":null,"finish_reason":null}],"created":1767225600,"model":"random","system_fingerprint":"b1-de3ff81","object":"text_completion","id":"chatcmpl-0123456789abcdefghijklmnopqrstuv"}`+"\n\n", n)
		if flush() != nil {
			p.mu.Lock()
			delete(p.open, s)
			p.mu.Unlock()
			return
		}
		n++
	}
	fmt.Fprintf(w, `data: {"choices":[],"object":"text_completion","usage":{"prompt_tokens":8,"completion_tokens":%d,"total_tokens":%d},"timings":{"predicted_per_second":%f}}`+"\n\ndata: [DONE]\n\n",
		n, n+8, float64(n)/s.ended.Sub(s.began).Seconds())
}

package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPacedTokens: each stream has one token of a step, and one that has all of its own is over.
func TestPacedTokens(t *testing.T) {
	a, b := &paced{left: 1, out: make(chan struct{}, 1)}, &paced{left: 2, out: make(chan struct{}, 2)}
	p := &pacer{open: map[*paced]bool{a: true, b: true}}
	if more := p.tokens(); !more || len(a.out) != 1 || len(b.out) != 1 || a.ended.IsZero() || !b.ended.IsZero() {
		t.Errorf("after a step: %v, %d and %d tokens", more, len(a.out), len(b.out))
	}
	if more := p.tokens(); more || len(a.out) != 1 || len(b.out) != 2 {
		t.Errorf("after two: %v, %d and %d tokens", more, len(a.out), len(b.out))
	}
}

// TestPaced: streams come whole, and never faster than the pace.
func TestPaced(t *testing.T) {
	const step, tokens = 2 * time.Millisecond, 20
	ctx, cancel := context.WithCancel(t.Context())
	socket := filepath.Join(t.TempDir(), "s")
	ended := make(chan error, 1)
	go func() { ended <- command(ctx, []string{"engine", "-socket", socket, "-step", step.String()}) }()
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
	}
	c := directClient(socket)
	got, err := run(ctx, c, 3, tokens, 0)
	if err != nil || got.Tokens != 3*tokens || got.Wall < (tokens-1)*step || got.Engine <= 0 || got.Engine > 3*tokens/((tokens-1)*step).Seconds() {
		t.Errorf("%+v, %v", got, err)
	}
	for _, body := range []string{"", "{}", `{"max_tokens":0}`, `{"max_tokens":65537}`} {
		resp, err := c.Post("http://engine/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "want max_tokens of 1 to 65536") {
			t.Errorf("%q: status %d, %q", body, resp.StatusCode, text)
		}
	}
	cancel()
	<-ended
}

// TestVerdict: by the engine's clock, to the per cent, and by ours where it has none.
func TestVerdict(t *testing.T) {
	second := func(engine float64, tokens int) []round {
		return []round{{Engine: engine, Tokens: tokens, Wall: time.Second}}
	}
	for want, kinds := range map[string][]kind{
		"by the engine's clock. Once: met. Grid: missed.": {{Rounds: second(100.9, 100)}, {Name: "once", Rounds: second(100, 50)}, {Name: "grid", Rounds: second(99.9, 100)}},
		"by ours. Once: missed. Grid: met.":               {{Rounds: second(0, 1009)}, {Name: "once", Rounds: second(0, 900)}, {Name: "grid", Rounds: second(0, 1000)}},
	} {
		if got := (&report{Kinds: kinds}).verdict(); got != "\nTarget: at most 1 % of tokens/s, "+want+"\n" {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

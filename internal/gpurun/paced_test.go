package main

import (
	"context"
	"io"
	"net"
	"net/http"
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
		if conn, err := net.Dial("unix", socket); err == nil { // the file is there before it listens
			_ = conn.Close()
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

// TestVerdict: by the engine's clock, to the per cent, and by ours where it has none; none at all where the engine's own rounds differ by more.
func TestVerdict(t *testing.T) {
	rounds := func(tokens int, engine ...float64) (all []round) {
		for _, e := range engine {
			all = append(all, round{Engine: e, Tokens: tokens, Wall: time.Second})
		}
		return all
	}
	for want, kinds := range map[string][]kind{
		"by the engine's clock. Rounds of the engine alone differ by 0.00 %. Once: met. Grid: missed.": {{Rounds: rounds(100, 100.9)}, {Name: "once", Rounds: rounds(50, 100)}, {Name: "grid", Rounds: rounds(100, 99.89)}},
		"by ours. Rounds of the engine alone differ by 0.00 %. Once: missed. Grid: met.":               {{Rounds: rounds(1009, 0)}, {Name: "once", Rounds: rounds(900, 0)}, {Name: "grid", Rounds: rounds(1000, 0)}},
		"by the engine's clock. Rounds of the engine alone differ by 1.00 %. Once: met. Grid: met.":    {{Rounds: rounds(1, 100.5, 99.5)}, {Name: "once", Rounds: rounds(1, 100.5, 97.7)}, {Name: "grid", Rounds: rounds(1, 99.1, 99.1)}},
		"by the engine's clock. Rounds of the engine alone differ by 1.10 %. So this run cannot tell.": {{Rounds: rounds(1, 100.55, 99.45)}, {Name: "once", Rounds: rounds(1, 100, 100)}, {Name: "grid", Rounds: rounds(1, 50, 50)}},
	} {
		if got := (&report{Kinds: kinds}).verdict(); got != "\nTarget: at most 1 % of tokens/s, "+want+"\n" {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, all := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 3, 2}, 7: {7}} {
		if got := median(all); got != want {
			t.Errorf("median %v, want %v", got, want)
		}
	}
}

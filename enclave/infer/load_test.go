package infer_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
)

// TestLoad keeps 500 streams open at a time for a while: every one says what was asked of it, word by word, to
// its end. Each word names its client and round, so that none can pass for another's. TALLY_LOAD says for
// how long; the figures are in the test's log.
func TestLoad(t *testing.T) {
	const clients, words = 500, 40
	d := 2 * time.Second
	if s := os.Getenv("TALLY_LOAD"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, func(o *infer.Options, _ *enclave.Options) { o.Observe = nil })
	w.transport.MaxIdle = clients
	// A handshake has 10 s of real time, and 500 at once on a slow machine take longer: a few at a time, and nobody goes on
	// before all have had their first answer. From then on all clients stream at once.
	open, slots := w.transport.Open, make(chan struct{}, 8)
	w.transport.Open = func(ctx context.Context) (*client.Session, error) {
		slots <- struct{}{}
		defer func() { <-slots }()
		return open(ctx)
	}
	var ready sync.WaitGroup
	ready.Add(clients)
	until := sync.OnceValue(func() time.Time { return time.Now().Add(d) }) // begins when all are ready
	var streams, wrong atomic.Int64
	var mu sync.Mutex
	var first []time.Duration
	var wg sync.WaitGroup
	for i := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := 0; j < 2 || time.Now().Before(until()); j++ {
				if j == 1 {
					ready.Wait()
				}
				text := strings.TrimSpace(strings.Repeat(fmt.Sprintf("c%dr%d ", i, j), words))
				ttft, got, err := stream(w.http, text)
				if j == 0 {
					ready.Done()
				}
				streams.Add(1)
				if err != nil || got != text {
					wrong.Add(1)
					t.Errorf("client %d, round %d: %v, %.80q", i, j, err, got)
					return
				}
				mu.Lock()
				first = append(first, ttft)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	slices.Sort(first)
	if len(first) == 0 {
		t.Fatal("no stream ended")
	}
	t.Logf("%d streams of %d events in %v, %d wrong; first event after %v (median), %v (99 %%)",
		streams.Load(), words+3, d, wrong.Load(), first[len(first)/2].Round(time.Millisecond), first[len(first)*99/100].Round(time.Millisecond))
}

// stream asks for text and returns it as it came, and the time to its first event.
func stream(c *http.Client, text string) (first time.Duration, got string, err error) {
	began := time.Now()
	resp, err := c.Post("http://x"+infer.PathChat, "application/json", strings.NewReader(chat(text, `"stream":true`)))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, "", err
	}
	first = time.Since(began)
	rest, err := io.ReadAll(in)
	return first, said(line + string(rest)), err
}

// BenchmarkStream asks for a stream of 128 events, directly over the engine's socket and through the channel,
// at once and on the sending grid. "first-ns" is the time to the first event; what a whole stream takes longer
// through the channel, divided by its events, is the cost of an event.
func BenchmarkStream(b *testing.B) {
	text := strings.TrimSpace(strings.Repeat("word ", 128))
	run := func(c *http.Client) func(*testing.B) {
		return func(b *testing.B) {
			var first []time.Duration
			for b.Loop() {
				ttft, got, err := stream(c, text)
				if err != nil || got != text {
					b.Fatal(err)
				}
				first = append(first, ttft)
			}
			slices.Sort(first)
			b.ReportMetric(float64(first[len(first)/2].Nanoseconds()), "first-ns")
		}
	}
	fake := infertest.Start(b)
	b.Run("direct", run(&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", fake.Socket)
	}}}))
	b.Run("channel", run(newWorld(b, func(_ *infer.Options, o *enclave.Options) { o.Tick = -1 }).http))
	b.Run("channel-grid", run(newWorld(b, nil).http))
}

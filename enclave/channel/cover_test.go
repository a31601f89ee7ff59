package channel

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// A sizesTap sees what anybody on the way sees of one direction.
type sizesTap struct {
	net.Conn
	mu    sync.Mutex
	sizes []int
	times []time.Time
}

func (w *sizesTap) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.sizes, w.times = append(w.sizes, len(p)), append(w.times, time.Now())
	w.mu.Unlock()
	return w.Conn.Write(p)
}

func (w *sizesTap) seen() (sizes []int, times []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sizes), slices.Clone(w.times)
}

// TestCover: with cover there is a record at each tick, tokens or none, and all look the same; without, tokens
// are what is seen. When the stream has ended there is silence.
func TestCover(t *testing.T) {
	const tick, ticks = 40 * time.Millisecond, 16
	for _, cover := range []bool{false, true} {
		a, b := session(t, config(), config())
		tap := &sizesTap{Conn: b.conn}
		b.conn = tap
		server, client := NewMux(b, MuxOptions{Server: true, Tick: tick, Cover: cover}), NewMux(a, MuxOptions{})
		defer server.Abort()
		defer client.Abort()
		s, err := client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.End(StatusOK); err != nil {
			t.Fatal(err)
		}
		answer, err := server.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i := range ticks {
			if i == 0 || i == 3 || i == 4 || i == 11 {
				if _, err := answer.Write([]byte("one token of an answer")); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(tick)
		}
		sizes, times := tap.seen()
		if err := answer.End(StatusOK); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || len(got) != 4*22 {
			t.Errorf("cover %v: %d bytes, %v", cover, len(got), err)
		}
		for _, n := range sizes {
			if n != 2+bucket+tagSize {
				t.Errorf("cover %v: records of %d bytes", cover, sizes)
				break
			}
		}
		// Each tick has one record at most. A machine under load oversleeps some, so that ticks are counted by its clock.
		passed := int(time.Since(began)/tick) + 2
		if cover && (len(sizes) <= 5 || len(sizes) > passed) || !cover && (len(sizes) < 2 || len(sizes) > 4) {
			t.Errorf("cover %v: %d records of 4 tokens in %d ticks, at %v", cover, len(sizes), passed, times)
		}
		time.Sleep(2 * tick) // the last tick of the stream may still bring one
		before, _ := tap.seen()
		time.Sleep(4 * tick)
		if after, _ := tap.seen(); len(after) != len(before) {
			t.Errorf("cover %v: %d records after the stream has ended", cover, len(after)-len(before))
		}
		server.mu.Lock()
		if server.covering {
			t.Errorf("cover %v goes on", cover)
		}
		server.mu.Unlock()
	}
}

// TestCoverTakesShape: cover is as long as what it covers, within bounds.
func TestCoverTakesShape(t *testing.T) {
	a, b := session(t, config(), config())
	tap := &sizesTap{Conn: b.conn}
	b.conn = tap
	server, client := NewMux(b, MuxOptions{Server: true, Tick: 20 * time.Millisecond, Cover: true}), NewMux(a, MuxOptions{})
	defer server.Abort()
	defer client.Abort()
	s, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	answer, err := server.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ write, pad int }{{900, 1024}, {10, 256}, {MaxData, maxCover}} {
		if _, err := answer.Write(make([]byte, c.write)); err != nil {
			t.Fatal(err)
		}
		want := 2 + c.pad + tagSize
		ok := false
		for range 200 {
			sizes, _ := tap.seen()
			if n := len(sizes); n >= 3 && sizes[n-1] == want && sizes[n-2] == want { // at most one of them is data
				ok = true
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !ok {
			sizes, _ := tap.seen()
			t.Errorf("after %d bytes: no cover of %d bytes in %d", c.write, want, sizes)
		}
	}
}

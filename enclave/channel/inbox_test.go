package channel

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestInbox compares an inbox with the standard library's buffer, over sizes around a block's.
func TestInbox(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var q inbox
	var want bytes.Buffer
	for range 5000 {
		p := make([]byte, rng.IntN(3*block))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			q.add(p)
			want.Write(p)
		} else {
			other := make([]byte, len(p))
			n := q.read(p)
			m, _ := want.Read(other)
			if n != m || !bytes.Equal(p[:n], other[:m]) {
				t.Fatalf("read %d bytes, want %d, or other bytes", n, m)
			}
		}
		if q.len() != want.Len() {
			t.Fatalf("%d bytes held, want %d", q.len(), want.Len())
		}
	}
	q.reset()
	if q.len() != 0 || q.read(make([]byte, 9)) != 0 {
		t.Error("bytes left after reset")
	}
}

// TestInboxWipes keeps hold of a block that was read.
func TestInboxWipes(t *testing.T) {
	var q inbox
	q.add(bytes.Repeat([]byte{7}, block))
	b := q.blocks[0]
	q.read(make([]byte, block))
	if *b != [block]byte{} {
		t.Error("a block went back to the pool with its content")
	}
}

// TestBufferFits watches the reader grow with large records and shrink when only small ones come.
func TestBufferFits(t *testing.T) {
	wire := new(bytes.Buffer)
	cl, sv := loopback(t)
	cl.conn, sv.conn = script{nil, wire}, script{wire, nil}
	sv.r.in = bufio.NewReaderSize(wire, readBuffer)
	round := func(size, times, want int) {
		t.Helper()
		for range times {
			if err := cl.Send(t.Context(), Record{Type: Data, Stream: 1, Payload: make([]byte, size)}); err != nil {
				t.Fatal(err)
			}
			if r, err := sv.Receive(t.Context()); err != nil || len(r.Payload) != size {
				t.Fatal(err)
			}
		}
		if got := sv.r.in.Size(); got != want {
			t.Errorf("a reader of %d bytes after records of %d, want %d", got, size, want)
		}
	}
	round(1000, 5, readBuffer)
	round(MaxData, 2, bulkBuffer)
	round(1000, quiet, bulkBuffer)
	round(1000, 1, readBuffer)
}

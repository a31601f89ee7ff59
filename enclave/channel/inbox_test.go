package channel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
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

// TestReceiveWipes keeps hold of the buffer in which records were decrypted: nothing of them is left there when a larger
// record has come, or the session has ended.
func TestReceiveWipes(t *testing.T) {
	cl, sv := loopback(t)
	got := func(want int) []byte {
		t.Helper()
		r, err := sv.Receive(t.Context())
		if err != nil || len(r.Payload) != want {
			t.Fatalf("%d bytes, %v", len(r.Payload), err)
		}
		return sv.r.buf[:cap(sv.r.buf)]
	}
	send := func(r Record) {
		t.Helper()
		if err := cl.Send(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	wiped := func(what string, b []byte) {
		t.Helper()
		if bytes.Contains(b, []byte("sesame")) {
			t.Errorf("%s: a record is still in the buffer", what)
		}
	}
	secret := bytes.Repeat([]byte("sesame"), 200)
	send(Record{Type: Data, Stream: 1, Payload: secret})
	small := got(len(secret))
	send(Record{Type: Data, Stream: 1, Payload: bytes.Repeat(secret, 10)})
	large := got(10 * len(secret))
	wiped("a larger record", small)
	send(Record{Type: Close})
	if !bytes.Contains(large, []byte("sesame")) {
		t.Error("the record is not where it is looked for")
	}
	if _, err := sv.Receive(t.Context()); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	wiped("the end", large)
}

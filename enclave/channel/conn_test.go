package channel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestManyRecords sends 1500 random records each way at once, with a key change every 7 records, and
// wants them back in order.
func TestManyRecords(t *testing.T) {
	cfg := config()
	cfg.RekeyAfter = 7
	a, b := session(t, cfg, cfg)
	var wg sync.WaitGroup
	for i, dir := range [][2]*Conn{{a, b}, {b, a}} {
		const records = 1500
		want := mathrand.New(mathrand.NewPCG(uint64(i), 1))
		next := func(r *mathrand.Rand) Record {
			switch n := r.IntN(20); n {
			case 0:
				return Record{Type: End, Stream: 1 + r.Uint32()/2, Status: Status(r.IntN(3))}
			case 1:
				return Record{Type: Pad, Payload: make([]byte, r.IntN(MaxData+1))}
			default:
				p := make([]byte, 1+r.IntN([]int{10, 300, MaxData}[n%3]))
				for i := range p {
					p[i] = byte(r.Uint32())
				}
				return Record{Type: Data, Stream: 1 + r.Uint32()/2, Payload: p}
			}
		}
		wg.Add(2)
		go func() {
			defer wg.Done()
			r := mathrand.New(mathrand.NewPCG(uint64(i), 1))
			for range records {
				if err := dir[0].Send(t.Context(), next(r)); err != nil {
					t.Error(err)
					return
				}
			}
			if err := dir[0].CloseWrite(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		go func() {
			defer wg.Done()
			for range records {
				w := next(want)
				if w.Type == Pad {
					continue // never seen by the receiver
				}
				got, err := dir[1].Receive(t.Context())
				if err != nil || got.Type != w.Type || got.Stream != w.Stream || got.Status != w.Status || !bytes.Equal(got.Payload, w.Payload) {
					t.Errorf("got %v %d, %v; want %v %d", got.Type, got.Stream, err, w.Type, w.Stream)
					return
				}
			}
			if _, err := dir[1].Receive(t.Context()); err != io.EOF {
				t.Errorf("after CLOSE: %v", err)
			}
		}()
	}
	wg.Wait()
}

// TestSendersTakeTurns: records of many goroutines arrive whole.
func TestSendersTakeTurns(t *testing.T) {
	a, b := session(t, config(), config())
	const senders, each = 8, 50
	for i := range senders {
		go func() {
			for range each {
				a.Send(t.Context(), Record{Type: Data, Stream: uint32(i + 1), Payload: bytes.Repeat([]byte{byte(i)}, 1000+i)})
			}
		}()
	}
	count := map[uint32]int{}
	for range senders * each {
		r, err := b.Receive(t.Context())
		if err != nil || len(r.Payload) != 999+int(r.Stream) || bytes.Count(r.Payload, []byte{byte(r.Stream - 1)}) != len(r.Payload) {
			t.Fatalf("stream %d: %d bytes, %v", r.Stream, len(r.Payload), err)
		}
		count[r.Stream]++
	}
	if len(count) != senders {
		t.Errorf("%v", count)
	}
}

func TestHalfClose(t *testing.T) {
	a, b := session(t, config(), config())
	go a.CloseWrite(t.Context())
	if _, err := b.Receive(t.Context()); err != io.EOF {
		t.Fatalf("%v, want EOF", err)
	}
	if err := a.Send(t.Context(), Record{Type: End, Stream: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("sending after CLOSE: %v", err)
	}
	go b.Send(t.Context(), Record{Type: Data, Stream: 1, Payload: []byte("still")})
	if r, err := a.Receive(t.Context()); err != nil || string(r.Payload) != "still" {
		t.Errorf("the other direction: %q, %v", r.Payload, err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	for range 2 { // sticky
		if _, err := b.Receive(t.Context()); err != io.EOF {
			t.Errorf("%v", err)
		}
	}
}

// wire is an open session whose client side the test can speak for byte by byte.
func wire(t *testing.T) (raw net.Conn, client, server *Conn) {
	t.Helper()
	cc, sc := tcpPair(t)
	c, s := shake(t, cc, sc, config(), config(), newStatic(t), nil, accept)
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	return cc, c.conn, s.conn
}

// sealed returns the next frame of c without sending it.
func sealed(t *testing.T, c *Conn, plain []byte) []byte {
	t.Helper()
	b, err := c.w.cs.Encrypt(nil, nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func plain(t *testing.T, r Record) []byte {
	t.Helper()
	b, err := appendRecord(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBadRecords: each kills the receiving direction for good, whatever follows.
func TestBadRecords(t *testing.T) {
	hello := Record{Type: Data, Stream: 1, Payload: []byte("hello")}
	edit := func(i int, v byte) func(*testing.T, *Conn) []byte {
		return func(t *testing.T, c *Conn) []byte {
			b := plain(t, hello)
			b[i] = v
			return sealed(t, c, b)
		}
	}
	for _, c := range []struct {
		name, want string
		frames     func(*testing.T, *Conn) []byte
	}{
		{"flipped bit", "does not decrypt", func(t *testing.T, c *Conn) []byte { b := sealed(t, c, plain(t, hello)); b[9] ^= 1; return b }},
		{"flipped tag", "does not decrypt", func(t *testing.T, c *Conn) []byte {
			b := sealed(t, c, plain(t, hello))
			b[len(b)-1] ^= 1
			return b
		}},
		{"dropped record", "does not decrypt", func(t *testing.T, c *Conn) []byte {
			sealed(t, c, plain(t, hello))
			return sealed(t, c, plain(t, hello))
		}},
		{"replayed record", "does not decrypt", func(t *testing.T, c *Conn) []byte {
			b := sealed(t, c, plain(t, Record{Type: Pad}))
			return append(b, b...)
		}},
		{"swapped records", "does not decrypt", func(t *testing.T, c *Conn) []byte {
			b := sealed(t, c, plain(t, hello))
			return append(sealed(t, c, plain(t, hello)), b...)
		}},
		{"reflected record", "does not decrypt", func(t *testing.T, c *Conn) []byte {
			b, err := c.r.cs.Encrypt(nil, nil, plain(t, hello))
			if err != nil {
				t.Fatal(err)
			}
			return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		}},
		{"empty frame", "frame of 0 bytes", func(*testing.T, *Conn) []byte { return []byte{0, 0} }},
		{"short frame", "record of 5 bytes", func(*testing.T, *Conn) []byte { return []byte{0, 5, 1, 2, 3, 4, 5} }},
		{"oversize frame", "frame of 16401 bytes", func(*testing.T, *Conn) []byte { return binary.BigEndian.AppendUint16(nil, maxPlain+tagSize+1) }},
		{"largest frame", "frame of 65535 bytes", func(*testing.T, *Conn) []byte { return []byte{0xff, 0xff} }},
		{"unpadded record", "record of 264 bytes", func(t *testing.T, c *Conn) []byte { return sealed(t, c, append(plain(t, hello), make([]byte, 8)...)) }},
		{"a bucket too many", "with a payload of 5", func(t *testing.T, c *Conn) []byte {
			return sealed(t, c, append(plain(t, hello), make([]byte, bucket)...))
		}},
		{"unknown type", "unknown type 10", edit(0, 10)},
		{"type zero", "unknown type 0", edit(0, 0)},
		{"flags", "unknown flags 0x80", edit(1, 0x80)},
		{"length beyond", "with a payload of", edit(6, 0xff)},
		{"padding not zero", "padding is not zero", edit(bucket-1, 1)},
		{"data on stream 0", "type 1 on stream 0", edit(5, 0)},
		{"end of five bytes", "type 2 on stream 1 with 5 bytes", edit(0, 2)},
		{"close on a stream", "type 3 on stream 1", edit(0, 3)},
		{"connection cut in a record", ErrTruncated.Error(), func(t *testing.T, c *Conn) []byte { b := sealed(t, c, plain(t, hello)); return b[:len(b)-1] }},
		{"connection cut in a length", ErrTruncated.Error(), func(t *testing.T, c *Conn) []byte { return []byte{1} }},
		{"connection cut between records", ErrTruncated.Error(), func(t *testing.T, c *Conn) []byte { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, client, server := wire(t)
			frames := c.frames(t, client)
			frames = append(frames, sealed(t, client, plain(t, hello))...) // a good one behind it never counts
			if strings.Contains(c.want, "without an authenticated") {
				frames = frames[:len(frames)-2-bucket-tagSize]
			}
			raw.Write(frames)
			raw.Close()
			var first error
			for range 3 {
				r, err := server.Receive(t.Context())
				if err == nil {
					t.Fatalf("received %v", r)
				}
				if first == nil {
					first = err
				}
				if err != first {
					t.Errorf("then %v", err)
				}
			}
			if first == io.EOF || !strings.Contains(first.Error(), c.want) {
				t.Errorf("%v; want %q", first, c.want)
			}
		})
	}
}

// TestRecordSizes: a plaintext is whole buckets, from one to the most that a frame holds.
func TestRecordSizes(t *testing.T) {
	for _, n := range []int{0, 1, recordHeader, bucket - 1, bucket + 1, maxPlain - 1, maxPlain + bucket} {
		b := make([]byte, n)
		if n > recordHeader {
			b[0] = byte(Pad)
			binary.BigEndian.PutUint16(b[6:], uint16(max(0, n-recordHeader)))
		}
		if r, err := parseRecord(b); err == nil {
			t.Errorf("%d bytes: %+v", n, r)
		}
	}
}

// TestPeerMustRekey: a peer that goes on under an old key is cut off.
func TestPeerMustRekey(t *testing.T) {
	raw, client, server := wire(t)
	pad := plain(t, Record{Type: Pad})
	go func() {
		for range MaxRecordsPerKey {
			if _, err := raw.Write(sealed(t, client, pad)); err != nil {
				return
			}
		}
	}()
	if _, err := server.Receive(t.Context()); err == nil || !strings.Contains(err.Error(), "16384 records under one key") {
		t.Errorf("%v", err)
	}
}

// TestCloseIsLast: the last place under a key is the rekey record's, or CLOSE's.
func TestCloseIsLast(t *testing.T) {
	raw, client, server := wire(t)
	pad := plain(t, Record{Type: Pad})
	go func() {
		for range MaxRecordsPerKey - 1 {
			if _, err := raw.Write(sealed(t, client, pad)); err != nil {
				return
			}
		}
		raw.Write(sealed(t, client, plain(t, Record{Type: Close})))
	}()
	if _, err := server.Receive(t.Context()); err != io.EOF {
		t.Errorf("%v", err)
	}
}

// TestDefaultRekey goes over the default limit and wants both counters to have begun anew.
func TestDefaultRekey(t *testing.T) {
	_, a, b := wire(t)
	before := a.w.cs.UnsafeKey()
	const n = MaxRecordsPerKey + 10
	go func() {
		for range n {
			a.Send(t.Context(), Record{Type: End, Stream: 1})
		}
	}()
	for i := range n {
		if _, err := b.Receive(t.Context()); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if b.r.count != 11 || b.r.cs.UnsafeKey() == before {
		t.Errorf("count %d after %d records", b.r.count, n)
	}
}

// TestObserve: both sides are told of each change of a key, and of the time of the ninth record in every 64 under one.
func TestObserve(t *testing.T) {
	type side struct{ sentKeys, gotKeys, sealed, opened int }
	watch := func(into *side) Config {
		cfg, now := config(), time.Unix(1767225600, 0)
		cfg.RekeyAfter = 100
		cfg.Now = func() time.Time { now = now.Add(time.Microsecond); return now }
		cfg.Observe = func(e RecordEvent) {
			switch {
			case e.Rekeyed && e.Took == 0 && e.Sent:
				into.sentKeys++
			case e.Rekeyed && e.Took == 0:
				into.gotKeys++
			case e.Took == time.Microsecond && e.Sent:
				into.sealed++
			case e.Took == time.Microsecond:
				into.opened++
			default:
				t.Errorf("%+v", e)
			}
		}
		return cfg
	}
	var atA, atB side
	a, b := session(t, watch(&atA), watch(&atB))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 450 {
			a.Send(t.Context(), Record{Type: End, Stream: 1})
		}
	}()
	for i := range 450 {
		if _, err := b.Receive(t.Context()); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	<-done
	// Four keys of 99 records and the one that changes it, and 54 records under the fifth.
	if want := (side{sentKeys: 4, sealed: 9}); atA != want {
		t.Errorf("sender: %+v, want %+v", atA, want)
	}
	if want := (side{gotKeys: 4, opened: 9}); atB != want {
		t.Errorf("receiver: %+v, want %+v", atB, want)
	}
}

// TestOldKeyIsChanged: time alone changes the key.
func TestOldKeyIsChanged(t *testing.T) {
	now := time.Unix(1767225600, 0)
	cfg := config()
	cfg.Now = func() time.Time { return now }
	a, b := session(t, cfg, config())
	send := func() {
		t.Helper()
		go a.Send(t.Context(), Record{Type: End, Stream: 1})
		if _, err := b.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send()
	before := b.r.cs.UnsafeKey()
	now = now.Add(MaxKeyAge - 1)
	send()
	if b.r.cs.UnsafeKey() != before {
		t.Error("changed before its time")
	}
	now = now.Add(1)
	send()
	if b.r.cs.UnsafeKey() == before {
		t.Error("not changed at its time")
	}
}

func TestSendRefuses(t *testing.T) {
	a, b := session(t, config(), config())
	for name, r := range map[string]Record{
		"empty data":   {Type: Data, Stream: 1},
		"stream 0":     {Type: Data, Payload: []byte("x")},
		"too long":     {Type: Data, Stream: 1, Payload: make([]byte, MaxData+1)},
		"unknown type": {Type: 99},
		"rekey":        {Type: rekey},
		"close stream": {Type: Close, Stream: 1},
	} {
		if err := a.Send(t.Context(), r); err == nil {
			t.Errorf("%s: sent", name)
		}
	}
	echoOnce(t, a, b) // a mistake of the caller costs no nonce
}

// TestContextEndsAReceive: the direction is dead afterwards, the other one lives.
func TestContextEndsAReceive(t *testing.T) {
	a, b := session(t, config(), config())
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := a.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if _, err := a.Receive(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("the direction lives: %v", err)
	}
	go a.Send(t.Context(), Record{Type: End, Stream: 3})
	if r, err := b.Receive(t.Context()); err != nil || r.Stream != 3 {
		t.Errorf("%v, %v", r, err)
	}
	// A context that has ended before anything happened costs nothing.
	if err := a.Send(ctx, Record{Type: End, Stream: 3}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	go a.Send(t.Context(), Record{Type: End, Stream: 4})
	if r, err := b.Receive(t.Context()); err != nil || r.Stream != 4 {
		t.Errorf("%v, %v", r, err)
	}
}

// TestSlowReader: a send to a peer that does not read ends with its context.
func TestSlowReader(t *testing.T) {
	a, _ := session(t, config(), config())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.Send(ctx, Record{Type: End, Stream: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	if err := a.Send(t.Context(), Record{Type: End, Stream: 1}); err == nil {
		t.Error("sent after half a record")
	}
	if err := a.Close(t.Context()); err == nil {
		t.Error("Close says that the peer knows")
	}
}

func TestAbort(t *testing.T) {
	_, a, b := wire(t)
	a.Abort()
	if _, err := b.Receive(t.Context()); !errors.Is(err, ErrTruncated) {
		t.Errorf("%v", err)
	}
}

// TestLengthsTellLittle: all payloads of a bucket have one length on the wire.
func TestLengthsTellLittle(t *testing.T) {
	for n, want := range map[int]int{1: 256, 248: 256, 249: 512, 504: 512, MaxData: 16384} {
		if got := len(plain(t, Record{Type: Data, Stream: 1, Payload: make([]byte, n)})); got != want {
			t.Errorf("%d bytes: %d, want %d", n, got, want)
		}
	}
	for _, r := range []Record{{Type: End, Stream: 9}, {Type: Close}, {Type: rekey}, {Type: Pad}} {
		if got := len(plain(t, r)); got != 256 {
			t.Errorf("type %d: %d", r.Type, got)
		}
	}
}

// TestWriteToNobody: a peer that has gone is ErrTruncated for whoever writes, too.
func TestWriteToNobody(t *testing.T) {
	cc, sc := tcpPair(t)
	c, s := shake(t, cc, sc, config(), config(), newStatic(t), nil, accept)
	if c.err != nil || s.err != nil {
		t.Fatal(c.err, s.err)
	}
	s.conn.Abort()
	var err error
	for range 1000 { // the first ones are buffered
		if err = c.conn.Send(t.Context(), Record{Type: Data, Stream: 1, Payload: make([]byte, MaxData)}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrTruncated) {
		t.Errorf("%v", err)
	}
}

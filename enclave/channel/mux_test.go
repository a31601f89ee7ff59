package channel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// muxes is a session with a Mux on each side.
func muxes(t testing.TB, server MuxOptions) (client, srv *Mux) {
	t.Helper()
	a, b := session(t, config(), config())
	server.Server = true
	client, srv = NewMux(a, MuxOptions{}), NewMux(b, server)
	t.Cleanup(func() { client.Abort(); srv.Abort() })
	return client, srv
}

// echoStreams serves all streams of m.
func echoStreams(t testing.TB, m *Mux) {
	go func() {
		for {
			s, err := m.Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				defer s.Close()
				if _, err := io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s}); err == nil {
					s.End(StatusOK)
				}
			}()
		}
	}()
}

// ask sends msg on a stream of its own and returns what comes back.
func ask(ctx context.Context, m *Mux, msg []byte) ([]byte, error) {
	s, err := m.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	go func() {
		if _, err := s.Write(msg); err == nil {
			s.End(StatusOK)
		}
	}()
	return io.ReadAll(s)
}

// TestStreamsAtOnce runs 40 exchanges of up to three windows over one session.
func TestStreamsAtOnce(t *testing.T) {
	client, server := muxes(t, MuxOptions{})
	echoStreams(t, server)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			msg := bytes.Repeat([]byte{byte(i), 1}, i*10_000)
			if got, err := ask(t.Context(), client, msg); err != nil || !bytes.Equal(got, msg) {
				t.Errorf("stream %d: %d bytes of %d, %v", i, len(got), len(msg), err)
			}
		}()
	}
	wg.Wait()
	for _, m := range []*Mux{client, server} {
		m.mu.Lock()
		if m.reserved != 0 || len(m.streams) != 0 && m == client {
			t.Errorf("%d streams, %d reserved left", len(m.streams), m.reserved)
		}
		m.mu.Unlock()
	}
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := server.Accept(t.Context()); err != io.EOF {
		t.Errorf("after CLOSE: %v", err)
	}
}

// TestUnreadStream: a stream that nobody reads holds one window, and no other stream waits for it.
func TestUnreadStream(t *testing.T) {
	client, server := muxes(t, MuxOptions{})
	slow, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	wrote := make(chan int, 1)
	go func() { n, _ := slow.Write(make([]byte, 3*StreamWindow)); wrote <- n }()
	held, err := server.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	echoStreams(t, server)
	for range 20 {
		if got, err := ask(t.Context(), client, make([]byte, StreamWindow)); err != nil || len(got) != StreamWindow {
			t.Fatalf("%d, %v", len(got), err)
		}
	}
	<-ctx.Done()
	server.mu.Lock()
	if held.in.len() != StreamWindow {
		t.Errorf("held %d bytes, want %d", held.in.len(), StreamWindow)
	}
	server.mu.Unlock()
	slow.Close()
	if n := <-wrote; n != StreamWindow {
		t.Errorf("wrote %d bytes", n)
	}
	if _, err := io.ReadAll(held); !errors.Is(err, ErrReset) {
		t.Errorf("the server's reader: %v", err)
	}
	if !errors.Is(context.Cause(held.Context()), ErrReset) {
		t.Errorf("the server's context: %v", context.Cause(held.Context()))
	}
	held.Close()
	if got, err := ask(t.Context(), client, []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("after the reset: %q, %v", got, err)
	}
}

// TestDroppedDataIsCredited: what arrives for streams that were given up does not eat the session's window.
func TestDroppedDataIsCredited(t *testing.T) {
	client, server := muxes(t, MuxOptions{})
	go func() {
		for {
			s, err := server.Accept(t.Context())
			if err != nil {
				return
			}
			go func() { defer s.Close(); s.Write(make([]byte, StreamWindow)); s.End(StatusOK) }()
		}
	}()
	for range 20 { // 5 MiB, five session windows
		s, err := client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.End(StatusOK)
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

func TestStall(t *testing.T) {
	client, server := muxes(t, MuxOptions{Stall: 50 * time.Millisecond, ReadStall: 50 * time.Millisecond})
	s, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Write([]byte("half a request")); err != nil {
		t.Fatal(err)
	}
	at, err := server.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(at); !errors.Is(err, ErrStalled) {
		t.Errorf("reading: %v", err)
	}
	if n, err := at.Write(make([]byte, 2*StreamWindow)); !errors.Is(err, ErrStalled) || n != StreamWindow {
		t.Errorf("writing: %d, %v", n, err)
	}
	at.Close()
	if _, err := io.ReadAll(s); !errors.Is(err, ErrReset) {
		t.Errorf("the client: %v", err)
	}
}

// TestCloseBehindWrite: a write that the peer does not take holds Close up no longer than its context.
func TestCloseBehindWrite(t *testing.T) {
	a, _ := session(t, config(), config()) // nobody reads at the other end
	m := NewMux(a, MuxOptions{})
	s, err := m.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wrote := make(chan error)
	go func() {
		_, err := s.Write(make([]byte, StreamWindow))
		wrote <- err
	}()
	for blocked := false; !blocked; time.Sleep(time.Millisecond) {
		if blocked = !a.w.TryLock(); !blocked {
			a.w.Unlock()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := m.Close(ctx); err == nil {
		t.Error("closed as if CLOSE had been sent")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %s", took)
	}
	if err := <-wrote; err == nil {
		t.Error("the write went through")
	}
}

// TestRogueStreams: what breaks the rules of streams ends the session, and no engine takes what came for a
// whole request.
func TestRogueStreams(t *testing.T) {
	one := Record{Type: Data, Stream: 1, Payload: []byte("x")}
	full := Record{Type: Data, Stream: 1, Payload: make([]byte, MaxData)}
	var many, flood []Record
	for i := range uint32(MaxStreams + 1) {
		many = append(many, Record{Type: Data, Stream: i + 1, Payload: []byte("x")})
	}
	for range StreamWindow/MaxData + 1 {
		flood = append(flood, full)
	}
	for want, records := range map[string][]Record{
		"stream 2, which is not open":    {{Type: Data, Stream: 2, Payload: []byte("x")}},
		"stream 3, which is not open":    {one, {Type: End, Stream: 3}},
		"type 6 on stream 1, which":      {{Type: Reset, Stream: 1}},
		"type 7 on stream 1, which":      {{Type: Window, Stream: 1, Credit: 1}},
		"more than 16 streams":           many,
		"without credit":                 flood,
		"type 1 after the end":           {one, {Type: End, Stream: 1}, one},
		"type 2 after the end":           {one, {Type: End, Stream: 1}, {Type: End, Stream: 1}},
		"request ended with status 1":    {one, {Type: End, Stream: 1, Status: StatusFailed}},
		"credit of 1 bytes beyond":       {one, {Type: Window, Stream: 1, Credit: 1}},
		"credit of 4294967295 bytes bey": {one, {Type: Window, Credit: 1<<32 - 1}},
		"the peer closed the session":    {one, {Type: Close}},
	} {
		a, b := session(t, config(), config())
		server := NewMux(b, MuxOptions{Server: true})
		go func() {
			for _, r := range records {
				if a.Send(t.Context(), r) != nil {
					return
				}
			}
		}()
		var err error
		for err == nil {
			var s *Stream
			if s, err = server.Accept(t.Context()); err == nil {
				<-server.ctx.Done()
				got, rerr := io.ReadAll(s)
				if strings.HasPrefix(want, "type") && len(records) == 3 { // came whole, before the error
					rerr = errors.New("not the point")
				}
				if rerr == nil {
					t.Errorf("%s: a request of %d bytes taken for whole", want, len(got))
				}
			}
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
		server.Abort()
	}
}

// TestDroppedData: what still comes for a stream that was given up is not held, and is credited.
func TestDroppedData(t *testing.T) {
	a, b := session(t, config(), config())
	client := NewMux(a, MuxOptions{})
	defer client.Abort()
	s, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() { s.Write([]byte("x")); s.Close() }()
	for _, want := range []Type{Data, Reset} {
		if r, err := b.Receive(t.Context()); err != nil || r.Type != want {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	for _, r := range []Record{{Type: Data, Stream: 1, Payload: make([]byte, 100)}, {Type: End, Stream: 1}, {Type: Close}} {
		if err := b.Send(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	<-client.ctx.Done()
	client.mu.Lock()
	defer client.mu.Unlock()
	if client.owed != 100 || s.in.len() != 0 || len(client.streams) != 0 {
		t.Errorf("%d bytes to be credited, %d held, %d streams", client.owed, s.in.len(), len(client.streams))
	}
}

// TestSessionFlood: the streams of a session have their credit together, however much each has left.
func TestSessionFlood(t *testing.T) {
	a, b := session(t, config(), config())
	server := NewMux(b, MuxOptions{Server: true})
	defer server.Abort()
	go func() {
		for id := uint32(1); ; id++ {
			for left := StreamWindow; left > 0; left -= MaxData {
				if a.Send(context.Background(), Record{Type: Data, Stream: id, Payload: make([]byte, min(left, MaxData))}) != nil {
					return
				}
			}
		}
	}()
	<-server.ctx.Done()
	if err := context.Cause(server.ctx); !strings.Contains(err.Error(), "on stream 5 without credit") {
		t.Error(err)
	}
}

// TestLateRecords: of a stream that is over, credit and RESET may still be on their way, and nothing else.
func TestLateRecords(t *testing.T) {
	for name, late := range map[string]Record{"data": {Type: Data, Stream: 1, Payload: []byte("x")}, "end": {Type: End, Stream: 1}} {
		a, b := session(t, config(), config())
		client := NewMux(a, MuxOptions{})
		defer client.Abort()
		exchange := func(id uint32) {
			t.Helper()
			s, err := client.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			go s.End(StatusOK)
			if r, err := b.Receive(t.Context()); err != nil || r.Type != End || r.Stream != id {
				t.Fatalf("%+v, %v", r, err)
			}
			if err := b.Send(t.Context(), Record{Type: End, Stream: id}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(s); err != nil {
				t.Fatal(err)
			}
		}
		exchange(1)
		for _, r := range []Record{{Type: Window, Stream: 1, Credit: StreamWindow}, {Type: Reset, Stream: 1, Status: StatusCancelled}} {
			if err := b.Send(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		exchange(2)
		if err := b.Send(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		<-client.ctx.Done()
		if err := context.Cause(client.ctx); !strings.Contains(err.Error(), "stream 1, which is not open") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRogueEnclave: what breaks the rules ends the session at the client as well, and no answer is taken for whole.
func TestRogueEnclave(t *testing.T) {
	one := Record{Type: Data, Stream: 1, Payload: []byte("x")}
	end := Record{Type: End, Stream: 1}
	full := Record{Type: Data, Stream: 1, Payload: make([]byte, MaxData)}
	var flood []Record
	for range StreamWindow/MaxData + 1 {
		flood = append(flood, full)
	}
	for name, c := range map[string]struct {
		records []Record
		want    string // of the session
		whole   bool   // the answer had ended by then
	}{
		"a stream of its own":     {[]Record{one, {Type: Data, Stream: 2, Payload: []byte("x")}}, "stream 2, which is not open", false},
		"the end of another":      {[]Record{one, {Type: End, Stream: 3}}, "stream 3, which is not open", false},
		"more after the end":      {[]Record{one, end, one}, "type 1 after the end", true},
		"a second end":            {[]Record{one, end, end}, "type 2 after the end", true},
		"an end after a reset":    {[]Record{one, {Type: Reset, Stream: 1, Status: StatusFailed}, end}, "type 2 after the end", false},
		"more than its credit":    {flood, "without credit", false},
		"credit beyond":           {[]Record{one, {Type: Window, Stream: 1, Credit: StreamWindow}}, "beyond the window", false},
		"credit of all beyond":    {[]Record{one, {Type: Window, Credit: SessionWindow}}, "beyond the window", false},
		"a question":              {[]Record{one, {Type: askRecord, Payload: Ask{Documents: SessionEvidence}.append(nil)}}, "the enclave asks", false},
		"an answer to nothing":    {[]Record{one, {Type: answerRecord, Payload: answer{document: SessionEvidence, status: StatusNone}.append(nil)}}, "nothing was asked", false},
		"a close in the middle":   {[]Record{one, {Type: Close}}, "the peer closed the session", false},
		"a close and what it was": {[]Record{one, end, {Type: Close}}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := session(t, config(), config())
			client := NewMux(a, MuxOptions{})
			defer client.Abort()
			s, err := client.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			go s.Write([]byte("hello")) // and no end: the stream stays
			if _, err := b.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, r := range c.records {
				if b.Send(t.Context(), r) != nil {
					break
				}
			}
			<-client.ctx.Done()
			if err := context.Cause(client.ctx); c.want != "" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
			if _, err := io.ReadAll(s); (err == nil) != c.whole {
				t.Errorf("the answer: %v; whole: %v", err, c.whole)
			}
			if _, err := client.Open(t.Context()); err == nil {
				t.Error("a stream after the end of the session")
			}
		})
	}
}

// TestTick: a server with a grid sends what was written between two ticks as one record, on the tick.
func TestTick(t *testing.T) {
	for _, tick := range []time.Duration{0, 100 * time.Millisecond} {
		a, b := session(t, config(), config())
		server := NewMux(b, MuxOptions{Server: true, Tick: tick})
		defer server.Abort()
		go a.Send(t.Context(), Record{Type: End, Stream: 1})
		s, err := server.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range 20 {
				s.Write([]byte("token "))
			}
			s.End(StatusOK)
		}()
		var sizes []int
		var ended time.Duration
		for {
			r, err := a.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Type == End {
				ended = time.Since(server.start)
				break
			}
			sizes = append(sizes, len(r.Payload))
		}
		if tick == 0 && len(sizes) != 20 || tick > 0 && (len(sizes) != 1 || sizes[0] != 120) {
			t.Errorf("tick %v: records of %d bytes", tick, sizes)
		}
		if ended < tick {
			t.Errorf("tick %v: ended after %v", tick, ended)
		}
	}
}

func TestIdleSession(t *testing.T) {
	client, server := muxes(t, MuxOptions{Idle: 400 * time.Millisecond})
	echoStreams(t, server)
	s, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("a stream is open"))
	time.Sleep(700 * time.Millisecond)
	if s.End(StatusOK); server.ctx.Err() != nil {
		t.Fatal("ended with a stream open")
	}
	if _, err := io.ReadAll(s); err != nil {
		t.Fatal(err)
	}
	s.Close()
	<-server.ctx.Done()
	if err := context.Cause(server.ctx); err != ErrIdle {
		t.Errorf("%v", err)
	}
}

// TestReadGivesUpItsBuffer holds a Read that has given up to its word: what comes later is for the next, and lies in no
// buffer of the one before.
func TestReadGivesUpItsBuffer(t *testing.T) {
	client, server := muxes(t, MuxOptions{Server: true, ReadStall: 20 * time.Millisecond})
	s, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	in, err := server.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late, p := make([]byte, 8), make([]byte, 8)
	if n, err := in.Read(p); err != nil || string(p[:n]) != "one" {
		t.Fatalf("%q, %v", p[:n], err)
	}
	if _, err := in.Read(late); !errors.Is(err, ErrStalled) {
		t.Fatalf("%v, want a stall", err)
	}
	if _, err := s.Write([]byte("two, longer than eight")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) < 22 {
		n, err := in.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	if string(got) != "two, longer than eight" || string(late) != string(make([]byte, 8)) {
		t.Fatalf("got %q; the buffer given up holds %q", got, late)
	}
}

package infer

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// half reads like a body that has not ended.
type half struct {
	*bytes.Reader
	come chan bool // told when all that comes has come
	end  chan error
}

func (h half) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		h.come <- true
		err = <-h.end
	}
	return n, err
}

// TestRoom: what all requests hold, and what those of a session hold, has a limit; small requests need none of it, and what
// ends gives back what it held.
func TestRoom(t *testing.T) {
	all := newRoom(3<<20, nil)
	one, other := newRoom(2<<20, all), newRoom(2<<20, all)
	const long = 1<<20 - 5 // holds a buffer of 1 MiB, of which smallBody is free
	end := make(chan error)
	var given sync.WaitGroup
	hold := func(r *room) {
		h := half{bytes.NewReader(make([]byte, long)), make(chan bool), end}
		given.Go(func() {
			_, release, no, _ := r.readBody(h)
			if release(); no != nil {
				t.Error(no)
			}
		})
		<-h.come
	}
	read := func(r *room, size int) *refusal {
		_, release, no, err := r.readBody(bytes.NewReader(make([]byte, size)))
		release()
		if err != nil {
			t.Error(err)
		}
		return no
	}
	hold(one)
	hold(one)
	if no := read(one, long); no != busy {
		t.Errorf("a third body of a session: %v, want %v", no, busy)
	}
	hold(other)
	if no := read(other, long); no != busy {
		t.Errorf("a fourth body in all: %v, want %v", no, busy)
	}
	for _, r := range []*room{one, other} {
		if no := read(r, smallBody-1); no != nil {
			t.Errorf("a small body: %v", no)
		}
	}
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, io.EOF} {
		end <- err
	}
	given.Wait()
	if all.left.Load() != 3<<20 || one.left.Load() != 2<<20 || other.left.Load() != 2<<20 {
		t.Errorf("left %d, %d and %d: not all was given back", all.left.Load(), one.left.Load(), other.left.Load())
	}
	if no := read(one, long); no != nil {
		t.Errorf("after all that: %v", no)
	}
}

// TestBodySizes: a body comes whole at each edge of its buffer, and one byte over the limit is a refusal.
func TestBodySizes(t *testing.T) {
	r := newRoom(MaxBodies, nil)
	for _, n := range []int{0, 1, smallBody / 4, smallBody, smallBody + 1, MaxBody - 1, MaxBody} {
		in := strings.Repeat("x", n)
		b, release, no, err := r.readBody(strings.NewReader(in))
		if release(); string(b) != in || no != nil || err != nil {
			t.Errorf("%d bytes: %d came, %v, %v", n, len(b), no, err)
		}
	}
	if _, release, no, err := r.readBody(strings.NewReader(strings.Repeat("x", MaxBody+1))); no == nil || no.code != CodeTooLong || err != nil {
		t.Errorf("over the limit: %v, %v", no, err)
	} else {
		release()
	}
	if r.left.Load() != MaxBodies {
		t.Errorf("%d left of %d", r.left.Load(), MaxBodies)
	}
}

// TestExchangeGivesRoomBack: a session has an eighth of all room, and all of it again after each request.
func TestExchangeGivesRoomBack(t *testing.T) {
	e, err := New(Options{Socket: t.TempDir() + "/none"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := e.Session([32]byte{1}).(*Engine)
	for body, code := range map[string]Code{
		`{"messages":"` + strings.Repeat("x", 1<<20) + `"}`: CodeUnavailable,
		strings.Repeat("x", 1<<20):                          CodeJSON,
		strings.Repeat("x", MaxBody+1):                      CodeTooLong,
	} {
		var in, out bytes.Buffer
		if _, err := (RequestHead{"POST", PathChat, "application/json"}).WriteTo(&in); err != nil {
			t.Fatal(err)
		}
		in.WriteString(body)
		if err := s.Exchange(t.Context(), &in, &out); err != nil || !strings.Contains(out.String(), string(code)) {
			t.Errorf("%.20s…: %s, %v; want %s", body, &out, err, code)
		}
		if s.room.left.Load() != MaxBodies/8 || e.room.left.Load() != MaxBodies {
			t.Errorf("%.20s…: %d left of the session's room, %d in all", body, s.room.left.Load(), e.room.left.Load())
		}
	}
}

package infer

import (
	"errors"
	"io"
	"strconv"
	"sync/atomic"
)

// smallBody is how much of a request's body needs no room: small requests are served when large ones fill it.
const smallBody = 16 << 10

// A room is memory for the bodies of requests. Without its limit a few clients, whom nobody has to know, could have the
// enclave hold more than the machine has, which would end it for all.
type room struct {
	left atomic.Int64 // bytes
	of   *room        // that this one is a part of; nil: none
}

func newRoom(size int64, of *room) *room {
	r := &room{of: of}
	r.left.Store(size)
	return r
}

// take reports whether there were n bytes.
func (r *room) take(n int64) bool {
	if r == nil {
		return true
	}
	if r.left.Add(-n) >= 0 && r.of.take(n) {
		return true
	}
	r.left.Add(n)
	return false
}

func (r *room) give(n int64) {
	for ; r != nil; r = r.of {
		r.left.Add(n)
	}
}

var busy = &refusal{503, CodeBusy, "the enclave holds as many bytes of requests as it may, ask again"}

// readBody reads to the end of the exchange. An error is the channel's; a refusal is the client's to know. The body has
// taken room, which release gives back.
func (r *room) readBody(in io.Reader) (b []byte, release func(), no *refusal, err error) {
	taken := int64(0)
	release = func() { r.give(taken) }
	b = make([]byte, 0, smallBody/4)
	for {
		if len(b) == cap(b) {
			size := min(2*cap(b), MaxBody+1) // one byte more than may come tells a long body from one of just that length
			if size > smallBody {
				more := int64(size - cap(b))
				if !r.take(more) {
					return nil, release, busy, nil
				}
				taken += more
			}
			b = append(make([]byte, 0, size), b...)
		}
		n, err := in.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > MaxBody:
			return nil, release, &refusal{413, CodeTooLong, "the body is longer than " + strconv.Itoa(MaxBody) + " bytes"}, nil
		case errors.Is(err, io.EOF):
			return b, release, nil, nil
		case err != nil:
			return nil, release, nil, err
		}
	}
}

package confer

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Split cuts a message into frames the way confer-proxy does. rand gives 8 bytes: the chunk_id.
func Split(message []byte, rand io.Reader) ([]*Frame, error) {
	var id [8]byte
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return nil, fmt.Errorf("confer: %w", err)
	}
	total := max(1, (len(message)+maxChunk-1)/maxChunk)
	frames := make([]*Frame, total)
	for i := range frames {
		n := min(len(message), maxChunk)
		frames[i] = &Frame{ID: int64(binary.BigEndian.Uint64(id[:])), Index: uint32(i), Total: uint32(total), Payload: message[:n]}
		message = message[n:]
	}
	return frames, nil
}

// An Assembler puts messages together from frames, whose order is the sender's business.
type Assembler struct {
	limits  Limits
	held    int
	pending map[int64]*assembly
}

type assembly struct {
	pieces [][]byte
	left   int // pieces that have not come
	size   int
}

// NewAssembler returns an empty one.
func NewAssembler(l Limits) (*Assembler, error) {
	l, err := l.withDefaults()
	return &Assembler{limits: l, pending: map[int64]*assembly{}}, err
}

// Add takes a frame, which it copies, and returns the message that it completes, or nil. An error is final for
// the session.
func (a *Assembler) Add(f *Frame) ([]byte, error) {
	m := a.pending[f.ID]
	switch {
	case f.Total == 0 || int64(f.Total) > int64(a.limits.Chunks):
		return nil, fmt.Errorf("confer: frame: total_chunks: %d, want 1 to %d", f.Total, a.limits.Chunks)
	case f.Index >= f.Total:
		return nil, fmt.Errorf("confer: frame: chunk_index: %d of %d", f.Index, f.Total)
	case m == nil && len(a.pending) >= a.limits.Pending:
		return nil, fmt.Errorf("confer: more than %d messages begun and not ended", a.limits.Pending)
	case m != nil && len(m.pieces) != int(f.Total):
		return nil, fmt.Errorf("confer: frame: total_chunks: %d, and %d before", f.Total, len(m.pieces))
	case m != nil && m.pieces[f.Index] != nil:
		return nil, fmt.Errorf("confer: frame: chunk_index: %d twice", f.Index)
	}
	if m == nil {
		m = &assembly{pieces: make([][]byte, f.Total), left: int(f.Total)}
		a.pending[f.ID] = m
	}
	if m.size+len(f.Payload) > a.limits.Message || a.held+len(f.Payload) > a.limits.Held {
		return nil, fmt.Errorf("confer: a message of over %d bytes, or over %d bytes of messages not ended", a.limits.Message, a.limits.Held)
	}
	m.pieces[f.Index] = append([]byte{}, f.Payload...) // not nil, even when empty
	m.size, a.held, m.left = m.size+len(f.Payload), a.held+len(f.Payload), m.left-1
	if m.left > 0 {
		return nil, nil
	}
	delete(a.pending, f.ID)
	a.held -= m.size
	whole := make([]byte, 0, m.size)
	for _, p := range m.pieces {
		whole = append(whole, p...)
	}
	return whole, nil
}

package channel

import (
	"fmt"
)

// handle is what a record from the peer does. It never sends: two sides that wait for each other to read
// would not come loose.
func (m *Mux) handle(r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.idle != nil {
		m.idle.Reset(m.opt.Idle)
	}
	switch {
	case r.Type == Window && r.Stream == 0:
		return m.grant(&m.credit, int(r.Credit), SessionWindow)
	case r.Type == askRecord:
		return m.asked(r.Payload)
	case r.Type == answerRecord:
		return m.answered(r.Payload)
	}
	return m.handleStream(r)
}

// handleStream is handle for a record of a stream; m.mu is held.
func (m *Mux) handleStream(r Record) error {
	s, err := m.find(r)
	if s == nil || err != nil {
		return err
	}
	if r.Type == Window {
		return m.grant(&s.credit, int(r.Credit), StreamWindow)
	}
	if s.peerEnded && r.Type != Reset {
		return fmt.Errorf("channel: record of type %d after the end of stream %d", r.Type, r.Stream)
	}
	switch r.Type {
	case Data:
		return m.data(s, r.Payload)
	case End:
		if m.opt.Server && r.Status != StatusOK {
			return fmt.Errorf("channel: a request ended with status %d", r.Status)
		}
		s.peerEnded, s.status = true, r.Status
	case Reset:
		s.reset = true
		if !s.peerEnded { // otherwise what came before END is whole, and stays
			s.peerEnded, s.cut, s.why = true, true, r.Status
			m.owe(s.in.len())
			s.in.reset()
		}
		s.cancel(&ResetError{r.Status})
	}
	m.retire(s)
	m.signal()
	return nil
}

// find returns the stream of r: an open one, or a new one where the client opens it. What may still come
// for a stream that is over is nil without an error.
func (m *Mux) find(r Record) (*Stream, error) {
	s := m.streams[r.Stream]
	switch {
	case s != nil:
		return s, nil
	case r.Stream <= m.last && (r.Type == Window || r.Type == Reset):
		return nil, nil
	case !m.opt.Server || r.Stream != m.last+1 || r.Type != Data && r.Type != End:
		return nil, fmt.Errorf("channel: record of type %d on stream %d, which is not open", r.Type, r.Stream)
	case len(m.streams) >= MaxStreams:
		return nil, fmt.Errorf("channel: more than %d streams", MaxStreams)
	}
	s = m.newStream(m.ctx)
	m.last++
	s.id = m.last
	m.streams[s.id] = s
	m.ready <- s // has room for all that may be open
	m.startCovering()
	return s, nil
}

func (m *Mux) data(s *Stream, payload []byte) error {
	n := len(payload)
	if n > s.window || n > m.window {
		return fmt.Errorf("channel: %d bytes on stream %d without credit", n, s.id)
	}
	s.window -= n
	m.window -= n
	if s.dropped {
		m.owe(n)
		return nil
	}
	if s.want != nil { // it waits: nothing lies in the inbox
		s.got = copy(s.want, payload)
		s.want, payload = nil, payload[s.got:]
		s.taken(s.got)
	}
	s.in.add(payload)
	m.signal()
	return nil
}

func (m *Mux) grant(credit *int, n, limit int) error {
	if n > limit-*credit {
		return fmt.Errorf("channel: credit of %d bytes beyond the window", n)
	}
	*credit += n
	m.signal()
	return nil
}

// owe notes that n bytes are no longer held here, and sees to it that the peer learns of it; m.mu is held.
func (m *Mux) owe(n int) {
	m.owed += n
	if m.owed >= SessionWindow/2 {
		m.startGranting()
	}
}

func (m *Mux) startGranting() {
	if !m.granting {
		m.granting = true
		go m.sendGrants()
	}
}

// sendGrants sends Window records until none is due. It is a goroutine of its own, so that neither the
// reader of the session nor the reader of a stream waits for the peer.
func (m *Mux) sendGrants() {
	for {
		m.mu.Lock()
		r := Record{Type: Window}
		if m.owed >= SessionWindow/2 {
			r.Credit = uint32(m.owed)
			m.window += m.owed
			m.owed = 0
		} else {
			for _, s := range m.streams {
				if s.owed >= StreamWindow/2 && !s.peerEnded {
					r.Stream, r.Credit = s.id, uint32(s.owed)
					s.window += s.owed
					s.owed = 0
					break
				}
			}
		}
		if r.Credit == 0 || m.err != nil {
			m.granting = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		if m.send(r) != nil {
			return
		}
	}
}

// retire forgets a stream whose halves have both ended; m.mu is held.
func (m *Mux) retire(s *Stream) {
	if s.peerEnded && s.ended && m.streams[s.id] == s {
		delete(m.streams, s.id)
		m.restIdle()
		m.signal()
	}
}

// busy reports whether this side may still send on a stream; m.mu is held. One that it has given up, and the peer has not
// ended, takes nothing: the session is as good as without it.
func (m *Mux) busy() bool {
	for _, s := range m.streams {
		if !s.ended {
			return true
		}
	}
	return false
}

// restIdle begins to count a time without anything going on; m.mu is held.
func (m *Mux) restIdle() {
	if m.idle != nil && !m.busy() && m.err == nil {
		m.idle.Reset(m.opt.Idle)
	}
}

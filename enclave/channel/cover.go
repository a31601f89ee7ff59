package channel

import (
	"time"
)

// maxCover bounds the size of a covering record, in bytes of plaintext: full records go at once and show
// what they are in any case.
const maxCover = 4096

// cover sends PAD on each tick on which no stream has anything to send, as long as the last record of data,
// while a stream is open.
func (m *Mux) cover() {
	for {
		t := time.NewTimer(m.untilTick())
		select {
		case <-t.C:
		case <-m.ctx.Done():
			t.Stop()
			return
		}
		open, size := m.toCover()
		if !open {
			return
		}
		if size > 0 && m.send(Record{Type: Pad, Payload: make([]byte, size-recordHeader)}) != nil {
			return
		}
	}
}

// tick is the number of the last tick.
func (m *Mux) tick() int64 { return int64(m.conn.now().Sub(m.start) / m.opt.Tick) }

// sending notes what a stream shows to whoever watches; m.mu is held.
func (m *Mux) sending(r *Record) {
	if !m.covering {
		return
	}
	m.ticked = m.tick()
	if r.Type == Data {
		m.shape = min(plainSize(len(r.Payload)), maxCover)
	}
}

// startCovering is called when a stream has opened; m.mu is held.
func (m *Mux) startCovering() {
	if m.opt.Cover && m.opt.Tick > 0 && !m.covering {
		m.covering, m.ticked = true, m.tick()
		go m.cover()
	}
}

// toCover says whether a stream is open, and how long a record has to be at this tick, 0 where a stream
// sends one.
func (m *Mux) toCover() (open bool, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.busy() || m.err != nil {
		m.covering = false
		return false, 0
	}
	if m.ticked == m.tick() {
		return true, 0 // a stream was faster
	}
	for _, s := range m.streams {
		if !s.w.TryLock() {
			return true, 0 // somebody writes or sends
		}
		waits := len(s.w.buf) > 0
		s.w.Unlock()
		if waits {
			return true, 0
		}
	}
	return true, max(m.shape, bucket)
}

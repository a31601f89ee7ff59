package operate

import "tally/enclave"

// conferCounts are the sessions of Confer's wire, where the configuration asks for a listener.
type conferCounts struct {
	there               bool
	open, refused, keys int64
	ended, failed       map[string]int64 // reason
}

// ConferSession is the Observe of the listener of Confer's wire (package confer/listen).
func (m *Metrics) ConferSession(e enclave.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.confer
	c.there = true
	switch e.What {
	case enclave.NewKey:
		c.keys++
	case enclave.HandshakeFailed:
		inc(&c.failed, known(e.Reason, reasons))
	case enclave.SessionOpened:
		c.open++
	case enclave.SessionEnded:
		c.open--
		inc(&c.ended, known(e.Reason, reasons))
	case enclave.SessionRefused:
		c.refused++
	}
}

// write writes nothing where there is no listener.
func (c *conferCounts) write(p *page) {
	if !c.there {
		return
	}
	p.head("tally_confer_sessions_open", "gauge", "sessions of Confer's wire now")
	p.line("tally_confer_sessions_open", "", float64(c.open))
	p.counters("tally_confer_sessions_total", "end", "sessions of Confer's wire ended", c.ended)
	p.head("tally_confer_sessions_refused_total", "counter", "sessions of Confer's wire turned away")
	p.line("tally_confer_sessions_refused_total", "", float64(c.refused))
	p.counters("tally_confer_handshakes_failed_total", "reason", "handshakes of Confer's wire that made no session", c.failed)
	p.head("tally_confer_keys_total", "counter", "static keys of Confer's wire made and attested")
	p.line("tally_confer_keys_total", "", float64(c.keys))
}

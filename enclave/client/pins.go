package client

import (
	"maps"
	"sync"
	"time"

	"tally/enclave/channel"
	"tally/enclave/evidence"
)

// maxPins bounds a Pins: so many services, some 50 KiB each at most.
const maxPins = 64

// Pins keeps the evidence of services that were accepted, for reconnects in one round trip. It holds public
// data only, and a pinned enclave is appraised anew each time: a pin saves time, it never stands for
// trust. The zero value is empty and ready; a nil *Pins keeps nothing. It may be used from several
// goroutines.
type Pins struct {
	mu   sync.Mutex
	pins map[string]pinned // by authority
}

type pinned struct {
	pin      *channel.Pin
	notAfter time.Time // by the enclave's own word: a hint that asking is of no use
}

// get returns what is known of a service, nil when that is nothing or past its time.
func (p *Pins) get(authority string, now time.Time) *channel.Pin {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.pins[authority]
	if !ok {
		return nil
	}
	if !now.Before(k.notAfter) {
		delete(p.pins, authority)
		return nil
	}
	return k.pin
}

// keep remembers an accepted peer.
func (p *Pins) keep(authority string, peer channel.Peer) {
	if p == nil || len(peer.Payload) == 0 {
		return
	}
	doc, err := evidence.Parse(peer.Payload[1:])
	if err != nil || peer.Payload[0] != channel.InlineEvidence || doc.Claims.Static != peer.Static {
		return // of a form that this package does not know
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pins == nil {
		p.pins = map[string]pinned{}
	}
	if _, have := p.pins[authority]; !have && len(p.pins) >= maxPins {
		for one := range maps.Keys(p.pins) { // any: it costs one full handshake
			delete(p.pins, one)
			break
		}
	}
	p.pins[authority] = pinned{
		pin:      &channel.Pin{Static: peer.Static, EncapKey: doc.Claims.EncapKey, Payload: peer.Payload},
		notAfter: time.Unix(doc.Claims.NotAfter, 0),
	}
}

// forget drops what is known of a service.
func (p *Pins) forget(authority string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pins, authority)
}
